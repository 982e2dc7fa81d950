public import Base

/// One TXT record.
public struct DNSText: Hashable, Sendable {
    /// All of its strings, one behind the other.
    public var bytes: [UInt8]
    /// How long it holds, in seconds.
    public var ttlSeconds: UInt32

    public init(bytes: [UInt8], ttlSeconds: UInt32) {
        self.bytes = bytes
        self.ttlSeconds = ttlSeconds
    }
}

/// What there is under a name.
public enum DNSAnswer: Hashable, Sendable {
    /// Records, one at least; their order means nothing.
    case texts([DNSText])
    /// The name is there, and has no TXT record.
    ///
    /// - Parameter ttlSeconds: how long that holds; nil where the server does not say.
    case noTexts(ttlSeconds: UInt32?)
    /// There is no such name.
    ///
    /// - Parameter ttlSeconds: how long that holds; nil where the server does not say.
    case noSuchName(ttlSeconds: UInt32?)
}

/// Somebody who knows the TXT records of domains.
///
/// Whoever answers decides where a domain leads: nothing of an answer is signed (no DNSSEC).
public protocol DNSResolver: Sendable {
    /// Who is asked, for people.
    var address: String { get }

    /// Asks for the TXT records of a name. Blocks the calling thread.
    ///
    /// - Parameter deadline: when it ends at the latest, by `MonotonicClock.milliseconds`.
    /// - Throws: `unreachable`, `timeout`, `cancelled`, `malformed`, `refused` where the server does not answer
    ///   such questions, `failed` where it says that it cannot.
    func texts(
        of name: DNSName, deadline: Int64, cancellation: Cancellation?
    ) throws(NamingError) -> DNSAnswer
}

extension DNSMessage {
    /// What the packet says of a name.
    func answer(to name: DNSName, from server: String) throws(NamingError) -> DNSAnswer {
        switch code {
        case 0:
            let texts = texts(of: name)
            return texts.isEmpty ? .noTexts(ttlSeconds: negativeTTLSeconds) : .texts(texts)
        case 3: return .noSuchName(ttlSeconds: negativeTTLSeconds)
        case 2:
            throw NamingError(
                .failed, "\(server) could not find out about \(name) (server failure)")
        case 5: throw NamingError(.refused, "\(server) refuses to answer for \(name)")
        default:
            throw NamingError(.failed, "\(server) answered for \(name) with the error \(code)")
        }
    }
}

/// Remembers answers for as long as they hold, within bounds.
public final class DNSCache: DNSResolver {
    /// How long an answer with records counts at least and at most, in seconds.
    public static let secondsRange: ClosedRange<UInt32> = 30...3600
    /// How long it counts at most that there are none, in seconds.
    public static let negativeSecondsMax: UInt32 = 60
    /// The most names that are remembered.
    public static let nameCountMax = 256

    private struct Known {
        var answer: DNSAnswer
        /// When it was given, by the clock.
        var since: Int64
        var until: Int64
    }

    private let resolver: any DNSResolver
    private let clock: @Sendable () -> Int64
    private let known = Monitor<[DNSName: Known]>([:])

    /// Remembers what a resolver answers.
    ///
    /// - Parameter clock: by which answers grow old, in milliseconds.
    public init(
        _ resolver: any DNSResolver,
        clock: @escaping @Sendable () -> Int64 = { MonotonicClock.milliseconds }
    ) {
        self.resolver = resolver
        self.clock = clock
    }

    public var address: String { resolver.address }

    public func texts(
        of name: DNSName, deadline: Int64, cancellation: Cancellation?
    ) throws(NamingError) -> DNSAnswer {
        let now = clock()
        if let hit = known.withLock({ $0[name] }), now < hit.until {
            return Self.aged(hit.answer, bySeconds: UInt32(clamping: (now - hit.since) / 1000))
        }
        let answer = try resolver.texts(
            of: name, deadline: deadline, cancellation: cancellation)
        let since = clock()
        let until = since + Int64(Self.seconds(answer)) * 1000
        known.withLock { known in
            if known.count >= Self.nameCountMax, known[name] == nil,
                let first = known.min(by: { $0.value.until < $1.value.until })
            {
                known[first.key] = nil
            }
            known[name] = Known(answer: answer, since: since, until: until)
        }
        return answer
    }

    private static func seconds(_ answer: DNSAnswer) -> UInt32 {
        switch answer {
        case .texts(let texts):
            let least = texts.map(\.ttlSeconds).min() ?? 0
            return min(max(least, secondsRange.lowerBound), secondsRange.upperBound)
        case .noTexts(let ttl), .noSuchName(let ttl):
            return min(ttl ?? 0, negativeSecondsMax)
        }
    }

    private static func aged(_ answer: DNSAnswer, bySeconds age: UInt32) -> DNSAnswer {
        guard case .texts(let texts) = answer else { return answer }
        return .texts(
            texts.map { text in
                DNSText(
                    bytes: text.bytes,
                    ttlSeconds: text.ttlSeconds > age ? text.ttlSeconds - age : 0)
            })
    }
}
