// Public keys as libp2p writes them, in a protobuf.
//
// Layout:   08 type ‖ 12 data. Type: 0 RSA (data: SubjectPublicKeyInfo in DER), 1 Ed25519 (data: 32 bytes),
//           2 secp256k1, 3 ECDSA.
// Validity: both fields once, in this order, and nothing else; at most `PublicKey.byteCountMax` bytes.
// Source:   https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md "Keys"

internal import Base
internal import Crypto
internal import CryptoExtras
internal import FoundationEssentials
internal import MerkleDAG
public import Multiformats

/// The public half of a key.
public struct PublicKey: Hashable, Sendable {
    /// The kinds of keys of libp2p.
    public enum Kind: UInt64, Sendable {
        case rsa = 0
        case ed25519 = 1
        case secp256k1 = 2
        case ecdsa = 3
    }

    /// The longest protobuf that is read: one of an RSA key of 8,192 bits has 1,066 bytes.
    public static let byteCountMax = 2048
    /// The fewest and the most bits of an RSA key.
    public static let rsaBits = 2048...8192

    /// Ed25519 or RSA.
    public let kind: Kind
    /// What the kind says.
    let data: [UInt8]

    /// Takes the 32 bytes of an Ed25519 key.
    init(ed25519 raw: [UInt8]) {
        precondition(raw.count == 32, "an Ed25519 key has 32 bytes")
        kind = .ed25519
        data = raw
    }

    /// Reads a key.
    ///
    /// - Throws: `malformed`; `refused` for secp256k1 and ECDSA, whose signatures cannot be checked here.
    public init(protobuf bytes: [UInt8]) throws(NamingError) {
        guard bytes.count <= Self.byteCountMax else {
            throw NamingError(
                .malformed, "the public key is longer than \(Self.byteCountMax) bytes")
        }
        let (type, data) = try LibP2PKey.fields(of: bytes, "public key")
        switch Kind(rawValue: type) {
        case .ed25519:
            guard data.count == 32 else {
                throw NamingError(.malformed, "an Ed25519 key has 32 bytes, not \(data.count)")
            }
        case .rsa: break
        case .secp256k1:
            throw NamingError(
                .refused,
                "the key is of the kind secp256k1, whose signatures cannot be checked here: "
                    + "only Ed25519 and RSA keys can be used")
        case .ecdsa:
            throw NamingError(
                .refused,
                "the key is of the kind ECDSA, whose signatures cannot be checked here: "
                    + "only Ed25519 and RSA keys can be used")
        case nil: throw NamingError(.malformed, "the public key is of no known kind (\(type))")
        }
        kind = type == 1 ? .ed25519 : .rsa
        self.data = data
    }

    /// The key as bytes.
    public var protobuf: [UInt8] { LibP2PKey.protobuf(type: kind.rawValue, data) }

    /// What an IPNS name is made of: the key itself where it is at most 42 bytes long, else its SHA-256.
    public var multihash: Multihash {
        let bytes = protobuf
        if bytes.count <= 42, let whole = try? Multihash.identity(bytes) { return whole }
        return .sha256(of: bytes)
    }

    /// Whether the signature is the key's over the bytes. False as well where the key is no key.
    public func verifies(_ signature: [UInt8], over bytes: [UInt8]) -> Bool {
        switch kind {
        case .ed25519:
            guard let key = try? Curve25519.Signing.PublicKey(rawRepresentation: data) else {
                return false
            }
            return key.isValidSignature(signature, for: bytes)
        case .rsa:
            // Too small a key is a library's error; a huge one would cost time.
            guard let key = try? _RSA.Signing.PublicKey(derRepresentation: data),
                Self.rsaBits.contains(key.keySizeInBits)
            else { return false }
            return key.isValidSignature(
                _RSA.Signing.RSASignature(rawRepresentation: signature),
                for: SHA256.hash(data: bytes),
                padding: .insecurePKCS1v1_5)
        case .secp256k1, .ecdsa: return false
        }
    }
}

/// The message that holds a key, public or private.
enum LibP2PKey {
    /// - Parameter what: how errors call it.
    static func fields(
        of bytes: [UInt8], _ what: String
    ) throws(NamingError) -> (type: UInt64, data: [UInt8]) {
        do throws(BlockFormatError) {
            return try bytes.withBytes { (raw) throws(BlockFormatError) in
                var reader = ProtobufReader(raw, in: 0..<raw.count)
                guard try reader.readTag() == (1, .varint) else { throw .missingField(1) }
                let type = try reader.readVarint()
                guard try reader.readTag() == (2, .bytes) else { throw .missingField(2) }
                let data = Array(raw[try reader.readRange()])
                guard reader.isAtEnd else { throw .unknownField(0) }
                return (type, data)
            }
        } catch {
            throw NamingError(.malformed, "the bytes are not a \(what) of libp2p (\(error))")
        }
    }

    static func protobuf(type: UInt64, _ data: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendVarintField(tag: 0x08, type)
        bytes.appendBytesField(tag: 0x12, data)
        return bytes
    }
}
