public import Base
public import Multiformats

/// Several remotes behind one.
///
/// The best source is asked first, by its latency and how often it fails; files of this machine before all
/// others. Where it has not answered within the time that 19 of 20 of its requests take, a second one is asked
/// as well (a hedge), and the first block ends the other's request. A source that lacks a block, or fails, is
/// followed by the next at once. One that is not reached, does not answer or wants to be left alone rests for a
/// time (`SourceHealth`); one that gave other bytes than a CID's is not asked again, unless it is a file.
///
/// In the usual case all that happens, happens on the calling thread. Hedges have threads of one bounded pool.
/// No request goes on beyond its deadline, as far as the sources keep theirs.
public final class SourceSet: RemoteTrees {
    /// A remote, and what sort of place it is.
    public struct Source: Sendable {
        public var remote: any RemoteBlocks
        public var kind: SourceKind

        public init(_ remote: any RemoteBlocks, _ kind: SourceKind) {
            self.remote = remote
            self.kind = kind
        }
    }

    /// The bounds of a set. All times are in milliseconds.
    public struct Options: Sendable {
        /// How long a source is waited for at least, and at most, before another is asked as well.
        public var hedgeMilliseconds: ClosedRange<Int64> = 200...2_000
        /// How many sources are asked at once for one block, the first counted.
        public var parallelMax = 3
        /// The threads that hedges have, for all requests together.
        public var hedgeThreadsMax = 16
        /// How long a request waits, in all, for sources that rest because they failed. One that said when
        /// it wants to be asked again is waited for until the deadline.
        public var restMillisecondsMax: Int64 = 1_000
        /// Each so many requests, the source that was asked longest ago comes first, so that what is known of
        /// it stays true.
        public var exploresEvery = 32
        /// The time, in milliseconds, that goes forward. For tests; what waits, waits by the real one.
        public var clock: @Sendable () -> Int64 = { MonotonicClock.milliseconds }

        public init() {}
    }

    private struct State {
        var health: [SourceHealth]
        var requests = 0
    }

    private let sources: [Source]
    private let options: Options
    private let state: Monitor<State>
    private let hedger: Hedger

    /// Makes a set of one source or more, in the order in which they are tried first.
    public init(_ sources: [Source], options: Options = Options()) {
        precondition(!sources.isEmpty, "a set has a source")
        self.sources = sources
        self.options = options
        state = Monitor(State(health: sources.map { _ in SourceHealth() }))
        hedger = Hedger(threadsMax: options.hedgeThreadsMax)
    }

    /// The same with other sources; what is known of those that stay is kept. The requests of both are told apart: what
    /// is under way in this set goes on with its own sources.
    init(_ sources: [Source], after other: SourceSet) {
        precondition(!sources.isEmpty, "a set has a source")
        self.sources = sources
        options = other.options
        hedger = other.hedger
        let known = other.state.withLock { $0 }
        let places = Dictionary(
            other.sources.enumerated().map { ($1.remote.address, $0) }, uniquingKeysWith: { $1 })
        state = Monitor(
            State(
                health: sources.map { source in
                    places[source.remote.address].map { known.health[$0] } ?? SourceHealth()
                }, requests: known.requests))
    }

    /// Whether a source may be asked for a request at all.
    private func serves(_ index: Int, _ request: BlockRequest) -> Bool {
        sources[index].kind != .announced || request.announcedBy.isEmpty
            || request.announcedBy.contains(sources[index].remote.address)
    }

    public var address: String { sources.map(\.remote.address).joined(separator: ", ") }

    /// What is known of each source, in the order in which they were given. Asks none of them.
    public func status() -> [SourceStatus] {
        let now = options.clock()
        let health = state.withLock(\.health)
        return zip(sources, health).map { source, health in
            health.status(source.remote.address, source.kind, now: now)
        }
    }

    // MARK: Blocks

