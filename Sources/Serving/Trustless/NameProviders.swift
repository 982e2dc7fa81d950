public import Multiformats
public import Naming

/// Who has the records of IPNS names.
public protocol NameRecords: Sendable {
    /// The best record of a name that is known and holds still; nil where none is. May block.
    func record(of name: IPNSName) throws(ServeFault) -> IPNSRecord?
}

/// Who knows what names lead to: keys and domains.
public protocol NameLookup: Sendable {
    /// What a name leads to: the CID of content and names below it, and for how long nobody needs to ask again, nil where that
    /// is not known. Nil where the name is not known. May block.
    ///
    /// - Parameter name: as it stands behind /ipns/, any text.
    func root(of name: String) throws(ServeFault) -> NameTarget?
}

/// What a name leads to.
public struct NameTarget: Hashable, Sendable {
    public var cid: CID
    /// Names below the CID.
    public var path: [[UInt8]]
    public var ttlSeconds: UInt64?

    public init(_ cid: CID, path: [[UInt8]] = [], ttlSeconds: UInt64? = nil) {
        self.cid = cid
        self.path = path
        self.ttlSeconds = ttlSeconds
    }
}
