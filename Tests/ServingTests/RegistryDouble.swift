import Base
import HTTPTypes
import MerkleDAG
import Multiformats
import Serving

/// A tree in memory that is laid out as the stock registry lays out its directory, and counts what it is asked.
final class RegistryDouble: ServedContent, ServedTree {
    struct State {
        var files: [String: [UInt8]] = [:]
        var children: [String: Set<String>] = ["": []]
        /// Files whose content is known by another CID than that of a raw leaf.
        var cids: [String: CID] = [:]
        var contents: [CID: [UInt8]] = [:]
        var blocks: [CID: [UInt8]] = [:]
        /// What is thrown for a path that has a text in it, or for a CID's text.
        var faults: [String: ServeFault] = [:]
        var calls: [String] = []
    }

    static let base = "docker/registry/v2"

    let state = Monitor(State())

    // MARK: Content

    var tree: any ServedTree { self }

    func root() throws(ServeFault) -> CID { throw .notFound }

    func block(
        _ cid: CID, scope: BlockScope, reach: BlockReach
    ) throws(ServeFault) -> BytesPlace {
        try note("block \(cid)")
        guard let block = state.withLock({ $0.blocks[cid] }) else { throw .notFound }
        return .bytes(block)
    }

    func wholeFile(_ cid: CID, scope: BlockScope) throws(ServeFault) -> BytesPlace? {
        try note("whole \(cid)")
        return state.withLock { $0.contents[cid] }.map { .bytes($0) }
    }

    func has(_ cid: CID, scope: BlockScope) throws(ServeFault) -> Bool { false }

    func entry(at path: [[UInt8]]) throws(ServeFault) -> ServedEntry? {
        let path = Self.text(path)
        try note("entry \(path)")
        return state.withLock { state in
            if let bytes = state.files[path] {
                return .file(state.cids[path] ?? .raw(sha256: bytes), size: UInt64(bytes.count))
            }
            return state.children[path] == nil ? nil : .directory
        }
    }

    func names(at path: [[UInt8]]) throws(ServeFault) -> [ServedName]? {
        let path = Self.text(path)
        try note("names \(path)")
        return state.withLock { state in
            state.children[path]?.map {
                let isFile = state.files[path.isEmpty ? $0 : "\(path)/\($0)"] != nil
                return ServedName(name: Array($0.utf8), mayBeDirectory: !isFile)
            }.sorted { $0.name.lexicographicallyPrecedes($1.name) }
        }
    }

    private func note(_ call: String) throws(ServeFault) {
        let fault = state.withLock { state in
            state.calls.append(call)
            return state.faults.first { call.contains($0.key) }?.value
        }
        if let fault { throw fault }
    }

    private static func text(_ path: [[UInt8]]) -> String {
        path.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/")
    }

    /// What was asked since the last time that somebody looked.
    func takeCalls() -> [String] {
        state.withLock { state in
            defer { state.calls = [] }
            return state.calls
        }
    }

    func fail(_ part: String, _ fault: ServeFault?) {
        state.withLock { $0.faults[part] = fault }
    }

    // MARK: Files

    func makeDirectory(_ path: String) {
        state.withLock { Self.makeDirectory(path, &$0) }
    }

    private static func makeDirectory(_ path: String, _ state: inout State) {
        guard state.children[path] == nil else { return }
        state.children[path] = []
        let names = path.split(separator: "/")
        let parent = names.dropLast().joined(separator: "/")
        makeDirectory(parent, &state)
        state.children[parent]?.insert(String(names.last ?? ""))
    }

    /// - Parameter cid: of the content; that of a raw leaf where nobody says so.
    func write(_ bytes: [UInt8], to path: String, cid: CID? = nil) {
        state.withLock { state in
            let names = path.split(separator: "/")
            let parent = names.dropLast().joined(separator: "/")
            Self.makeDirectory(parent, &state)
            state.children[parent]?.insert(String(names.last ?? ""))
            state.files[path] = bytes
            state.cids[path] = cid
            state.contents[cid ?? .raw(sha256: bytes)] = bytes
        }
    }

