public import Base
public import Multiformats

/// One step on the way from a name to content.
public struct ResolutionStep: Hashable, Sendable {
    /// How a step was made.
    public enum Method: String, Sendable {
        case dnslink, ipns
    }

    public var method: Method
    /// What was asked for, a path.
    public var from: ContentPath
    /// What that leads to, with what is left of the path behind it.
    public var to: ContentPath
    /// Who said so: a resolver, a gateway, a Kubo node, a file.
    public var source: String
    /// The name whose TXT record says so; nil for IPNS.
    public var owner: String?
    /// The record's sequence; nil for DNSLink.
    public var sequence: UInt64?
    /// Until when the record holds; nil for DNSLink.
    public var validUntil: Timestamp?
    /// How long nobody needs to ask again, in seconds.
    public var ttlSeconds: UInt64
    /// What else is worth to be known: who did not answer, what was looked at before.
    public var notes: [String]
}

/// What a name leads to.
public struct Resolution: Hashable, Sendable {
    /// The content's root.
    public var root: CID
    /// The names below it that are still to be walked.
    public var names: [[UInt8]]
    /// What was done; empty for what was content from the start.
    public var steps: [ResolutionStep]

    /// How long nobody needs to ask again, in seconds: the shortest time on the way; nil where it holds for
    /// ever.
    public var ttlSeconds: UInt64? { steps.map(\.ttlSeconds).min() }

    /// Until when the records on the way hold; nil where none has an end.
    public var validUntil: Timestamp? { steps.compactMap(\.validUntil).min() }

    /// The path from /ipfs/ on.
    public var path: ContentPath { ContentPath(.content(root), names: names) }
}
