import Base
import Foundation
import HTTPTypes
import MerkleDAG
import Multiformats
import Serving

/// The content of CAR files in memory, which notes what it is asked.
final class FixtureContent: ServedContent {
    /// What was asked, in order.
    struct Asked: Sendable {
        var blocks: [CID] = []
        var expected: [CID] = []
        var has: [CID] = []
    }

    private struct State {
        var blocks: [Multihash: [UInt8]] = [:]
        var missing: Set<Multihash> = []
        var outOfScope: Set<Multihash> = []
        var elsewhere: Set<Multihash> = []
        var fault: ServeFault?
        var asked = Asked()
    }

    private let state: Monitor<State>
    /// The root of the first archive.
    let firstRoot: CID
    /// The blocks of all archives in the order of the files.
    let sections: [CID]

    /// - Parameter names: of files in `Fixtures`, without `.car`.
    init(_ names: String...) throws {
        var state = State()
        var roots: [CID] = []
        var sections: [CID] = []
        for name in names {
            let archive = try Self.archive(try Self.fixture(name + ".car"))
            roots += archive.roots
            for (cid, block) in archive.sections {
                state.blocks[cid.multihash] = block
                sections.append(cid)
            }
        }
        self.state = Monitor(state)
        firstRoot = roots.first ?? CID.raw(sha256: [])
        self.sections = sections
    }

    static func fixture(_ name: String) throws -> [UInt8] {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        return Array(try Data(contentsOf: folder.appendingPathComponent("Fixtures/\(name)")))
    }

    /// Reads a CARv1; every block is checked.
    static func archive(
        _ bytes: [UInt8]
    ) throws -> (roots: [CID], sections: [(cid: CID, block: [UInt8])]) {
        var offset = 0
        var reader = try CARReader { buffer in
            let count = min(buffer.count, bytes.count - offset)
            buffer.copyBytes(from: bytes[offset..<offset + count])
            offset += count
            return count
        }
        var sections: [(cid: CID, block: [UInt8])] = []
        while let section = try reader.next() { sections.append((section.cid, section.block)) }
        return (reader.roots, sections)
    }

    var asked: Asked {
        get { state.withLock { $0.asked } }
        set { state.withLock { $0.asked = newValue } }
    }

    /// Nobody has it.
    func lose(_ cid: CID) { state.withLock { _ = $0.missing.insert(cid.multihash) } }
    /// It is here, and not of the tree.
    func hide(_ cid: CID) { state.withLock { _ = $0.outOfScope.insert(cid.multihash) } }
    /// It is with a source only.
    func moveAway(_ cid: CID) { state.withLock { _ = $0.elsewhere.insert(cid.multihash) } }
    /// Everything fails from now on.
    func fail(_ fault: ServeFault) { state.withLock { $0.fault = fault } }

    @discardableResult
    func put(_ block: [UInt8], _ codec: Multicodec = .raw) -> CID {
        let cid = CID(codec: codec, multihash: .sha256(of: block))
        state.withLock { $0.blocks[cid.multihash] = block }
        return cid
    }

    func put(_ node: DAGNode) -> CID { put(node.encoded(), .dagPB) }

    func stored(_ cid: CID) -> [UInt8]? { state.withLock { $0.blocks[cid.multihash] } }

    // MARK: ServedContent

    var tree: any ServedTree { DAGTree(root: firstRoot, in: self, scope: .tree) }

    func root() throws(ServeFault) -> CID { firstRoot }

    func block(_ cid: CID, scope: BlockScope, reach: BlockReach) throws(ServeFault) -> BytesPlace {
        try state.withLock { (state) throws(ServeFault) in
            state.asked.blocks.append(cid)
            return .bytes(try Self.find(cid, scope, reach, state))
        }
    }

    private static func find(
        _ cid: CID, _ scope: BlockScope, _ reach: BlockReach, _ state: State
    ) throws(ServeFault) -> [UInt8] {
        if let fault = state.fault { throw fault }
        let hash = cid.multihash
        guard let block = state.blocks[hash], !state.missing.contains(hash),
            scope == .any || !state.outOfScope.contains(hash),
            reach == .everywhere || !state.elsewhere.contains(hash)
        else { throw .notFound }
        return block
    }

    func wholeFile(_ cid: CID, scope: BlockScope) throws(ServeFault) -> BytesPlace? { nil }

