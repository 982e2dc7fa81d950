internal import Base
internal import Multiformats
internal import Serving

/// The whole files that were asked for lately, so that many requests for one ask the daemon once.
///
/// A loan stays for as long as it is here, so nothing is let go of under the lock: its end tells others.
final class WholeFileCache: Sendable {
    struct Key: Hashable, Sendable {
        var cid: CID
        var scope: BlockScope
    }

    typealias Outcome = Result<BytesPlace?, ServeFault>

    /// A question that is under way; whoever has the same waits for its answer.
    private final class Question: Sendable {
        private let outcome = Monitor<Outcome?>(nil)

        func finish(_ result: Outcome) {
            outcome.withLock { $0 = result }
            outcome.wakeAll()
        }

        func wait(by deadline: Deadline) throws(ServeFault) -> BytesPlace? {
            let result: Outcome? = outcome.withLock { outcome in
                while outcome == nil, !deadline.isOver {
                    self.outcome.wait(&outcome, milliseconds: Int(deadline.left))
                }
                return outcome
            }
            guard let result else { throw .timedOut }
            return try result.get()
        }
    }

    private struct Entry {
        var place: BytesPlace
        var made: Int64
        var used: Int64
    }

    private struct State {
        var entries: [Key: Entry] = [:]
        var questions: [Key: Question] = [:]
        /// Another with each `removeAll`.
        var epoch = 0
    }

    private enum Step {
        case known(BytesPlace)
        case wait(Question)
        case ask(Question, epoch: Int)
    }

    /// Of bytes that came as such.
    private static let bytesCountMax: UInt64 = 64 << 10

    private let countMax: Int
    private let unusedMilliseconds: Int64
    private let ageMilliseconds: Int64
    private let state = Monitor(State())

    init(_ bounds: ReadClientBounds) {
        countMax = bounds.wholeFileCountMax
        unusedMilliseconds = Int64(clamping: bounds.wholeFileUnusedMilliseconds)
        ageMilliseconds = Int64(clamping: bounds.wholeFileAgeMilliseconds)
    }

    /// What is known of a file, or what `ask` says.
    ///
    /// - Parameter deadline: until when to wait for another's question.
    func place(
        _ key: Key, by deadline: Deadline, _ ask: () throws(ServeFault) -> BytesPlace?
    ) throws(ServeFault) -> BytesPlace? {
        let now = MonotonicClock.milliseconds
        let step: Step = state.withLock { state in
            if let entry = state.entries[key], now - entry.made < ageMilliseconds {
                state.entries[key]?.used = now
                return .known(entry.place)
            }
            if let question = state.questions[key] { return .wait(question) }
            let question = Question()
            state.questions[key] = question
            return .ask(question, epoch: state.epoch)
        }
        switch step {
        case .known(let place): return place
        case .wait(let question): return try question.wait(by: deadline)
        case .ask(let question, let epoch):
            let outcome: Outcome
            do throws(ServeFault) { outcome = .success(try ask()) } catch {
                outcome = .failure(error)
            }
            withExtendedLifetime(note(outcome, of: question, key, epoch)) {}
            question.finish(outcome)
            return try outcome.get()
        }
    }

    /// - Returns: what has to be let go of.
    private func note(
        _ outcome: Outcome, of question: Question, _ key: Key, _ epoch: Int
    ) -> [Entry?] {
        state.withLock { state in
            if state.questions[key] === question { state.questions[key] = nil }
            guard state.epoch == epoch, case .success(let place?) = outcome else { return [] }
            if case .bytes = place, place.count > Self.bytesCountMax { return [] }
            let now = MonotonicClock.milliseconds
            var old = [
                state.entries.updateValue(Entry(place: place, made: now, used: now), forKey: key)
            ]
            if state.entries.count > countMax,
                let last = state.entries.min(by: { $0.value.used < $1.value.used })?.key
            {
                old.append(state.entries.removeValue(forKey: last))
            }
            return old
        }
    }

    /// Lets go of what nobody has used for a while, and of what is old.
    func expire() {
        let now = MonotonicClock.milliseconds
        let old: [Entry] = state.withLock { state in
            let keys = state.entries.filter {
                now - $0.value.used >= unusedMilliseconds
                    || now - $0.value.made >= ageMilliseconds
            }.keys
            return keys.compactMap { state.entries.removeValue(forKey: $0) }
        }
        withExtendedLifetime(old) {}
    }

    /// Lets go of all, also of what is being asked for.
    func removeAll() {
        let old: [Key: Entry] = state.withLock { state in
            state.epoch += 1
            // Whoever comes next asks anew.
            state.questions = [:]
            defer { state.entries = [:] }
            return state.entries
        }
        withExtendedLifetime(old) {}
    }
}
