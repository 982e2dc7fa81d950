internal import Foundation
public import MerkleDAG
internal import Multiformats

/// The release that the double says it is; its recorded exchanges are replayed against it.
public let kuboDoubleVersion = "0.43.0-rc1"

/// A Kubo node for tests: the RPC with real semantics, and faults on purpose.
///
/// Listens as soon as it is made, on 127.0.0.1 unless told otherwise. It keeps what a real node keeps over a kill: blocks,
/// pins, and the MFS root as it was last flushed.
///
/// `@unchecked Sendable`: what changes is read and written with `lock` locked; `mfs` with `mfsLock`.
public final class DoubleNode: @unchecked Sendable {
    /// One of `API.Authorizations`.
    public struct Authorization: Sendable {
        /// `bearer:TOKEN` or `basic:USER:PASSWORD`.
        public var secret: String
        /// What the paths of requests must begin with.
        public var allowedPaths: [String]

        public init(secret: String, allowedPaths: [String] = ["/api/v0"]) {
            self.secret = secret
            self.allowedPaths = allowedPaths
        }

        /// The header that must come.
        var header: String {
            guard secret.hasPrefix("basic:") else {
                return "Bearer " + secret.drop { $0 != ":" }.dropFirst()
            }
            return "Basic " + Data(secret.dropFirst(6).utf8).base64EncodedString()
        }
    }

    /// How a node is made.
    public struct Options: Sendable {
        /// Where the RPC listens: an IPv4 address.
        public var host = "127.0.0.1"
        /// Its port there; 0 for any port that is free.
        public var port = 0
        /// Where the gateway listens on 127.0.0.1; 0 for any port that is free.
        public var gatewayPort = 0
        /// Where the RPC listens besides.
        public var unixPath: String?
        /// Where blocks and state lie; in memory if nil.
        public var storeDirectory: String?
        /// `API.Authorizations`; none lets everybody in.
        public var authorizations: [Authorization] = []
        /// As `ipfs daemon --offline`: nothing missing is waited for.
        public var isOffline = false
        /// `Import.*`: unless a call says otherwise.
        public var profile = ImportProfile.unixfsV1_2025
        /// How long an MFS operation waits for a block that is not here, in seconds.
        public var mfsFetchSeconds = 60.0

        public init() {}

        /// Why a profile is not set.
        public struct UnknownProfile: Error {
            public var name: String
        }

        /// Sets `profile` by its name.
        public mutating func setProfile(_ name: String) throws(UnknownProfile) {
            guard let known = ImportProfile(name: name) else { throw UnknownProfile(name: name) }
            profile = known
        }
    }

    let blocks: BlockStore
    let switches = Switches()
    let profile: ImportProfile
    let isOffline: Bool
    let mfsFetchSeconds: Double
    private let storeDirectory: String?
    private let lock = NSLock()
    private var authorizations: [Authorization]
    private var isEnded = false
    private var kept = KeptState()
    private var servers: [HTTPServer] = []
    private var control: HTTPServer?
    private var gateway: HTTPServer?
    /// The names of keys and their texts, `self` first.
    private var keyNames: [(name: String, id: String)] = []
    private var names: [String: String] = [:]
    /// Records of names, as they came.
    private var records: [String: [UInt8]] = [:]
    private let mfsLock = NSLock()
    private var mfs: MFSTree