    /// - Throws: `notFound` where all that could be asked lack the block; without `asksPeers` also where one
    ///   does and the others failed, for it is to be looked for then. Else what failed, `timeout` before
    ///   others; `wrongBytes` where no source is left.
    public func block(
        _ request: BlockRequest, memory: ReplyMemory?
    ) throws(RemoteError) -> [UInt8] {
        try checkCancelled(request.cid, request.cancellation)
        if request.cid.multihash.code == .identity { return request.cid.multihash.digest }
        let race = SourceRace(
            request, deadline: options.clock() + Int64(max(0, request.deadlineMilliseconds)))
        let handler = request.cancellation?.onCancel { race.end() }
        defer { if let handler { request.cancellation?.remove(handler: handler) } }
        defer { race.end() }
        var rested: Int64 = 0
        var isFirst = true
        while true {
            try checkCancelled(request.cid, request.cancellation)
            if let attempt = race.begin(
                order(for: request, counts: isFirst), runningMax: options.parallelMax)
            {
                isFirst = false
                let arming = arm(race, behind: attempt.source)
                defer { if let arming { disarm(arming) } }
                if let block = perform(attempt, of: race, memory) { return block }
            } else if case let count = race.runningCount, count > 0 {
                race.wait(
                    milliseconds: max(1, race.deadline - options.clock()), whileRunning: count)
            } else if race.block == nil, !rest(race, &rested) {
                throw failure(of: race)
            }
            if let block = race.block { return block }
            try checkCancelled(request.cid, request.cancellation)
            guard options.clock() < race.deadline else { throw failure(of: race) }
        }
    }

    private func checkCancelled(
        _ cid: CID, _ cancellation: Cancellation?
    ) throws(RemoteError) {
        if cancellation?.isCancelled ?? false {
            throw RemoteError(.cancelled, "\(cid): cancelled (cancelled)")
        }
    }

    /// Asks a source, and notes what came of it.
    ///
    /// - Parameter isCallers: whether this is the thread that the block is for.
    /// - Returns: the block, if it gave it.
    private func perform(
        _ attempt: SourceRace.Attempt, of race: SourceRace, _ memory: ReplyMemory?,
        isCallers: Bool = true
    ) -> [UInt8]? {
        let began = options.clock()
        var request = race.request
        request.deadlineMilliseconds = Int(clamping: max(0, race.deadline - began))
        request.cancellation = attempt.cancellation
        let source = sources[attempt.source]
        do throws(RemoteError) {
            let block = try source.remote.block(request, memory: memory)
            note(attempt.source) {
                $0.noteBlock(byteCount: block.count, began: began, now: $1)
            }
            race.finish(attempt, with: isCallers ? nil : block)
            return block
        } catch {
            race.finish(
                attempt,
                outcome(
                    error, of: attempt.source, began: began, isSearch: race.request.asksPeers,
                    hasLost: attempt.isHedge ? false : race.winner.map { $0 != attempt.source }))
            return nil
        }
    }

    /// Notes that a source failed, and says what that means for the request.
    ///
    /// - Parameter hasLost: whether another one was faster; nil where it was ended by the caller.
    private func outcome(
        _ error: RemoteError, of index: Int, began: Int64, isSearch: Bool, hasLost: Bool?
    ) -> SourceRace.Outcome? {
        let excludes = sources[index].kind != .archive
        note(index) { (health, now) in
            switch error.kind {
            case .notFound: health.noteAbsence(now: now)
            case .cancelled:
                guard hasLost ?? false else { return }
                health.noteLoss(
                    began: began, now: now, isSearch: isSearch,
                    RemoteError(
                        .timeout, "\(sources[index].remote.address): others answer sooner (timeout)"
                    ))
            default:
                health.noteFailure(
                    error, began: began, now: now, isSearch: isSearch, excludes: excludes)
            }
        }
        switch error.kind {
        case .notFound: return .absent
        case .cancelled: return nil
        case .refused, .wrongBytes: return .final(error)
        case .timeout where isSearch: return .final(error)
        default: return .failed(error)
        }
    }

    private func note(_ index: Int, _ body: (inout SourceHealth, Int64) -> Void) {
        let now = options.clock()
        state.withLock { body(&$0.health[index], now) }
    }

    // MARK: Order

