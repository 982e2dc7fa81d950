// An IPNS name: the multihash of a public key.
//
// Layout:   CIDv1 with the codec libp2p-key (72) of the multihash of the key's protobuf. An Ed25519 key is in
//           it whole (identity multihash 00 24 ‖ 08 01 12 20 ‖ key); of an RSA key it is the SHA-256.
// Text:     base36 of the CID ("k51…", what is written here), base32, or any other multibase; or base58 of
//           the bare multihash, as peer ids were written ("12D3…", "Qm…").
// Source:   https://specs.ipfs.tech/ipns/ipns-record/ "IPNS Name",
//           https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md

public import Multiformats

/// The name of a key, which records are signed with.
public struct IPNSName: Hashable, Sendable, CustomStringConvertible {
    /// The hash of the public key, or the key itself where it is short.
    public let multihash: Multihash

    /// Longer texts are no names: that of the longest multihash has 219 digits.
    public static let textLengthMax = 256

    /// The name of a key.
    public init(of key: PublicKey) {
        multihash = key.multihash
    }

    /// Reads a name from any of its texts.
    ///
    /// - Throws: `malformed`; of a CID that is not a key's, the error names its codec.
    public init(_ text: String) throws(NamingError) {
        guard !text.isEmpty, text.utf8.count <= Self.textLengthMax else {
            throw NamingError(.malformed, "a name has 1 to \(Self.textLengthMax) bytes")
        }
        // Multibase has no base of these prefixes but base16's and one of octal digits, which "12D3" is not.
        if text.hasPrefix("12D3") || text.hasPrefix("16Uiu") || text.hasPrefix("Qm") {
            try self.init(peerID: text)
            return
        }
        let cid: CID
        do throws(CIDError) {
            cid = try CID(parsing: text)
        } catch {
            throw NamingError(.malformed, "'\(text)' is not the name of a key: \(error)")
        }
        try self.init(cid)
    }

    /// Takes a CID that is a key's.
    ///
    /// - Throws: `malformed`, which names the codec.
    public init(_ cid: CID) throws(NamingError) {
        guard cid.version == 1, cid.codec == .libp2pKey else {
            throw NamingError(
                .malformed,
                "\(cid) is not the name of a key: its codec is \(Self.name(of: cid.codec)), "
                    + "not libp2p-key (0x72)")
        }
        try self.init(cid.multihash, shown: "\(cid)")
    }

    private init(peerID text: String) throws(NamingError) {
        let hash: Multihash
        do {
            hash = try Multihash(bytes: try Multibase.base58btc.decodeWithoutPrefix(text))
        } catch {
            throw NamingError(.malformed, "'\(text)' is not the name of a key: \(error)")
        }
        try self.init(hash, shown: text)
    }

    private init(_ multihash: Multihash, shown: String) throws(NamingError) {
        guard multihash.code == .identity || multihash.isSHA256 else {
            throw NamingError(
                .malformed,
                "\(shown) is not the name of a key: its hash function is \(multihash.code), "
                    + "not identity or sha2-256")
        }
        self.multihash = multihash
    }

    /// The codec for people, with its number.
    static func name(of codec: Multicodec) -> String {
        let names: [Multicodec: String] = [
            .raw: "raw", .dagPB: "dag-pb", .dagCBOR: "dag-cbor", .dagJSON: "dag-json",
            .libp2pKey: "libp2p-key", .car: "car", .ipnsRecord: "ipns-record",
            .ed25519Public: "ed25519-pub",
        ]
        return names[codec].map { "\($0) (\(codec))" } ?? "\(codec)"
    }

    /// The name as a CID.
    public var cid: CID { CID(codec: .libp2pKey, multihash: multihash) }

    /// The canonical text, in base36.
    public var description: String { cid.encoded(in: .base36) }

    /// The text as peers are named, in base58 without a prefix.
    public var peerID: String { Multibase.base58btc.encodeWithoutPrefix(multihash.bytes) }

    /// The key that the name holds; nil where it holds a hash alone.
    ///
    /// - Throws: `malformed`, `refused` for a kind of key that is not known here.
    public var key: PublicKey? {
        get throws(NamingError) {
            guard multihash.code == .identity else { return nil }
            return try PublicKey(protobuf: multihash.digest)
        }
    }

    /// What a distributed table keeps the record by: `/ipns/` and the multihash.
    public var routingKey: [UInt8] { Array("/ipns/".utf8) + multihash.bytes }

    /// The topic of publish-subscribe at which records are sent.
    public var topic: String { "/record/" + Multibase.base64url.encodeWithoutPrefix(routingKey) }
}
