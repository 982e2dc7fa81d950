import Base
import Naming

import struct SystemPackage.Errno

/// What is asked of DNS for one look-up of a domain: each name once, and the domain itself beside its `_dnslink`, so that
/// who has its blocks is known no later than where it leads.
final class DomainQuestions: DNSResolver {
    /// What is done with what records say, on the thread that has the answer.
    struct Listener: Sendable {
        /// Takes addresses of nodes.
        var nodes: @Sendable ([String]) -> Void
        /// Takes URLs of gateways.
        var gateways: @Sendable ([String]) -> Void
    }

    private struct State {
        var announcement = DomainAnnouncement()
        var isAsking = false
        /// What came of asking the domain itself.
        var apex: Result<DNSAnswer, NamingError>?
        /// How long it holds that there is nothing, in seconds.
        var absentSeconds: UInt32?
    }

    /// The threads that ask a domain itself, for all look-ups together. Without one it is asked afterwards.
    private static let threadsMax = 32
    private static let threads = Monitor(0)

    private let domain: DNSName
    private let dns: any DNSResolver
    private let deadline: Int64
    private let cancellation: Cancellation
    private let listener: Listener
    private let state = Monitor(State())

    /// - Parameter deadline: of the look-up, by `MonotonicClock.milliseconds`.
    init(
        _ domain: DNSName, by dns: any DNSResolver, deadline: Int64,
        cancellation: Cancellation, listener: Listener
    ) {
        self.domain = domain
        self.dns = dns
        self.deadline = deadline
        self.cancellation = cancellation
        self.listener = listener
    }

    var address: String { dns.address }

    /// How long it holds that there is nothing, by what DNS said; nil where it did not.
    var absentSeconds: UInt32? { state.withLock(\.absentSeconds) }

    /// Asks for the domain itself, beside what the caller does next.
    func begin() {
        let isFree = Self.threads.withLock { count in
            guard count < Self.threadsMax else { return false }
            count += 1
            return true
        }
        guard isFree else { return }
        state.withLock { $0.isAsking = true }
        do throws(Errno) {
            try Threads.startDetached(name: "rfs-domain") { [self] in
                askApex()
                Self.threads.withLock { $0 -= 1 }
            }
        } catch {
            Self.threads.withLock { $0 -= 1 }
            state.withLock { $0.isAsking = false }
        }
    }

    private func askApex() {
        let answer: Result<DNSAnswer, NamingError>
        do throws(NamingError) {
            answer = .success(
                try dns.texts(of: domain, deadline: deadline, cancellation: cancellation))
        } catch {
            answer = .failure(error)
        }
        if case .success(let texts) = answer { note(texts) }
        state.withLock { $0.apex = answer }
        state.wakeAll()
    }

    func texts(
        of name: DNSName, deadline: Int64, cancellation: Cancellation?
    ) throws(NamingError) -> DNSAnswer {
        if name == domain, let answer = apex(until: deadline) { return try answer.get() }
        let answer = try dns.texts(of: name, deadline: deadline, cancellation: cancellation)
        note(answer)
        return answer
    }

    /// What came of asking the domain itself, which is waited for; nil where nobody asks, or it takes too long.
    private func apex(until deadline: Int64) -> Result<DNSAnswer, NamingError>? {
        let state = state
        let handler = cancellation.onCancel {
            // Under the lock, so that nobody is between looking and waiting.
            state.withLock { _ in state.wakeAll() }
        }
        defer { cancellation.remove(handler: handler) }
        return state.withLock { current in
            while current.isAsking, current.apex == nil, !cancellation.isCancelled {
                let left = deadline - MonotonicClock.milliseconds
                guard left > 0 else { return nil }
                state.wait(&current, milliseconds: Int(clamping: left))
            }
            return current.apex
        }
    }

    // MARK: What they say

    /// The gateways that are named so far; where there are none, those that the domain itself names, which is waited for.
    func gateways(until deadline: Int64) -> [String] {
        let found = state.withLock(\.announcement.gateways)
        guard found.isEmpty else { return found }
        if apex(until: deadline) == nil, !state.withLock(\.isAsking) {
            _ = try? texts(of: domain, deadline: deadline, cancellation: cancellation)
        }
        return state.withLock(\.announcement.gateways)
    }

    private func note(_ answer: DNSAnswer) {
        guard case .texts(let texts) = answer else {
            if case .noSuchName(let seconds?) = answer { noteAbsent(seconds) }
            if case .noTexts(let seconds?) = answer { noteAbsent(seconds) }
            return
        }
        let new = state.withLock { $0.announcement.add(texts) }
        if !new.nodes.isEmpty { listener.nodes(new.nodes) }
        if !new.gateways.isEmpty { listener.gateways(new.gateways) }
    }

    private func noteAbsent(_ seconds: UInt32) {
        state.withLock { $0.absentSeconds = min($0.absentSeconds ?? seconds, seconds) }
    }
}