    /// Takes a file or an empty directory away; the directory that it was in stays.
    func remove(_ path: String) {
        state.withLock { state in
            state.files[path] = nil
            state.cids[path] = nil
            state.children[path] = nil
            let names = path.split(separator: "/")
            state.children[names.dropLast().joined(separator: "/")]?
                .remove(String(names.last ?? ""))
        }
    }

    // MARK: A registry

    static func digest(_ bytes: [UInt8]) -> String {
        "sha256:" + hex(Multihash.sha256(of: bytes).digest)
    }

    static func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// `sha256/HEX`
    static func path(_ digest: String) -> String {
        digest.split(separator: ":").joined(separator: "/")
    }

    static func dataPath(_ digest: String, base: String = RegistryDouble.base) -> String {
        let parts = digest.split(separator: ":")
        return prefixed(base, "blobs/\(parts[0])/\(parts[1].prefix(2))/\(parts[1])/data")
    }

    static func manifestPath(
        _ repository: String, _ digest: String, base: String = RegistryDouble.base
    ) -> String {
        prefixed(base, "repositories/\(repository)/_manifests/revisions/\(path(digest))/link")
    }

    static func tagPath(
        _ repository: String, _ tag: String, base: String = RegistryDouble.base
    ) -> String {
        prefixed(base, "repositories/\(repository)/_manifests/tags/\(tag)/current/link")
    }

    static func blobPath(
        _ repository: String, _ digest: String, base: String = RegistryDouble.base
    ) -> String {
        prefixed(base, "repositories/\(repository)/_layers/\(path(digest))/link")
    }

    private static func prefixed(_ base: String, _ path: String) -> String {
        base.isEmpty ? path : "\(base)/\(path)"
    }

    @discardableResult
    func pushBlob(
        _ repository: String, _ bytes: [UInt8], digest: String? = nil, cid: CID? = nil,
        base: String = RegistryDouble.base
    ) -> String {
        let digest = digest ?? Self.digest(bytes)
        write(bytes, to: Self.dataPath(digest, base: base), cid: cid)
        write(
            Array(digest.utf8), to: Self.blobPath(repository, digest, base: base))
        return digest
    }

    @discardableResult
    func push(
        _ repository: String, _ manifest: String, tag: String? = nil, digest: String? = nil,
        base: String = RegistryDouble.base
    ) -> String {
        let bytes = Array(manifest.utf8)
        let digest = digest ?? Self.digest(bytes)
        write(bytes, to: Self.dataPath(digest, base: base))
        write(Array(digest.utf8), to: Self.manifestPath(repository, digest, base: base))
        if let tag { self.tag(repository, tag, digest, base: base) }
        return digest
    }

    func tag(
        _ repository: String, _ tag: String, _ digest: String, base: String = RegistryDouble.base
    ) {
        write(Array(digest.utf8), to: Self.tagPath(repository, tag, base: base))
    }

    // MARK: As a DAG

    /// Makes the DAG of all there is, so that it can be served by its root.
    func seal() throws -> CID {
        let (files, children) = state.withLock { ($0.files, $0.children) }
        var blocks: [CID: [UInt8]] = [:]
        func seal(_ path: String) throws -> DAGRoot {
            if let bytes = files[path] {
                var offset = 0
                return ImportProfile.unixfsV1_2025.importFile { (buffer) throws(Never) -> Int in
                    let count = min(buffer.count, bytes.count - offset)
                    buffer.copyBytes(from: bytes[offset..<offset + count])
                    offset += count
                    return count
                } emit: { (cid, block) throws(Never) in
                    blocks[cid] = block
                }
            }
            var builder = DirectoryBuilder(profile: .unixfsV1_2025)
            for name in children[path] ?? [] {
                let made = try seal(path.isEmpty ? name : "\(path)/\(name)")
                builder.add(name: Array(name.utf8), cid: made.cid, treeSize: made.treeSize)
            }
            return try builder.finish { (cid, block) throws(Never) in blocks[cid] = block }
        }
        let root = try seal("").cid
        state.withLock { $0.blocks.merge(blocks) { first, _ in first } }
        return root
    }
}

/// A registry over a tree, asked as clients ask it.
struct RegistryStand {
    let double = RegistryDouble()
    let registry: RegistryAPI
    let lines = Monitor<[String]>([])

