/// A number of the multicodec table: what the bytes behind it are.
///
/// Any number may stand here; the named ones are those that this project meets.
/// Source: https://github.com/multiformats/multicodec/blob/master/table.csv
public struct Multicodec: RawRepresentable, Hashable, Sendable {
    /// The number in the table.
    public var rawValue: UInt64

    /// Makes a code from its number in the table.
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// The digest is the content itself.
    public static let identity = Multicodec(rawValue: 0x00)
    /// SHA-1, 20 bytes.
    public static let sha1 = Multicodec(rawValue: 0x11)
    /// SHA-256, 32 bytes.
    public static let sha2_256 = Multicodec(rawValue: 0x12)
    /// SHA-512, 64 bytes.
    public static let sha2_512 = Multicodec(rawValue: 0x13)
    /// BLAKE3.
    public static let blake3 = Multicodec(rawValue: 0x1e)
    /// The first 64 bits of Murmur3 x64-128, the hash of sharded directories.
    public static let murmur3X64_64 = Multicodec(rawValue: 0x22)
    /// BLAKE2b, 32 bytes.
    public static let blake2b256 = Multicodec(rawValue: 0xb220)
    /// Bytes without structure: a raw leaf of a file.
    public static let raw = Multicodec(rawValue: 0x55)
    /// A MerkleDAG node in protobuf.
    public static let dagPB = Multicodec(rawValue: 0x70)
    /// A MerkleDAG node in CBOR.
    public static let dagCBOR = Multicodec(rawValue: 0x71)
    /// The public key of a libp2p peer.
    public static let libp2pKey = Multicodec(rawValue: 0x72)
    /// CBOR without links.
    public static let cbor = Multicodec(rawValue: 0x51)
    /// JSON without links.
    public static let json = Multicodec(rawValue: 0x0200)
    /// A MerkleDAG node in JSON.
    public static let dagJSON = Multicodec(rawValue: 0x0129)
    /// A content-addressed archive.
    public static let car = Multicodec(rawValue: 0x0202)
    /// An IPNS record.
    public static let ipnsRecord = Multicodec(rawValue: 0x0300)
    /// The index of a CARv2 that is sorted by digest.
    public static let carIndexSorted = Multicodec(rawValue: 0x0400)
    /// The index of a CARv2 that is sorted by hash function and digest.
    public static let carMultihashIndexSorted = Multicodec(rawValue: 0x0401)
    /// An Ed25519 public key.
    public static let ed25519Public = Multicodec(rawValue: 0xed)
    /// A Filecoin piece commitment over unsealed data.
    public static let filCommitmentUnsealed = Multicodec(rawValue: 0xf101)
    /// A Filecoin piece commitment over sealed data.
    public static let filCommitmentSealed = Multicodec(rawValue: 0xf102)
    /// SHA-256 cut to 254 bits.
    public static let sha2_256Trunc254Padded = Multicodec(rawValue: 0x1012)
    /// The tree over Fr32-padded data with SHA-256 cut to 254 bits.
    public static let fr32Sha256Trunc254Padbintree = Multicodec(rawValue: 0x1011)
}

extension Multicodec: CustomStringConvertible {
    /// The code as the table writes it, for example `0x55`.
    public var description: String {
        "0x" + String(rawValue, radix: 16)
    }
}