    /// Makes a node that listens.
    ///
    /// - Throws: where an address is taken or the directory cannot be used.
    public init(_ options: Options = Options()) throws {
        profile = options.profile
        isOffline = options.isOffline
        mfsFetchSeconds = options.mfsFetchSeconds
        storeDirectory = options.storeDirectory
        authorizations = options.authorizations
        blocks = try BlockStore(directory: storeDirectory.map { $0 + "/blocks" })
        if let storeDirectory, let state = try KeptState(directory: storeDirectory) {
            kept = state
        } else {
            let empty = DAGNode(data: UnixFSData(kind: .directory).encoded()).encoded()
            let root = CID.dagPB(sha256: empty, version: options.profile.cidVersion)
            try blocks.put(root.multihash, empty)
            kept.root = root.description
            // A new repository pins the empty directory.
            kept.pins = [
                KeptPin(
                    cid: CID.dagPB(sha256: empty, version: 0).description, isRecursive: true,
                    name: "")
            ]
        }
        mfs = MFSTree(root: try CID(parsing: kept.root), blocks: blocks, profile: profile)
        keyNames = [("self", Identity.key)]
        connectMFS()
        let answer: @Sendable (Exchange) -> Void = { [weak self] exchange in
            guard let self else { return exchange.cut() }
            Dispatch.answer(exchange, self)
        }
        servers = [try HTTPServer(.port(options.port, host: options.host), answer: answer)]
        if let path = options.unixPath {
            servers.append(try HTTPServer(.unix(path), answer: answer))
        }
        control = try HTTPServer(.port(0), answer: answer)
        gateway = try HTTPServer(.port(options.gatewayPort)) { [weak self] exchange in
            guard let self else { return exchange.cut() }
            Gateway.answer(exchange, self)
        }
    }

    deinit { stop() }

    // MARK: Addresses

    /// The port of the RPC.
    public var port: Int { servers.first?.port ?? 0 }
    /// The RPC's address, as `http://127.0.0.1:PORT`.
    public var address: String { "http://127.0.0.1:\(port)" }
    /// The port of the gateway.
    public var gatewayPort: Int { gateway?.port ?? 0 }
    /// The port for `/double/…`, which is there also while connections are refused.
    public var controlPort: Int { control?.port ?? 0 }
    /// The gateway's address.
    public var gatewayAddress: String { "http://127.0.0.1:\(gatewayPort)" }
    /// Where `/double/…` is served also while connections are refused.
    public var controlAddress: String { "http://127.0.0.1:\(controlPort)" }

    // MARK: Faults

    /// Makes something go wrong from now on.
    public func add(_ fault: Fault) { switches.add(fault) }

    /// Ends every fault; what hangs is closed.
    public func clearFaults() throws {
        switches.clear()
        blocks.setFull(false)
        try setRefusing(false)
    }

    /// Whether blocks are refused with "no space left on device".
    public func setFull(_ isFull: Bool) { blocks.setFull(isFull) }

    /// Whether neither RPC nor gateway listen; connections that are there end.
    public func setRefusing(_ isRefusing: Bool) throws {
        for server in servers + [gateway].compactMap({ $0 }) {
            if isRefusing { server.refuse() } else { try server.listen() }
        }
    }

    /// What a kill and a start do: connections end, and MFS is as it was last flushed.
    public func restart() throws {
        for server in servers { server.refuse() }
        try reload()
        for server in servers { try server.listen() }
    }

    private func reload() throws {
        mfsLock.lock()
        defer { mfsLock.unlock() }
        // Of what the old tree's users still do, nothing is kept.
        mfs.publish = { _ in }
        mfs = MFSTree(
            root: try CID(parsing: locked { kept.root }), blocks: blocks, profile: profile)
        connectMFS()
    }

    /// Waits for running calls to lose their connections, and listens no more.
    public func stop() {
        guard
            !locked({
                let wasEnded = isEnded; isEnded = true; return wasEnded
            })
        else { return }
        for server in servers + [control, gateway].compactMap({ $0 }) { server.refuse() }
    }

    var isStopped: Bool { locked { isEnded } }

    // MARK: Statistics

    /// What was counted, by command (`block/put`).
    public var statistics: [String: CommandStatistics] { switches.statistics }

    /// Counts from zero again.
    public func resetStatistics() { switches.resetStatistics() }

    /// How many blocks there are.
    public var blockCount: Int { blocks.count }

    /// Changes one bit of a block where it lies, as a bad disk does.
    ///
    /// - Returns: false if there is no such block, or it is empty.
    public func corruptBlock(_ cid: String) -> Bool {
        guard let cid = try? CID(parsing: cid), var block = blocks.block(cid.multihash),
            !block.isEmpty
        else { return false }
        block[block.count / 2] ^= 0x01
        blocks.remove(cid.multihash)
        return (try? blocks.put(cid.multihash, block)) ?? false
    }