    func has(_ cid: CID, scope: BlockScope) throws(ServeFault) -> Bool {
        try state.withLock { (state) throws(ServeFault) in
            state.asked.has.append(cid)
            do throws(ServeFault) {
                _ = try Self.find(cid, scope, .here, state)
                return true
            } catch {
                if error == .notFound { return false }
                throw error
            }
        }
    }

    func expect(_ cids: [CID]) { state.withLock { $0.asked.expected += cids } }
}

/// A target that is no target.
struct BadTarget: Error {}

extension RequestHandler {
    /// Asks for something.
    func ask(
        _ target: String, _ fields: HTTPFields = [:], method: HTTPRequest.Method = .get
    ) throws -> ServeResponse {
        guard let request = ServeRequest(method: method, target: target, fields: fields) else {
            throw BadTarget()
        }
        return respond(to: request)
    }
}

extension ServeResponse {
    /// The body, pulled to its end.
    func bytes() throws -> [UInt8] {
        switch body {
        case .none: return []
        case .pieces(let pieces): return try pieces.flatMap { try $0.read() }
        case .producer(let producer, _):
            var bytes: [UInt8] = []
            while let piece = try producer.next() {
                let read = try piece.read()
                // An empty piece would end a chunked answer.
                guard !read.isEmpty else { throw BadTarget() }
                bytes += read
            }
            return bytes
        }
    }

    /// The sections of the CAR that it is, each checked, as texts.
    func blocks() throws -> [String] {
        try FixtureContent.archive(try bytes()).sections.map { "\($0.cid)" }
    }

    func text() throws -> String { String(decoding: try bytes(), as: UTF8.self) }

    /// The value of a field.
    func field(_ name: String) -> String? { HTTPField.Name(name).flatMap { fields[$0] } }
}

/// The CIDs of the fixtures.
enum Known {
    static let ascii = "bafkreifkam6ns4aoolg3wedr4uzrs3kvq66p4pecirz6y2vlrngla62mxm"
    static let hello = "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"
    static let multiblock = "bafybeigcisqd7m5nf3qmuvjdbakl5bdnh4ocrmacaqkpuh77qjvggmt2sa"
    /// Its leaves: four of 256 bytes, and one of 2.
    static let leaves = [
        "bafkreie5noke3mb7hqxukzcy73nl23k6lxszxi5w3dtmuwz62wnvkpsscm",
        "bafkreih4ephajybraj6wnxsbwjwa77fukurtpl7oj7t7pfq545duhot7cq",
        "bafkreigu7buvm3cfunb35766dn7tmqyh2um62zcio63en2btvxuybgcpue",
        "bafkreicll3huefkc3qnrzeony7zcfo7cr3nbx64hnxrqzsixpceg332fhe",
        "bafkreifst3pqztuvj57lycamoi7z34b4emf7gawxs74nwrc2c7jncmpaqm",
    ]

    static let singleRoot = "bafybeietjm63oynimmv5yyqay33nui4y4wx6u3peezwetxgiwvfmelutzu"
    static let singleSubdir = "bafybeiggghzz6dlue3m6nb2dttnbrygxh3lrjl5764f2m4gq7dgzdt55o4"
    static let mixedRoot = "bafybeidh6k2vzukelqtrjsmd4p52cpmltd2ufqrdtdg6yigi73in672fwu"
    static let mixedSubdir = "bafybeicnmple4ehlz3ostv2sbojz3zhh5q7tz5r2qkfdpqfilgggeen7xm"
    static let hamtRoot = "bafybeidbclfqleg2uojchspzd4bob56dqetqjsj27gy2cq3klkkgxtpn4i"
    static let documentRoot = "bafybeia264q44a3kmfc2otctzu4egp2k235o3t7mslz2yjraymp4nv6asi"
    static let document = "bafyreidy4q6mmetut5jzc54ambsfnatbyoujmwbfzyyolqw24majazwgha"
    static let duplicates = "bafybeihchr7vmgjaasntayyatmp5sv6xza57iy2h4xj7g46bpjij6yhrmy"
    static let rawRoot = "bafybeie72edlprgtlwwctzljf6gkn2wnlrddqjbkxo3jomh4n7omwblxly"
    static let rawDir = "bafybeifaqksygmsbnqe76kwvxoqxtkzcwssq5jkhuo65ldtqiunr3bxlra"
    static let rawAscii = "bafkreihhpc5y2pqvl5rbe5uuyhqjouybfs3rvlmisccgzue2kkt5zq6upq"
    static let missingRoot = "QmYhmPjhFjYFyaoiuNzYv8WGavpSRDwdHWe5B4M5du5Rtk"
}
