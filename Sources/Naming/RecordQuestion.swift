internal import Base
internal import Multiformats

internal import struct SystemPackage.Errno

/// One name, asked for at several sources at once.
enum RecordQuestion {
    typealias Answer = (source: String, result: Result<IPNSRecord, NamingError>)

    private struct State: Sendable {
        var answers: [Int: Result<IPNSRecord, NamingError>] = [:]
        /// When the first record that counts came, by `MonotonicClock.milliseconds`.
        var firstAt: Int64?
    }

    /// Asks all sources, each on a thread of its own, and checks what they give.
    ///
    /// Ends once all have answered, or `NameResolver.graceMilliseconds` after the first good record. Who has
    /// not answered then is cancelled.
    ///
    /// - Returns: an answer for each, in the order of the sources.
    static func ask(
        _ sources: [any IPNSRecordSource], for name: IPNSName, deadline: Int64,
        _ cancellation: Cancellation?
    ) throws(NamingError) -> [Answer] {
        let state = Monitor(State())
        let own = Cancellation()
        let handler = cancellation?.onCancel {
            own.cancel()
            state.withLock { _ in state.wakeAll() }
        }
        defer {
            if let handler { cancellation?.remove(handler: handler) }
            own.cancel()
        }
        for (index, source) in sources.enumerated() {
            do throws(Errno) {
                try Threads.startDetached(name: "record") {
                    let answer = answer(of: source, for: name, deadline: deadline, own)
                    state.withLock { state in
                        state.answers[index] = answer
                        if case .success = answer, state.firstAt == nil {
                            state.firstAt = MonotonicClock.milliseconds
                        }
                    }
                    state.wakeAll()
                }
            } catch {
                state.withLock {
                    $0.answers[index] = .failure(
                        NamingError(.failed, "no thread to ask \(source.address): \(error)"))
                }
            }
        }
        let found = try state.withLock { (current) throws(NamingError) in
            while current.answers.count < sources.count {
                if cancellation?.isCancelled ?? false {
                    throw NamingError(.cancelled, "\(name): cancelled")
                }
                let end = min(
                    deadline,
                    current.firstAt.map { $0 + Int64(NameResolver.graceMilliseconds) } ?? deadline)
                let now = MonotonicClock.milliseconds
                guard now < end else { break }
                state.wait(&current, milliseconds: Int(clamping: end - now))
            }
            return current.answers
        }
        return sources.enumerated().map { index, source in
            let late = NamingError(.timeout, "\(source.address) does not answer in time")
            return (source.address, found[index] ?? .failure(late))
        }
    }

    private static func answer(
        of source: any IPNSRecordSource, for name: IPNSName, deadline: Int64,
        _ cancellation: Cancellation
    ) -> Result<IPNSRecord, NamingError> {
        do throws(NamingError) {
            let bytes = try source.record(
                of: name, deadline: deadline, cancellation: cancellation)
            do throws(IPNSRecordError) {
                return .success(try IPNSRecord(verifying: bytes, of: name))
            } catch {
                throw NamingError(
                    error.kind, "the record of \(name) from \(source.address) \(error)")
            }
        } catch {
            return .failure(error)
        }
    }
}

extension IPNSRecordError {
    /// What it means for whoever wanted the record.
    var kind: NamingError.Kind {
        switch self {
        case .expired: .expired
        case .badSignature, .otherKey, .fieldMismatch, .noKey, .notV2: .untrusted
        case .unusableKey, .unknownValidityType: .refused
        case .tooLarge, .malformed, .badData, .badValidity, .badValue: .malformed
        }
    }
}