    /// Takes a block away.
    public func removeBlock(_ cid: String) {
        guard let cid = try? CID(parsing: cid) else { return }
        blocks.remove(cid.multihash)
    }

    // MARK: Authorization

    /// Sets `API.Authorizations`.
    public func setAuthorizations(_ authorizations: [Authorization]) {
        locked { self.authorizations = authorizations }
    }

    func isAllowed(path: String, header: String?) -> Bool {
        locked {
            authorizations.isEmpty
                || authorizations.contains { authorization in
                    authorization.header == header
                        && authorization.allowedPaths.contains { path.hasPrefix($0) }
                }
        }
    }

    // MARK: Pins

    var pins: [Pin] {
        locked {
            kept.pins.compactMap { pin in
                (try? CID(parsing: pin.cid)).map {
                    Pin(cid: $0, isRecursive: pin.isRecursive, name: pin.name)
                }
            }.sorted { $0.cid.bytes.lexicographicallyPrecedes($1.cid.bytes) }
        }
    }

    func pin(_ cid: CID) -> Pin? { pins.first { $0.cid == cid } }

    func setPin(_ pin: Pin) throws(Halt) {
        try change { state in
            state.pins.removeAll { $0.cid == pin.cid.description }
            state.pins.append(
                KeptPin(cid: pin.cid.description, isRecursive: pin.isRecursive, name: pin.name))
        }
    }

    func removePin(_ cid: CID) throws(Halt) {
        try change { state in state.pins.removeAll { $0.cid == cid.description } }
    }

    private func change(_ body: (inout KeptState) -> Void) throws(Halt) {
        lock.lock()
        defer { lock.unlock() }
        body(&kept)
        guard let storeDirectory else { return }
        do {
            try kept.write(directory: storeDirectory)
        } catch {
            throw .failed("\(error)")
        }
    }

    // MARK: Names

    var keys: [(name: String, id: String)] { locked { keyNames.map { $0 } } }

    func addKey(_ name: String, id: String) { locked { keyNames.append((name, id)) } }

    func setName(_ key: String, _ value: String) { locked { names[key] = value } }

    func name(_ key: String) -> String? { locked { names[key] } }
    func setRecord(_ name: String, _ record: [UInt8]) { locked { records[name] = record } }
    func record(_ name: String) -> [UInt8]? { locked { records[name] } }

    // MARK: MFS

    func withMFS<Result>(_ body: (MFSTree) throws(Halt) -> Result) throws(Halt) -> Result {
        mfsLock.lock()
        defer { mfsLock.unlock() }
        return try body(mfs)
    }

    private func connectMFS() {
        mfs.publish = { [unowned self] (root) throws(Halt) in
            try self.change { $0.root = root.description }
        }
    }

    private func locked<Result>(_ body: () -> Result) -> Result {
        lock.lock()
        defer { lock.unlock() }
        return body()
    }
}

struct Pin {
    var cid: CID
    var isRecursive: Bool
    var name: String

    var type: String { isRecursive ? "recursive" : "direct" }
}

struct KeptPin: Codable {
    var cid: String
    var isRecursive: Bool
    var name: String
}

/// What is kept over a kill, besides blocks.
struct KeptState: Codable {
    var root = ""
    var pins: [KeptPin] = []

    init() {}

    /// Nil if there is none in the directory yet.
    init?(directory: String) throws {
        let path = directory + "/state.json"
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        self = try JSONDecoder().decode(
            KeptState.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    }

    func write(directory: String) throws {
        try JSONEncoder().encode(self).write(
            to: URL(fileURLWithPath: directory + "/state.json"), options: .atomic)
    }
}

/// Who the double is: the node that was recorded.
enum Identity {
    static let peer = "12D3KooWRy9aTrGTvUgNkaCRD9uqNqU52N4SrTTayS7fSqTxajym"
    static let publicKey = "CAESIO/6+zp/f8ureppCe4u5IAQB3KzFxNSdYVk47c9m6r0c"
    static let key = "k51qzi5uqu5dm5wx47qk1jjb6kracp0y9c2thszrpk16uhrby7123moqcuety4"
    static let swarm = "/ip4/127.0.0.1/tcp/15341"
}