    init(
        directory: [[UInt8]] = RegistryAPI.directoryDefault,
        limits: RegistryLimits = RegistryLimits()
    ) {
        let lines = lines
        registry = RegistryAPI(
            content: double, scope: .tree, directory: directory, limits: limits
        ) { line in
            lines.withLock { $0.append(line) }
        }
    }

    /// What was logged.
    var logged: [String] { lines.withLock { $0 } }

    func ask(
        _ target: String, method: HTTPRequest.Method = .get, _ fields: [(String, String)] = []
    ) throws -> RegistryAnswer {
        try RegistryStand.ask(registry, target, method: method, fields)
    }

    static func ask(
        _ registry: RegistryAPI, _ target: String, method: HTTPRequest.Method = .get,
        _ fields: [(String, String)] = []
    ) throws -> RegistryAnswer {
        var all = HTTPFields()
        for (name, value) in fields {
            guard let name = HTTPField.Name(name) else { throw RegistryStandError.badField(name) }
            all[name] = value
        }
        guard let request = ServeRequest(method: method, target: target, fields: all) else {
            throw RegistryStandError.badTarget(target)
        }
        let response = registry.respond(to: request)
        var answer = RegistryAnswer(
            status: response.status, fields: response.fields, count: response.body.count)
        // Of HEAD a server sends nothing.
        if method != .head { answer.bytes = try bytes(of: response.body) }
        return answer
    }

    static func bytes(of body: ServeBody) throws -> [UInt8] {
        switch body {
        case .none: return []
        case .pieces(let pieces): return try pieces.flatMap { try $0.read() }
        case .producer(let producer, _):
            var bytes: [UInt8] = []
            while let piece = try producer.next() { bytes += try piece.read() }
            return bytes
        }
    }

    /// All names of a list, by following Link; and how many pages there were.
    func follow(_ target: String, _ member: String) throws -> (names: [String], pages: Int) {
        var names: [String] = []
        var next: String? = target
        var pages = 0
        while let target = next {
            pages += 1
            guard pages < 10_000 else { throw RegistryStandError.endless(target) }
            let answer = try ask(target)
            guard answer.status == 200 else { throw RegistryStandError.refused(answer.text) }
            names += try answer.list(member)
            next = try answer.next
        }
        return (names, pages)
    }
}

enum RegistryStandError: Error {
    case badField(String)
    case badTarget(String)
    case badLink(String)
    case badList(String)
    case endless(String)
    case refused(String)
}

/// What was answered, with its body.
struct RegistryAnswer {
    var status: Int
    var fields: HTTPFields
    /// What Content-Length would be.
    var count: UInt64?
    var bytes: [UInt8] = []

    var text: String { String(decoding: bytes, as: UTF8.self) }

    subscript(_ name: String) -> String? { HTTPField.Name(name).flatMap { fields[$0] } }

    /// The code of an OCI error body, whose shape is looked at.
    var code: String? {
        let begin = "{\"errors\":[{\"code\":\""
        guard text.hasPrefix(begin), text.hasSuffix("}]}"), text.contains("\"message\":\""),
            self["Content-Type"] == "application/json"
        else { return nil }
        return String(text.dropFirst(begin.count).prefix { $0 != "\"" })
    }

    /// A list of names, which have no quotes in them here.
    func list(_ member: String) throws -> [String] {
        guard let start = text.firstRange(of: "\"\(member)\":["),
            let end = text[start.upperBound...].firstIndex(of: "]")
        else { throw RegistryStandError.badList(text) }
        return text[start.upperBound..<end].split(separator: ",").map {
            String($0.dropFirst().dropLast())
        }
    }

    /// Where Link leads to.
    var next: String? {
        get throws {
            guard let link = self["Link"] else { return nil }
            guard link.hasPrefix("</v2/"), link.hasSuffix(">; rel=\"next\"") else {
                throw RegistryStandError.badLink(link)
            }
            return String(link.dropFirst().prefix { $0 != ">" })
        }
    }
}

/// Random numbers that are the same for the same seed.
struct RegistrySeeded: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}