    /// The sources that may be asked now, the best first.
    ///
    /// - Parameter counts: whether this is a request of its own.
    private func order(for request: BlockRequest? = nil, counts: Bool) -> [Int] {
        let now = options.clock()
        return state.withLock { state in
            var usable = state.health.indices.filter { index in
                state.health[index].isUsable(at: now)
                    && (request.map { serves(index, $0) } ?? true)
            }
            guard usable.count > 1 else {
                if let only = usable.first { state.health[only].asked = now }
                return usable
            }
            usable.sort { one, other in
                let (left, right) = (sources[one].kind.tier, sources[other].kind.tier)
                guard left == right else { return left < right }
                let (better, worse) = (state.health[one].score, state.health[other].score)
                return better == worse ? one < other : better < worse
            }
            if counts {
                state.requests += 1
                if state.requests % options.exploresEvery == 0 {
                    explore(&usable, state.health)
                }
            }
            state.health[usable[0]].asked = now
            return usable
        }
    }

    /// Puts the source that was asked longest ago before the others that are no files.
    private func explore(_ usable: inout [Int], _ health: [SourceHealth]) {
        // What one named for his own blocks need not be asked for others'.
        let tier = SourceKind.gateway.tier
        guard let first = usable.firstIndex(where: { sources[$0].kind.tier == tier }),
            let oldest = usable[first...].indices.filter({ sources[usable[$0]].kind.tier == tier })
                .min(by: { health[usable[$0]].asked < health[usable[$1]].asked })
        else { return }
        usable.insert(usable.remove(at: oldest), at: first)
    }

    // MARK: Hedges

    /// How long a hedge that could not be made is put off, at least.
    private static let retryMilliseconds: Int64 = 10

    /// A ticket that is known only when what it is for may already be under way.
    private final class Arming: Sendable {
        let ticket = Monitor<Hedger.Ticket?>(nil)
    }

    private func arm(_ race: SourceRace, behind source: Int) -> Arming? {
        // A file answers at once, or its disk does not.
        guard sources.count > 1, sources[source].kind != .archive else { return nil }
        let arming = Arming()
        arm(race, behind: source, arming)
        return arming
    }

    private func arm(
        _ race: SourceRace, behind source: Int, _ arming: Arming, milliseconds least: Int64 = 0
    ) {
        let milliseconds = state.withLock {
            $0.health[source].hedgeMilliseconds(within: options.hedgeMilliseconds)
        }
        let ticket = hedger.arm(milliseconds: max(least, milliseconds)) { [weak self] in
            self?.hedge(race, behind: source, arming)
        }
        arming.ticket.withLock { $0 = ticket }
    }

    private func disarm(_ arming: Arming) {
        if let ticket = arming.ticket.withLock({ $0 }) { hedger.disarm(ticket) }
    }

    /// Asks a further source beside those that do not answer. On the thread that all alarms share.
    private func hedge(_ race: SourceRace, behind source: Int, _ arming: Arming) {
        guard !race.isOver else { return }
        guard
            let attempt = race.begin(
                order(for: race.request, counts: false), runningMax: options.parallelMax)
        else {
            // One that rests now may be there later, when those that run still do not answer.
            if !race.isOver {
                arm(race, behind: source, arming, milliseconds: Self.retryMilliseconds)
            }
            return
        }
        let isTaken = hedger.run { [self] in
            var attempt = attempt
            // One that lacks the block is followed by the next.
            while perform(attempt, of: race, nil, isCallers: false) == nil {
                guard
                    let next = race.begin(
                        order(for: race.request, counts: false), runningMax: options.parallelMax)
                else { return }
                attempt = next
            }
        }
        if isTaken {
            arm(race, behind: attempt.source, arming)
        } else {
            race.giveBack(attempt)
            arm(race, behind: source, arming, milliseconds: Self.retryMilliseconds)
        }
    }

    // MARK: Failures

