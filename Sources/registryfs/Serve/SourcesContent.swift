import Base
import Logging
import MerkleDAG
import Multiformats
import Remotes
import Serving
import Volume

/// The tree of an origin as what is served, its blocks got from sources when somebody asks for them.
///
/// Nothing is on the disk: blocks of lately are kept in memory, up to `memoryBytesMax`. Of what a request names by CID only that is
/// given to which a block of the tree has led, so that a server is no way to get anything else by it.
final class SourcesContent: ServedContent {
    private struct State {
        var root: CID?
        var rootIsUntil: Int64 = 0
        var isLookingUp = false
        /// Blocks by CID in version 1; two generations.
        var newer: [CID: [UInt8]] = [:]
        var older: [CID: [UInt8]] = [:]
        var newerBytes = 0
        /// What the blocks of each generation link to: known as long as the block is, for who goes down from it.
        var newerLinks: Set<CID> = []
        var olderLinks: Set<CID> = []
        var isWanted: Set<CID> = []
        /// Why blocks could not be got, and when.
        var failures = Recent<CID, (fault: ServeFault, time: Int64)>(countMax: 256)

        /// Whether something may be given by its CID.
        func isOfTree(_ key: CID) -> Bool {
            root?.asV1 == key || newerLinks.contains(key) || olderLinks.contains(key)
        }
    }

    private let origin: OriginOptions
    private let sources: any RemoteBlocks
    private let log: Logger
    private let state = Monitor(State())
    private let ahead = WorkQueue<CID>()

    /// Of the blocks of lately, in bytes.
    private static let memoryBytesMax = 32 << 20
    /// Of what the blocks of one generation link to: some 100 bytes each.
    private static let linksMax = 1 << 17
    private static let blockMilliseconds = 30_000
    private static let threadCount = 8
    /// What is to be got ahead.
    private static let aheadMax = 64
    /// How often a name is asked for where nobody says how long its answer holds, and the bounds of what somebody says.
    private static let lifetimeSeconds: ClosedRange<Double> = 5...3600
    private static let lifetimeSecondsDefault = 60.0

    /// Finds out the root. Blocks for the network where the origin is a name.
    init(origin: OriginOptions, sources: any RemoteBlocks, log: Logger) throws(Failure) {
        self.origin = origin
        self.sources = sources
        self.log = log
        do throws(OriginError) {
            note(try resolved(Cancellation()))
        } catch {
            throw Failure("\(RawText.shown(origin.reference)): \(error.description)")
        }
        for number in 0..<Self.threadCount {
            let queue = ahead
            let thread: Void? = try? Threads.startDetached(name: "ahead-\(number)") { [weak self] in
                while let cid = queue.take() { self?.get(ahead: cid) }
            }
            if thread == nil { break }
        }
    }

    deinit { ahead.stop() }

    var tree: any ServedTree {
        renewRoot()
        guard let root = state.withLock({ $0.root }) else { return NoTree() }
        return DAGTree(root: root, in: self, scope: .tree)
    }

    /// Before the first root is known, which is before anybody asks.
    private struct NoTree: ServedTree {
        func entry(at path: [[UInt8]]) throws(ServeFault) -> ServedEntry? { nil }
        func names(at path: [[UInt8]]) throws(ServeFault) -> [ServedName]? { nil }
    }

    func root() throws(ServeFault) -> CID {
        renewRoot()
        guard let root = state.withLock({ $0.root }) else { throw .unavailable }
        return root
    }

    func block(
        _ cid: CID, scope: BlockScope, reach: BlockReach
    ) throws(ServeFault) -> BytesPlace {
        renewRoot()
        let key = cid.asV1
        let (kept, isOfTree) = state.withLock { state in
            (
                state.newer[key] ?? state.older[key],
                state.isOfTree(key)
            )
        }
        guard scope == .any || isOfTree || cid.multihash.code == .identity else {
            throw .notFound
        }
        if let kept { return .bytes(kept) }
        guard reach == .everywhere else { throw .notFound }
        return .bytes(try get(cid))
    }

    /// Nothing lies here as a whole.
    func wholeFile(_ cid: CID, scope: BlockScope) throws(ServeFault) -> BytesPlace? { nil }

    func has(_ cid: CID, scope: BlockScope) throws(ServeFault) -> Bool {
        let key = cid.asV1
        return state.withLock { state in
            state.isOfTree(key) || state.newer[key] != nil || state.older[key] != nil
        }
    }

    func expect(_ cids: [CID]) {
        guard ahead.count < Self.aheadMax else { return }
        for cid in cids.prefix(Self.aheadMax) {
            let isNew = state.withLock { state in
                state.newer[cid.asV1] == nil && state.older[cid.asV1] == nil
                    && !state.isWanted.contains(cid.asV1)
            }
            if isNew { ahead.add(cid) }
        }
    }

