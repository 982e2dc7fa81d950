internal import Foundation

/// Something that goes wrong on purpose.
///
/// As JSON for `POST /double/faults`: `{"command":"block/get","kind":"flip","value":0,"count":1}`.
public struct Fault: Codable, Sendable {
    /// What goes wrong.
    public enum Kind: String, Codable, Sendable {
        /// Waits `value` milliseconds before the call is looked at.
        case latency
        /// Answers with the status `value` (500 unless given) and `message`, and does nothing.
        case status
        /// Does what it is told and then answers with the status `value`, as if it had not.
        case lostReply
        /// Closes the connection after `value` bytes of the reply's body.
        case cutReply
        /// Closes the connection after `value` bytes of the request's body.
        case cutRequest
        /// Flips a bit of byte `value` of the reply's body.
        case flip
        /// Leaves the last `value` bytes of the reply's body out, and ends it as if it were whole.
        case truncate
        /// Adds `value` bytes to the reply's body.
        case extra
        /// Ends the reply with `message` in the trailer `X-Stream-Error`.
        case trailer
        /// Takes the request and never answers.
        case hang

        // Of the gateway alone:

        /// Answers with a page of HTML, as a hotel's network does, with the status 200.
        case page
        /// Answers with bytes that never end.
        case endless
        /// Sends on to `message`, a URL or a path.
        case redirect
        /// Answers 429 with `Retry-After: value`, 1 unless given.
        case busy
        /// Sends the body byte by byte, `value` milliseconds between two.
        case drip
    }

    /// `block/get`, or `files/*` for all that begin so; nil for every command.
    public var command: String?
    public var kind: Kind
    /// See the kinds.
    public var value: Int?
    /// See the kinds.
    public var message: String?
    /// For how many calls; nil until faults are cleared.
    public var count: Int?

    public init(
        _ kind: Kind, command: String? = nil, value: Int? = nil, message: String? = nil,
        count: Int? = nil
    ) {
        self.command = command
        self.kind = kind
        self.value = value
        self.message = message
        self.count = count
    }

    func concerns(_ command: String) -> Bool {
        guard let pattern = self.command else { return true }
        return pattern.hasSuffix("*")
            ? command.hasPrefix(pattern.dropLast()) : command == pattern
    }
}

/// What a command was asked for.
public struct CommandStatistics: Codable, Sendable, Equatable {
    /// Calls, whatever became of them.
    public var calls = 0
    /// Calls that ended in an error.
    public var errors = 0
    /// Bytes of request bodies, as far as they were read.
    public var requestBytes = 0
    /// Bytes of reply bodies.
    public var replyBytes = 0
    /// Blocks received in `block/put` and `dag/import`.
    public var blocks = 0
    /// Those of them that were here before.
    public var knownBlocks = 0
    /// Bytes of the blocks received.
    public var blockBytes = 0
}

/// What is wrong at the moment, and what was counted.
///
/// `@unchecked Sendable`: everything is read and written with `lock` locked.
final class Switches: @unchecked Sendable {
    private let lock = NSLock()
    private var faults: [Fault] = []
    private var commands: [String: CommandStatistics] = [:]
    /// Grows with every clearing, which ends what hangs.
    private var generation = 0

    func add(_ fault: Fault) { locked { faults.append(fault) } }

    func clear() {
        locked {
            faults = []
            generation += 1
        }
    }

    var currentGeneration: Int { locked { generation } }

    /// What goes wrong with this call. Counts it.
    func take(_ command: String) -> [Fault] {
        locked {
            var taken: [Fault] = []
            for index in faults.indices where faults[index].concerns(command) {
                if let count = faults[index].count {
                    guard count > 0 else { continue }
                    faults[index].count = count - 1
                }
                taken.append(faults[index])
            }
            faults.removeAll { $0.count == 0 }
            return taken
        }
    }

    func count(_ command: String, _ change: (inout CommandStatistics) -> Void) {
        locked { change(&commands[command, default: CommandStatistics()]) }
    }

    /// A table of their own, read while that of here changes (.ci/thread-sanitizer).
    var statistics: [String: CommandStatistics] { locked { commands.mapValues { $0 } } }

    func resetStatistics() { locked { commands = [:] } }

    private func locked<Result>(_ body: () -> Result) -> Result {
        lock.lock()
        defer { lock.unlock() }
        return body()
    }
}