    /// Waits for the source that may be asked soonest.
    ///
    /// - Parameter rested: how long the request has waited so because of failures.
    /// - Returns: false where there is none in time.
    private func rest(_ race: SourceRace, _ rested: inout Int64) -> Bool {
        let now = options.clock()
        let health = state.withLock(\.health)
        let resting = health.indices.filter {
            health[$0].exclusion == nil && serves($0, race.request) && race.mayAsk($0)
        }
        guard let next = resting.min(by: { health[$0].restsUntil < health[$1].restsUntil }) else {
            return false
        }
        let wait = health[next].restsUntil - now
        // It ended meanwhile.
        guard wait > 0 else { return true }
        guard now + wait < race.deadline else { return false }
        if !health[next].isBusy {
            guard rested + wait <= options.restMillisecondsMax else { return false }
            rested += wait
        }
        race.wait(milliseconds: wait, whileRunning: 0)
        return true
    }

    /// What is said where no source gave the block.
    private func failure(of race: SourceRace) -> RemoteError {
        let cid = race.request.cid
        let health = state.withLock(\.health)
        let outcomes = race.outcomes
        var errors: [RemoteError] = []
        var absences = 0
        for (index, known) in health.enumerated() where serves(index, race.request) {
            switch outcomes[index] {
            case .absent: absences += 1
            case .final(let error), .failed(let error): errors.append(error)
            case nil:
                if known.exclusion != nil {
                    continue
                } else if let problem = known.problem, known.restsUntil > options.clock() {
                    errors.append(problem)
                } else {
                    errors.append(
                        RemoteError(
                            .timeout,
                            "\(sources[index].remote.address): \(cid): no answer in time (timeout)")
                    )
                }
            }
        }
        if absences > 0, errors.isEmpty || !race.request.asksPeers {
            return RemoteError(.notFound, "\(address): nobody has the block \(cid) (notFound)")
        }
        guard
            let worst = errors.min(by: { Self.precedence($0.kind) < Self.precedence($1.kind) })
        else {
            return RemoteError(
                .wrongBytes,
                "\(cid): no source is left that is asked: each gave wrong bytes (wrongBytes)")
        }
        guard errors.count > 1 else { return worst }
        let words = oneLine(errors.map(\.description).joined(separator: "; "), lengthMax: 1000)
        return RemoteError(
            worst.kind, words, notBefore: errors.compactMap(\.notBefore).min())
    }

    /// Which of several errors tells a caller most: that it may pass later before that it does not.
    private static func precedence(_ kind: RemoteError.Kind) -> Int {
        switch kind {
        case .cancelled: 0
        case .timeout: 1
        case .busy: 2
        case .unreachable: 3
        case .failed: 4
        case .full: 5
        case .conflict: 6
        case .wrongBytes: 7
        case .refused: 8
        case .notFound: 9
        }
    }

    // MARK: Trees

    /// Asks one source after the other, until one gives a block; that one gives them all.
    ///
    /// - Throws: `refused` where no source has a way for that.
    public func blocks<Failure: Error>(
        _ request: TreeRequest, _ take: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(RemoteStreamError<Failure>) -> TreeEnding {
        let deadline = options.clock() + Int64(max(0, request.deadlineMilliseconds))
        var last = RemoteError(
            .refused,
            "\(address): \(request.root): none gives more than a block at a time (refused)")
        for index in order(counts: false) {
            guard let remote = sources[index].remote as? any RemoteTrees else { continue }
            let began = options.clock()
            guard began < deadline else { break }
            var request = request
            request.deadlineMilliseconds = Int(clamping: deadline - began)
            var count = 0
            do throws(RemoteStreamError<Failure>) {
                let ending = try remote.blocks(request) { (cid, bytes) throws(Failure) in
                    count += 1
                    note(index) { health, _ in
                        health.noteStreamedBlock(byteCount: bytes.count)
                    }
                    try take(cid, bytes)
                }
                if case .cut(let error) = ending {
                    _ = outcome(
                        error, of: index, began: began, isSearch: request.asksPeers, hasLost: nil)
                }
                return ending
            } catch {
                guard case .remote(let failure) = error else { throw error }
                _ = outcome(
                    failure, of: index, began: began, isSearch: request.asksPeers, hasLost: nil)
                guard count == 0 else { return .cut(failure) }
                guard failure.kind != .cancelled else { throw error }
                last = failure
            }
        }
        throw .remote(last)
    }
}
