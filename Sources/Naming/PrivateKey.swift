// Private keys, as they are kept and given to others.
//
// Layout:   libp2p's protobuf, 68 bytes: 08 01 12 40 ‖ seed (32) ‖ public key (32).
//           PKCS#8 in PEM: 30 2e 02 01 00 30 05 06 03 2b 65 70 04 22 04 20 ‖ seed (RFC 8410), or the form of
//           RFC 5958 with attributes and the public key behind that.
// Validity: Ed25519 only; the public key is that of the seed.
// Source:   https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md, RFC 8410 section 7

internal import Crypto
internal import FoundationEssentials

/// An Ed25519 key that signs records. Its bytes show in no description.
public struct PrivateKey: Sendable, CustomStringConvertible, CustomReflectable {
    /// The length of the protobuf, in bytes.
    public static let protobufLength = 68
    /// The longest file that is read as a key, in bytes.
    public static let fileLengthMax = 16 << 10

    private let key: Curve25519.Signing.PrivateKey

    /// Makes a new key.
    public init() {
        key = Curve25519.Signing.PrivateKey()
    }

    /// Makes a key of its 32 secret bytes.
    init(seed: [UInt8]) throws(NamingError) {
        do {
            key = try Curve25519.Signing.PrivateKey(rawRepresentation: seed)
        } catch {
            throw NamingError(.malformed, "an Ed25519 key has 32 bytes")
        }
    }

    /// Reads a key from libp2p's protobuf.
    ///
    /// - Throws: `malformed`; `refused` for other kinds of keys.
    public init(protobuf bytes: [UInt8]) throws(NamingError) {
        let (type, data) = try LibP2PKey.fields(of: bytes, "private key")
        guard type == PublicKey.Kind.ed25519.rawValue else {
            throw NamingError(
                .refused,
                "the key is of the kind \(PublicKey.Kind(rawValue: type).map { "\($0)" } ?? "\(type)"): "
                    + "only Ed25519 keys can be used to publish")
        }
        // Of old, the public key stood there a second time.
        guard data.count == 64 || (data.count == 96 && data[32..<64] == data[64..<96]) else {
            throw NamingError(.malformed, "an Ed25519 private key has 64 bytes, not \(data.count)")
        }
        try self.init(seed: Array(data[..<32]))
        guard key.publicKey.rawRepresentation.elementsEqual(data[32..<64]) else {
            throw NamingError(.malformed, "the public key is not that of the private one")
        }
    }

    /// Reads a key from a file's content: libp2p's protobuf, or PKCS#8 in PEM.
    public init(file bytes: [UInt8]) throws(NamingError) {
        guard let text = String(validating: bytes, as: UTF8.self), text.contains("-----BEGIN")
        else {
            try self.init(protobuf: bytes)
            return
        }
        try self.init(pem: text)
    }

    /// Reads a key from PKCS#8 in PEM.
    public init(pem text: String) throws(NamingError) {
        let lines = text.split(whereSeparator: \.isNewline).map { line in
            line.drop { $0 == " " }
        }
        guard let first = lines.firstIndex(where: { $0.hasPrefix("-----BEGIN ") }),
            let last = lines[first...].firstIndex(where: { $0.hasPrefix("-----END ") })
        else { throw NamingError(.malformed, "the file is no PEM: it has no end") }
        guard lines[first].hasPrefix("-----BEGIN PRIVATE KEY-----") else {
            let label = lines[first].dropFirst("-----BEGIN ".count).prefix { $0 != "-" }
            throw NamingError(
                .refused,
                "the file holds '\(label)': only an Ed25519 PRIVATE KEY that is not encrypted can be used"
            )
        }
        guard let der = Data(base64Encoded: lines[(first + 1)..<last].joined()) else {
            throw NamingError(.malformed, "the file is no PEM: its lines are not base64")
        }
        try self.init(pkcs8: Array(der))
    }

    private init(pkcs8 der: [UInt8]) throws(NamingError) {
        // The length and the version (0, or 1 with the public key behind), then the algorithm and the key.
        let algorithm: [UInt8] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70]
        let secret: [UInt8] = [0x04, 0x22, 0x04, 0x20]
        guard der.count >= 16, der[0] == 0x30, Int(der[1]) == der.count - 2, der[2...3] == [2, 1],
            der[4] <= 1
        else { throw NamingError(.refused, Self.onlyEd25519) }
        guard der[5..<12].elementsEqual(algorithm) else {
            throw NamingError(.refused, Self.onlyEd25519)
        }
        guard der.count >= 48, der[12..<16].elementsEqual(secret), der.count == 48 || der[4] == 1
        else { throw NamingError(.malformed, "the file is no PKCS#8 of an Ed25519 key") }
        try self.init(seed: Array(der[16..<48]))
        // RFC 5958: attributes may stand between, the public key ends it.
        if der.count > 48 {
            guard der.suffix(32).elementsEqual(key.publicKey.rawRepresentation) else {
                throw NamingError(.malformed, "the public key is not that of the private one")
            }
        }
    }

    private static let onlyEd25519 =
        "the file holds a key of another kind, or no key: only Ed25519 keys can be used to publish"

    /// The key as bytes that Kubo and others take. Secret.
    public var protobuf: [UInt8] {
        LibP2PKey.protobuf(
            type: PublicKey.Kind.ed25519.rawValue,
            Array(key.rawRepresentation) + Array(key.publicKey.rawRepresentation))
    }

    /// The key as PKCS#8 in PEM. Secret.
    public var pem: String {
        let der: [UInt8] =
            [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20]
            + Array(key.rawRepresentation)
        return "-----BEGIN PRIVATE KEY-----\n" + Data(der).base64EncodedString()
            + "\n-----END PRIVATE KEY-----\n"
    }

    /// The half that anybody may have.
    public var publicKey: PublicKey { PublicKey(ed25519: Array(key.publicKey.rawRepresentation)) }

    /// The IPNS name that records with this key's signature are for.
    public var name: IPNSName { IPNSName(of: publicKey) }

    /// Signs bytes; the same bytes always in the same way (RFC 8032).
    func signature(over bytes: [UInt8]) throws(NamingError) -> [UInt8] {
        do {
            return Array(try key.signature(for: bytes))
        } catch {
            throw NamingError(.failed, "the key cannot sign (\(error))")
        }
    }

    public var description: String { "private key of \(name)" }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
