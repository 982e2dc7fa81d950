internal import HTTP

/// Why a name is not resolved, or a record is not to be had.
///
/// The text is one line of bounded length without control characters.
public struct NamingError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What a caller can decide upon.
    public enum Kind: String, Sendable, CaseIterable {
        /// A text, a record or a file is not what it should be.
        case malformed
        /// It is signed by somebody else, or older than what was seen before, or another user's.
        case untrusted
        /// The record's time is over.
        case expired
        /// Nobody has a record, or the domain has no link.
        case notFound
        /// A domain has several links, and nobody can say which is meant.
        case ambiguous
        /// Names lead to names without an end.
        case tooDeep
        /// Nobody answers at the address.
        case unreachable
        /// A deadline passed.
        case timeout
        /// The other side does not do this, or we do not.
        case refused
        /// The `Cancellation` was used.
        case cancelled
        /// Anything else, such as a disk that fails.
        case failed
    }

    public var kind: Kind
    /// What, and why.
    public var description: String

    /// Makes an error; the text is cut and cleaned.
    public init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = HTTPError.line(description)
    }

    /// The same with what it was about in front.
    func about(_ subject: String) -> NamingError { NamingError(kind, "\(subject): \(description)") }

    /// What a request's failure means, whose text names the request already.
    init(_ error: HTTPError) {
        let kind: Kind =
            switch error.kind {
            case .offline: .unreachable
            case .timeout: .timeout
            case .cancelled: .cancelled
            case .untrusted: .untrusted
            case .tooLarge, .protocolViolation: .malformed
            case .invalidRequest: .refused
            case .failed: .failed
            }
        self.init(kind, "\(error.request): \(error.message)")
    }
}
