internal import HTTP

/// Why a call to a Kubo node failed.
///
/// Texts that come from the node are cut to `KuboError.messageLengthMax` bytes and freed of control
/// characters; credentials are never part of an error.
public struct KuboError: Error, Sendable, CustomStringConvertible {
    /// What a caller can decide upon.
    public enum Kind: String, Sendable, CaseIterable {
        /// The node does not have what was asked for: block, path or pin.
        case notFound
        /// Nobody answers at the address, or the connection ended before the reply did.
        case offline
        /// A deadline passed, here or at the node.
        case timeout
        /// The node does not take this request: a bad argument, a command it does not know, bytes
        /// that do not have the hash they should have.
        case refused
        /// The credentials are missing, wrong, or not enough for this call.
        case authorization
        /// Something else is at the place: a name that exists, a file where a directory is needed.
        case conflict
        /// The node has too much to do; the same call may pass later.
        case busy
        /// The reply is not what the protocol says: wrong bytes, a count that does not fit,
        /// malformed JSON, more than there may be.
        case protocolViolation
        /// The node's disk is full.
        case full
        /// The call's `Cancellation` was used.
        case cancelled
        /// Anything else that the node reports.
        case failed
    }

    /// The longest `message`, in bytes.
    public static let messageLengthMax = HTTPError.messageLengthMax

    public var kind: Kind
    /// The command, as in `block/get`.
    public var call: String
    /// What the call was about, a CID or a path, if anything.
    public var argument: String?
    /// One line: the node's words, or what was seen of it.
    public var message: String

    /// Makes an error; `message` is cut and cleaned.
    public init(_ kind: Kind, call: String, argument: String? = nil, message: String) {
        self.kind = kind
        self.call = call
        self.argument = argument.map(Self.line)
        self.message = Self.line(message)
    }

    /// One line: the call, its argument, and what happened.
    public var description: String {
        let subject = argument.map { "\(call) \($0)" } ?? call
        return "kubo: \(subject): \(message) (\(kind.rawValue))"
    }

    /// The text on one line of bounded length.
    static func line(_ text: String) -> String { HTTPError.line(text) }
}
