import Base
package import Logging
import MerkleDAG
package import Multiformats
package import Remotes
package import Serving
package import Volume

/// The tree of an origin as what is served, its blocks got from sources when somebody asks for them.
///
/// Nothing is on the disk: blocks of lately are kept in memory, up to `memoryBytesMax`. Of what a request names by CID only that is
/// given to which a block of the tree has led, so that a server is no way to get anything else by it; and nothing of uploads under
/// way (`TreeLinks`).
package final class SourcesContent: ServedContent {
    private struct State {
        var root: CID?
        var rootIsUntil: Int64 = 0
        var isLookingUp = false
        var blocks = BlockMemory(bytesMax: SourcesContent.memoryBytesMax)
        var links = TreeLinks()
        /// What is being got.
        var questions: [CID: Question] = [:]

        func isOfTree(_ key: CID) -> Bool { root?.asV1 == key || links.contains(key) }
    }

    /// A block that is being got; whoever wants the same waits for what becomes of it.
    private final class Question: Sendable {
        private let outcome = Monitor<Result<[UInt8], ServeFault>?>(nil)

        func finish(_ result: Result<[UInt8], ServeFault>) {
            outcome.withLock { $0 = result }
            outcome.wakeAll()
        }

        func wait() throws(ServeFault) -> [UInt8] {
            let result = outcome.withLock { outcome in
                while true {
                    if let result = outcome { return result }
                    self.outcome.wait(&outcome)
                }
            }
            return try result.get()
        }
    }

    private enum Step {
        case known([UInt8])
        case wait(Question)
        case ask(Question)
    }

    private let origin: OriginOptions
    private let sources: any RemoteBlocks
    private let log: Logger
    private let state = Monitor(State())
    private let ahead = WorkQueue<CID>()
    /// In milliseconds.
    private let clock: @Sendable () -> Int64
    /// The threads that wait for sources: what is in memory needs none of them.
    private let waits: RequestShare

    /// Of the blocks of lately, in bytes.
    fileprivate static let memoryBytesMax = 32 << 20
    private static let blockMilliseconds = 30_000
    private static let threadCount = 8
    /// What is to be got ahead.
    private static let aheadMax = 64
    /// How often a name is asked for where nobody says how long its answer holds, and the bounds of what somebody says.
    private static let lifetimeSeconds: ClosedRange<Double> = 5...3600
    private static let lifetimeSecondsDefault = 60.0

    /// Finds out the root. Blocks for the network where the origin is a name.
    ///
    /// - Parameters:
    ///   - waitsMax: how many requests wait for sources at a time, and how many for their turn.
    ///   - clock: by which a root grows old, in milliseconds.
    package init(
        origin: OriginOptions, sources: any RemoteBlocks, log: Logger,
        waitsMax: (Int, Int) = (32, 64),
        clock: @escaping @Sendable () -> Int64 = { MonotonicClock.milliseconds }
    ) throws(OriginError) {
        self.origin = origin
        self.sources = sources
        self.log = log
        self.clock = clock
        waits = RequestShare(
            runningMax: waitsMax.0, waitingMax: waitsMax.1, patienceMilliseconds: 1_000)
        note(try resolved(Cancellation()))
        for number in 0..<Self.threadCount {
            let queue = ahead
            let thread: Void? = try? Threads.startDetached(name: "ahead-\(number)") { [weak self] in
                while let cid = queue.take() { self?.get(ahead: cid) }
            }
            if thread == nil { break }
        }
    }

    deinit { ahead.stop() }

    package var tree: any ServedTree {
        renewRoot()
        guard let root = state.withLock({ $0.root }) else { return NoTree() }
        return DAGTree(root: root, in: self, scope: .tree)
    }

    /// Before the first root is known, which is before anybody asks.
    private struct NoTree: ServedTree {
        func entry(at path: [[UInt8]]) throws(ServeFault) -> ServedEntry? { nil }
        func names(at path: [[UInt8]]) throws(ServeFault) -> [ServedName]? { nil }
    }

    package func root() throws(ServeFault) -> CID {
        renewRoot()
        guard let root = state.withLock({ $0.root }) else { throw .unavailable }
        return root
    }

    package func block(
        _ cid: CID, scope: BlockScope, reach: BlockReach
    ) throws(ServeFault) -> BytesPlace {
        renewRoot()
        let key = cid.asV1
        let (kept, isOfTree, areLinksNoted) = state.withLock { state in
            (state.blocks[key], state.isOfTree(key), state.links.areLinksNoted(of: key))
        }
        guard scope == .any || isOfTree || cid.multihash.code == .identity else {
            throw .notFound
        }
        let bytes: [UInt8]
        if let kept {
            bytes = kept
        } else {
            guard reach == .everywhere else { throw .notFound }
            let end = MonotonicClock.milliseconds + Int64(Self.blockMilliseconds)
            bytes = try waits.run(until: end) { () throws(ServeFault) in try get(cid) }
        }
        // Of a block that was given long ago as well: what it links to is asked for now.
        if isOfTree, !areLinksNoted, cid.codec != .raw {
            state.withLock { $0.links.note(bytes, of: key) }
        }
        return .bytes(bytes)
    }

    /// Nothing lies here as a whole.
    package func wholeFile(_ cid: CID, scope: BlockScope) throws(ServeFault) -> BytesPlace? { nil }

    package func has(_ cid: CID, scope: BlockScope) throws(ServeFault) -> Bool {
        let key = cid.asV1
        return state.withLock { state in
            state.isOfTree(key) || scope == .any && state.blocks[key] != nil
        }
    }

    package func expect(_ cids: [CID]) {
        // A walk of the tree comes to them, however long ago the block was given that links to them.
        state.withLock { state in
            for cid in cids { state.links.expect(cid.asV1) }
        }
        guard ahead.count < Self.aheadMax else { return }
        for cid in cids.prefix(Self.aheadMax) {
            let isNew = state.withLock { state in
                state.blocks[cid] == nil && state.questions[cid.asV1] == nil
                    && !state.links.isBelowUploads(cid.asV1)
            }
            if isNew { ahead.add(cid) }
        }
    }

    private func get(ahead cid: CID) {
        let isKept = state.withLock { $0.blocks[cid] != nil }
        if !isKept { _ = try? get(cid) }
    }

    /// Gets a block; whoever asks for the same meanwhile gets the same, or fails with it.
    private func get(_ cid: CID) throws(ServeFault) -> [UInt8] {
        let key = cid.asV1
        let step: Step = state.withLock { state in
            if let kept = state.blocks[key] { return .known(kept) }
            if let question = state.questions[key] { return .wait(question) }
            let question = Question()
            state.questions[key] = question
            return .ask(question)
        }
        switch step {
        case .known(let bytes): return bytes
        case .wait(let question): return try question.wait()
        case .ask(let question):
            let outcome: Result<[UInt8], ServeFault>
            do throws(ServeFault) { outcome = .success(try ask(cid)) } catch {
                outcome = .failure(error)
            }
            state.withLock { state in
                state.questions[key] = nil
                if case .success(let bytes) = outcome { state.blocks.keep(bytes, key) }
            }
            question.finish(outcome)
            return try outcome.get()
        }
    }

    private func ask(_ cid: CID) throws(ServeFault) -> [UInt8] {
        var request = BlockRequest(cid, deadlineMilliseconds: Self.blockMilliseconds)
        request.asksPeers = true
        do throws(RemoteError) {
            return try sources.block(request, memory: nil)
        } catch {
            switch error.kind {
            case .notFound: throw .notFound
            case .timeout: throw .timedOut
            case .wrongBytes: throw .damaged(cid)
            default:
                log.warning("a block cannot be got: \(error)")
                throw .unavailable
            }
        }
    }

    // MARK: The root

    /// Looks the name up again once its answer is old; beside the reader, who gets the old root until then.
    private func renewRoot() {
        let now = clock()
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
        let cid: CID
        do throws(DAGReadError) {
            cid = try blocks.resolve(found.path, from: found.cid)
        } catch {
            throw OriginError("its path does not lead to a directory: \(ServeFault(error))")
        }
        let seconds = found.lifetimeSeconds ?? Self.lifetimeSecondsDefault
        return (
            cid, min(max(seconds, Self.lifetimeSeconds.lowerBound), Self.lifetimeSeconds.upperBound)
        )
    }

    private func note(_ found: (CID, seconds: Double)) {
        let until = clock() + Int64(found.seconds * 1000)
        let last = state.withLock { state in
            defer { (state.root, state.rootIsUntil) = (found.0, until) }
            return state.root
        }
        if last != found.0 { log.info("serving \(found.0)") }
    }
}
