public import Base
internal import CResolv
internal import Glibc

internal import struct SystemPackage.Errno

/// Asks the name servers of this system, as `/etc/resolv.conf` names them.
///
/// The C library's call cannot be ended, so it runs on a thread of its own, which is left behind where a
/// deadline passes; it ends by itself some seconds later.
public struct SystemResolver: DNSResolver {
    /// The most calls that run at a time, those that were left behind among them.
    public static let callCountMax = 16

    private static let callCount = Monitor(0)

    private struct Outcome {
        var packet: [UInt8]
        var error: Int32
    }

    public init() {}

    public var address: String {
        var text = [CChar](repeating: 0, count: 256)
        rfs_resolver_servers(&text, text.count)
        let servers = String(decoding: text.prefix { $0 != 0 }.map(UInt8.init), as: UTF8.self)
        return servers.isEmpty ? "the system's resolver" : "the system's resolver (\(servers))"
    }

    public func texts(
        of name: DNSName, deadline: Int64, cancellation: Cancellation?
    ) throws(NamingError) -> DNSAnswer {
        let outcome = Monitor<Outcome?>(nil)
        let handler = cancellation?.onCancel {
            // Under the lock, so that nobody is between looking and waiting.
            outcome.withLock { _ in outcome.wakeAll() }
        }
        defer { if let handler { cancellation?.remove(handler: handler) } }
        try begin(name, deadline: deadline, outcome)
        let found = try outcome.withLock { (state) throws(NamingError) -> Outcome in
            while true {
                if let found = state { return found }
                if cancellation?.isCancelled ?? false {
                    throw NamingError(.cancelled, "\(name): cancelled")
                }
                let now = MonotonicClock.milliseconds
                guard now < deadline else {
                    throw NamingError(.timeout, "\(address) does not answer for \(name) in time")
                }
                outcome.wait(&state, milliseconds: Int(clamping: deadline - now))
            }
        }
        guard found.error == 0 else {
            let error = Errno(rawValue: found.error)
            guard error != .timedOut else {
                throw NamingError(.timeout, "\(address) does not answer for \(name) in time")
            }
            throw NamingError(.unreachable, "\(address) cannot be asked for \(name): \(error)")
        }
        let message: DNSMessage
        do throws(DNSMessageError) {
            message = try DNSMessage(decoding: found.packet, answering: name)
        } catch {
            throw NamingError(.malformed, "\(address) sends no answer for \(name): \(error)")
        }
        return try message.answer(to: name, from: address)
    }

    /// Has a thread ask, which leaves its outcome behind.
    private func begin(
        _ name: DNSName, deadline: Int64, _ outcome: Monitor<Outcome?>
    ) throws(NamingError) {
        let isFree = Self.callCount.withLock { count in
            guard count < Self.callCountMax else { return false }
            count += 1
            return true
        }
        guard isFree else {
            throw NamingError(
                .timeout,
                "\(Self.callCountMax) questions to the system's resolver have no answer yet")
        }
        let left = max(0, deadline - MonotonicClock.milliseconds)
        let seconds = Int32(clamping: max(1, min(60, left / 1000)))
        do throws(Errno) {
            try Threads.startDetached(name: "resolver") {
                let found = Self.ask(name, seconds: seconds)
                Self.callCount.withLock { $0 -= 1 }
                outcome.withLock { $0 = found }
                outcome.wakeAll()
            }
        } catch {
            Self.callCount.withLock { $0 -= 1 }
            throw NamingError(.failed, "no thread to ask for \(name): \(error)")
        }
    }

    private static func ask(_ name: DNSName, seconds: Int32) -> Outcome {
        var packet = [UInt8](repeating: 0, count: DNSMessage.byteCountMax)
        // With a dot at its end: it is a whole name.
        let length = rfs_resolve_txt(name.description + ".", &packet, packet.count, seconds)
        guard length >= 0 else { return Outcome(packet: [], error: errno == 0 ? EIO : errno) }
        return Outcome(packet: Array(packet.prefix(Int(length))), error: 0)
    }
}
