import Base
import Foundation
import HTTPTypes
import MerkleDAG
import Multiformats
import Serving

/// Blocks in memory, of archives and made here, which note what they are asked for.
final class PathContent: ServedContent {
    private struct State {
        var blocks: [Multihash: [UInt8]] = [:]
        /// What only a source of the volume has.
        var elsewhere: Set<Multihash> = []
        var asked: [CID] = []
    }

    private let state = Monitor(State())

    /// - Parameter fixtures: names of archives in `Fixtures`, without `.car`.
    init(_ fixtures: String...) throws {
        for name in fixtures {
            let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            let bytes = Array(
                try Data(contentsOf: folder.appendingPathComponent("Fixtures/\(name).car")))
            var offset = 0
            var reader = try CARReader { buffer in
                let count = min(buffer.count, bytes.count - offset)
                buffer.copyBytes(from: bytes[offset..<offset + count])
                offset += count
                return count
            }
            while let section = try reader.next() {
                state.withLock { $0.blocks[section.cid.multihash] = section.block }
            }
        }
    }

    /// What was asked for, in order.
    var asked: [CID] { state.withLock { $0.asked } }

    func forgetAsked() { state.withLock { $0.asked = [] } }

    func moveAway(_ cid: CID) { state.withLock { _ = $0.elsewhere.insert(cid.multihash) } }

    func lose(_ cid: CID) { state.withLock { $0.blocks[cid.multihash] = nil } }

    func put(_ cid: CID, _ block: [UInt8]) {
        state.withLock { $0.blocks[cid.multihash] = block }
    }

    // MARK: Making trees

    static let profile = ImportProfile(
        chunkSize: 1024, fileLinksMax: 174, rawLeaves: true, cidVersion: 1,
        directoryEstimation: .links)

    func file(_ content: [UInt8]) -> CID {
        var rest = content[...]
        return Self.profile.importFile(
            read: { buffer in
                let count = min(buffer.count, rest.count)
                buffer.copyBytes(from: rest.prefix(count))
                rest = rest.dropFirst(count)
                return count
            }, emit: { (cid, block) throws(Never) in self.put(cid, block) }
        ).cid
    }

    func file(_ content: String) -> CID { file(Array(content.utf8)) }

    func symlink(_ target: String) -> CID {
        let (root, block) = Self.profile.symlink(target: Array(target.utf8))
        put(root.cid, block)
        return root.cid
    }

    func directory(_ entries: [(name: [UInt8], cid: CID)], profile: ImportProfile = profile) throws
        -> CID
    {
        var builder = DirectoryBuilder(profile: profile)
        for (name, cid) in entries { builder.add(name: name, cid: cid, treeSize: 1234) }
        return try builder.finish { (cid, block) throws(Never) in self.put(cid, block) }.cid
    }

    func directory(_ entries: KeyValuePairs<String, CID>) throws -> CID {
        try directory(entries.map { (Array($0.key.utf8), $0.value) })
    }

    // MARK: ServedContent

    var tree: any ServedTree { DAGTree(root: CID.raw(sha256: []), in: self, scope: .tree) }

    func root() throws(ServeFault) -> CID { CID.raw(sha256: []) }

    func block(_ cid: CID, scope: BlockScope, reach: BlockReach) throws(ServeFault) -> BytesPlace {
        let block: [UInt8]? = state.withLock { state in
            state.asked.append(cid)
            guard reach == .everywhere || !state.elsewhere.contains(cid.multihash) else {
                return nil
            }
            return state.blocks[cid.multihash]
        }
        guard let block else { throw .notFound }
        return .bytes(block)
    }

    func wholeFile(_ cid: CID, scope: BlockScope) throws(ServeFault) -> BytesPlace? { nil }

    func has(_ cid: CID, scope: BlockScope) throws(ServeFault) -> Bool {
        state.withLock { $0.blocks[cid.multihash] != nil }
    }
}

/// Answers as if it was the trustless gateway.
struct TrustlessStub: RequestHandler {
    func respond(to request: ServeRequest) -> ServeResponse { ServeResponse(299) }
}

/// A name that leads somewhere.
struct NameStub: NameLookup {
    var target: NameTarget

    func root(of name: String) throws(ServeFault) -> NameTarget? {
        name == "example.org" ? target : nil
    }
}

/// An answer with its body, pulled to its end.
struct PathAnswer {
    var response: ServeResponse
    var bytes: [UInt8]

    var status: Int { response.status }
    var text: String { String(decoding: bytes, as: UTF8.self) }

    subscript(_ name: String) -> String? { HTTPField.Name(name).flatMap { response.fields[$0] } }
}

/// Why a test cannot go on.
struct PathTestFailure: Error {
    var reason: String
}

extension PathAnswer {
    init(_ response: ServeResponse) throws {
        self.response = response
        switch response.body {
        case .none: bytes = []
        case .pieces(let pieces): bytes = try pieces.flatMap { try $0.read() }
        case .producer(let producer, _):
            bytes = []
            while let piece = try producer.next() {
                guard piece.count > 0 else { throw PathTestFailure(reason: "an empty piece") }
                bytes += try piece.read()
            }
        }
    }
}

/// A path gateway over some content.
struct PathStand {
    var content: PathContent
    var gateway: PathGateway

    init(_ content: PathContent, name: NameTarget? = nil, redirects: Bool = false) {
        self.content = content
        gateway = PathGateway(
            content: content, scope: .tree, names: name.map { NameStub(target: $0) },
            trustless: TrustlessStub(), redirects: redirects)
    }

    /// - Parameter fields: by name.
    func ask(
        _ target: String, _ fields: KeyValuePairs<String, String> = [:],
        method: HTTPRequest.Method = .get
    ) throws -> PathAnswer {
        var all = HTTPFields()
        for (name, value) in fields {
            guard let name = HTTPField.Name(name) else {
                throw PathTestFailure(reason: "\(name) is no name of a field")
            }
            all[name] = value
        }
        guard let request = ServeRequest(method: method, target: target, fields: all) else {
            throw PathTestFailure(reason: "\(target) is no target")
        }
        return try PathAnswer(gateway.respond(to: request))
    }
}