    private func get(ahead cid: CID) {
        let isKept = state.withLock { $0.newer[cid.asV1] != nil || $0.older[cid.asV1] != nil }
        if !isKept { _ = try? get(cid) }
    }

    /// Gets a block; whoever asks for the same meanwhile waits for it, and has what came of it: else each of them would hold
    /// its thread for as long as nobody gives the block, one after the other.
    private func get(_ cid: CID) throws(ServeFault) -> [UInt8] {
        let key = cid.asV1
        let began = MonotonicClock.milliseconds
        let kept = try state.withLock { (state) throws(ServeFault) -> [UInt8]? in
            while state.isWanted.contains(key) { self.state.wait(&state) }
            if let kept = state.newer[key] ?? state.older[key] { return kept }
            if let failure = state.failures[key], failure.time >= began { throw failure.fault }
            state.isWanted.insert(key)
            return nil
        }
        if let kept { return kept }
        defer {
            state.withLock { state in _ = state.isWanted.remove(key) }
            state.wakeAll()
        }
        var request = BlockRequest(cid, deadlineMilliseconds: Self.blockMilliseconds)
        request.asksPeers = true
        do throws(RemoteError) {
            let bytes = try sources.block(request, memory: nil)
            let links = cid.linksOfBlock(bytes)
            state.withLock { Self.keep(bytes, links, key, &$0) }
            return bytes
        } catch {
            let fault: ServeFault
            switch error.kind {
            case .notFound: fault = .notFound
            case .timeout: fault = .timedOut
            case .wrongBytes: fault = .damaged(cid)
            default:
                log.warning("a block cannot be got: \(error)")
                fault = .unavailable
            }
            state.withLock { $0.failures.note(key, (fault, MonotonicClock.milliseconds)) }
            throw fault
        }
    }

    private static func keep(
        _ bytes: [UInt8], _ links: [CID], _ key: CID, _ state: inout State
    ) {
        guard state.newer[key] == nil else { return }
        if state.newerBytes + bytes.count > memoryBytesMax / 2
            || state.newerLinks.count + links.count > linksMax
        {
            (state.older, state.newer, state.newerBytes) = (state.newer, [:], 0)
            (state.olderLinks, state.newerLinks) = (state.newerLinks, [])
        }
        state.newer[key] = bytes
        state.newerBytes += bytes.count
        for link in links { state.newerLinks.insert(link.asV1) }
    }

    // MARK: The root

    /// Looks the name up again once its answer is old; beside the reader, who gets the old root until then.
    private func renewRoot() {
        let now = MonotonicClock.milliseconds
        let isDue = state.withLock { state in
            guard now >= state.rootIsUntil, !state.isLookingUp else { return false }
            state.isLookingUp = true
            return true
        }
        guard isDue else { return }
        let thread: Void? = try? Threads.startDetached(name: "origin") { [self] in
            do throws(OriginError) {
                note(try resolved(Cancellation()))
            } catch {
                log.warning(
                    "the origin cannot be looked up, its last root stays: \(error.description)",
                    metadata: ["origin": "\(RawText.shown(origin.reference))"])
                state.withLock { $0.rootIsUntil = now + Int64(Self.lifetimeSecondsDefault * 1000) }
            }
            state.withLock { $0.isLookingUp = false }
        }
        if thread == nil { state.withLock { $0.isLookingUp = false } }
    }

    /// The root of what the reference stands for, and for how long.
    private func resolved(
        _ cancellation: Cancellation
    ) throws(OriginError) -> (CID, seconds: Double) {
        let found = try origin.resolve(cancellation)
        let blocks = ClosureBlockSource { [self] (cid) throws(BlockUnavailable) in
            do throws(ServeFault) {
                return try get(cid)
            } catch {
                throw BlockUnavailable(cid, cause: error)
            }
        }
        var cid = found.cid
        do throws(DAGReadError) {
            for name in found.path {
                guard let entry = try DirectoryReader(root: cid, source: blocks).entry(name) else {
                    throw DAGReadError.noSuchEntry(cid, name: name)
                }
                cid = entry.cid
            }
        } catch {
            throw OriginError("its path does not lead to a directory: \(ServeFault(error))")
        }
        let seconds = found.lifetimeSeconds ?? Self.lifetimeSecondsDefault
        return (
            cid, min(max(seconds, Self.lifetimeSeconds.lowerBound), Self.lifetimeSeconds.upperBound)
        )
    }

    private func note(_ found: (CID, seconds: Double)) {
        let until = MonotonicClock.milliseconds + Int64(found.seconds * 1000)
        let last = state.withLock { state in
            defer { (state.root, state.rootIsUntil) = (found.0, until) }
            return state.root
        }
        if last != found.0 { log.info("serving \(found.0)") }
    }
}
