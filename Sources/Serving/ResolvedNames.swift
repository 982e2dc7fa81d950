public import Base
internal import Multiformats
public import Naming

/// What names lead to, found out by Naming: IPNS keys and domains with a DNSLink.
///
/// Answers are kept for as long as they hold, and a while longer where nobody can be asked then. Whoever asks for a name that is being
/// asked for gets the same answer; lookups have a share of the threads (`RequestShare`), so those that nobody answers hold up few.
public final class ResolvedNames: NameLookup {
    private struct Answer {
        /// Nil where there is no such name.
        var target: NameTarget?
        var until: Int64
    }

    /// A name that is being asked for.
    private final class Question: Sendable {
        private let outcome = Monitor<Result<NameTarget?, ServeFault>?>(nil)

        func finish(_ result: Result<NameTarget?, ServeFault>) {
            outcome.withLock { $0 = result }
            outcome.wakeAll()
        }

        func wait() throws(ServeFault) -> NameTarget? {
            let result = outcome.withLock { outcome in
                while true {
                    if let result = outcome { return result }
                    self.outcome.wait(&outcome)
                }
            }
            return try result.get()
        }
    }

    private struct State {
        var answers = Recent<ContentPath.Root, Answer>(countMax: 4_096)
        var failures = Recent<ContentPath.Root, (fault: ServeFault, until: Int64)>(countMax: 1_024)
        var questions: [ContentPath.Root: Question] = [:]
    }

    private enum Step {
        case known(NameTarget?)
        case failed(ServeFault)
        case wait(Question)
        case ask(Question)
    }

    /// How long an answer counts, in seconds, whatever it says itself.
    public static let lifetimeSeconds: ClosedRange<UInt64> = 5...3_600
    /// How long it counts that there is no such name, and that nobody could be asked, in milliseconds.
    private static let absentMilliseconds: Int64 = 30_000
    private static let failedMilliseconds: Int64 = 5_000
    /// How long an answer is given beyond its time while nobody can be asked, in milliseconds.
    private static let staleMilliseconds: Int64 = 3_600_000

    private let resolver: NameResolver
    private let own: (any NameLookup)?
    private let domains: Set<DNSName>?
    private let deadlineMilliseconds: Int
    private let clock: @Sendable () -> Int64
    private let share = RequestShare(
        runningMax: 16, waitingMax: 8, patienceMilliseconds: 1_000)
    private let state = Monitor(State())

    /// - Parameters:
    ///   - own: who is asked before: whose answers are not to be looked for elsewhere; nil for nobody.
    ///   - domains: the only names that are looked up; nil for all names.
    ///   - deadlineMilliseconds: how long a lookup may take.
    ///   - clock: by which answers grow old, in milliseconds.
    public init(
        _ resolver: NameResolver, own: (any NameLookup)? = nil, only domains: Set<DNSName>? = nil,
        deadlineMilliseconds: Int = 10_000,
        clock: @escaping @Sendable () -> Int64 = { MonotonicClock.milliseconds }
    ) {
        self.resolver = resolver
        self.own = own
        self.domains = domains
        self.deadlineMilliseconds = deadlineMilliseconds
        self.clock = clock
    }

    public func root(of name: String) throws(ServeFault) -> NameTarget? {
        if let target = try own?.root(of: name) { return target }
        guard let root = subject(name) else { return nil }
        switch state.withLock({ known(root, $0) }) {
        case .known(let target)?: return target
        case .failed(let fault)?: throw fault
        case .wait?, .ask?, nil: break
        }
        let end = MonotonicClock.milliseconds + Int64(deadlineMilliseconds)
        return try share.run(until: end) { () throws(ServeFault) in
            switch state.withLock({ step(root, &$0) }) {
            case .known(let target): return target
            case .failed(let fault): throw fault
            case .wait(let question): return try question.wait()
            case .ask(let question):
                let outcome = ask(root)
                state.withLock { $0.questions[root] = nil }
                question.finish(outcome)
                return try outcome.get()
            }
        }
    }

    /// What a text behind /ipns/ names; nil for what is no name, or is not looked up.
    private func subject(_ text: String) -> ContentPath.Root? {
        if domains == nil, text.utf8.count <= IPNSName.textLengthMax,
            let key = try? IPNSName(text)
        {
            return .key(key)
        }
        guard text.utf8.count <= DNSName.lengthMax, let domain = try? DNSName(text), domain.hasDot
        else { return nil }
        guard domains?.contains(domain) ?? true else { return nil }
        return .domain(domain)
    }

    private func known(_ root: ContentPath.Root, _ state: State) -> Step? {
        let now = clock()
        if let answer = state.answers[root], now < answer.until {
            var target = answer.target
            target?.ttlSeconds = UInt64(answer.until - now) / 1_000
            return .known(target)
        }
        if let failure = state.failures[root], now < failure.until {
            return stale(root, state, now).map { .known($0) } ?? .failed(failure.fault)
        }
        return nil
    }

    /// The last answer, where it may be given beyond its time.
    private func stale(_ root: ContentPath.Root, _ state: State, _ now: Int64) -> NameTarget? {
        guard let last = state.answers[root], now < last.until + Self.staleMilliseconds else {
            return nil
        }
        var target = last.target
        target?.ttlSeconds = nil
        return target
    }

    private func step(_ root: ContentPath.Root, _ state: inout State) -> Step {
        if let known = known(root, state) { return known }
        if let question = state.questions[root] { return .wait(question) }
        let question = Question()
        state.questions[root] = question
        return .ask(question)
    }

    private func ask(_ root: ContentPath.Root) -> Result<NameTarget?, ServeFault> {
        do throws(NamingError) {
            let found = try resolver.resolve(
                ContentPath(root), deadlineMilliseconds: deadlineMilliseconds)
            var seconds = found.ttlSeconds ?? Self.lifetimeSeconds.upperBound
            seconds = min(
                max(seconds, Self.lifetimeSeconds.lowerBound), Self.lifetimeSeconds.upperBound)
            if let end = found.validUntil {
                seconds = min(seconds, UInt64(max(0, end.seconds - Timestamp.now().seconds)))
            }
            let target = NameTarget(found.root, path: found.names, ttlSeconds: seconds)
            note(target, of: root, milliseconds: Int64(seconds) * 1_000)
            return .success(target)
        } catch {
            return failed(error, root)
        }
    }

    private func note(_ target: NameTarget?, of root: ContentPath.Root, milliseconds: Int64) {
        let until = clock() + milliseconds
        state.withLock { $0.answers.note(root, Answer(target: target, until: until)) }
    }

    private func failed(
        _ error: NamingError, _ root: ContentPath.Root
    ) -> Result<NameTarget?, ServeFault> {
        let fault: ServeFault
        switch error.kind {
        case .notFound, .malformed, .ambiguous, .tooDeep, .expired, .untrusted:
            // Whoever owns the name says so.
            note(nil, of: root, milliseconds: Self.absentMilliseconds)
            return .success(nil)
        case .timeout: fault = .timedOut
        case .unreachable, .cancelled: fault = .unavailable
        case .refused, .failed: fault = .failed(reason: error.description)
        }
        let now = clock()
        return state.withLock { state in
            state.failures.note(root, (fault, now + Self.failedMilliseconds))
            return stale(root, state, now).map { .success($0) } ?? .failure(fault)
        }
    }
}
