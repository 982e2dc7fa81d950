public import Multiformats

/// Why the bytes of a block are not a DAG node of a file or of a directory.
public enum BlockFormatError: Error, Hashable, Sendable {
    // MARK: Protobuf

    /// A number is malformed: cut off, too long, or not in its shortest form.
    case varint(VarintError)
    /// A field is longer than the message that it stands in.
    case truncated
    /// A field has not the wire type that its number asks for.
    case wrongWireType(field: UInt64)
    /// The format has no field of this number.
    case unknownField(UInt64)
    /// A field that stands once at most stands twice.
    case duplicateField(UInt64)
    /// A field stands before one that it has to follow.
    case fieldOutOfOrder(UInt64)
    /// A field that must be there is not.
    case missingField(UInt64)

    // MARK: dag-pb

    /// The block is larger than `DAGNode.blockSizeMax`.
    case blockTooLarge(byteCount: Int)
    /// The DAG node has more links than `DAGNode.linkCountMax`.
    case tooManyLinks
    /// The Hash of a link is not a CID.
    case cid(CIDError)

    // MARK: UnixFS

    /// The target of a symlink is empty, longer than `UnixFSEntry.symlinkTargetLengthMax`, or has a NUL.
    case badSymlinkTarget

    /// The dag-pb node holds no UnixFS message.
    case noUnixFSData
    /// UnixFS has no type of this number.
    case unknownType(UInt64)
    /// The mode does not fit 32 bits.
    case badMode(UInt64)
    /// The nanoseconds are not below 1,000,000,000.
    case badTime(nanoseconds: UInt32)
    /// The DAG node has not one block size for each link, or they do not add up to the file size.
    case inconsistentSizes
    /// The fanout, the hash function or the bitfield of a shard is not one that can be.
    case badShard
    /// The links of a shard do not have the names that its bitfield and fanout ask for.
    case badShardLink
    /// What should be DAG-CBOR is not.
    case notCBOR
}
