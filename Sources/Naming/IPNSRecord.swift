// An IPNS record: what a name leads to, signed.
//
// Layout:   protobuf, fields ascending: 0a value, 12 signatureV1, 18 validityType, 22 validity, 28 sequence,
//           30 ttl, 3a public key, 42 signatureV2, 4a data. A record without V1 has 42 and 4a (and 3a) only.
//           data = DAG-CBOR map {TTL: uint, Value: bytes, Sequence: uint, Validity: bytes, ValidityType: 0},
//           in the order that DAG-CBOR gives the keys; other keys may stand beside them, and mean nothing.
//           signatureV2 = over "ipns-signature:" ‖ data. signatureV1 = over value ‖ validity ‖ "EOL".
// Validity: in the order of `verify`. The V1 signature is never looked at: what it covers leaves out the
//           sequence. Fields of V1 count for nothing, but must say the same as data.
// Source:   https://specs.ipfs.tech/ipns/ipns-record/ "Record Serialization Format", "Record Verification"

public import Base
internal import MerkleDAG
internal import Multiformats

/// Why bytes are not a record of a name.
public enum IPNSRecordError: Error, Hashable, Sendable {
    /// It is longer than `IPNSRecord.byteCountMax`.
    case tooLarge(byteCount: Int)
    /// The protobuf is none, or has a field of another kind or twice.
    case malformed(String)
    /// There is no V2 signature, or no data: a record as before 2021, which proves nothing.
    case notV2
    /// The name is a hash, and the record does not have the key.
    case noKey
    /// The key is another one than the name's.
    case otherKey
    /// The key is of a kind that cannot be used here; the text says which.
    case unusableKey(String)
    /// Data is no DAG-CBOR, or one of its fields is missing or of another kind.
    case badData(String)
    /// The key did not sign this.
    case badSignature
    /// A field says something else than data.
    case fieldMismatch(String)
    /// Validity is of an unknown type.
    case unknownValidityType(UInt64)
    /// Validity is no time.
    case badValidity
    /// It held until then.
    case expired(Timestamp)
    /// The value is no path from /ipfs/ or /ipns/ on.
    case badValue
}

extension IPNSRecordError: CustomStringConvertible {
    /// What is the matter, as the end of a sentence that begins with the record.
    public var description: String {
        switch self {
        case .tooLarge(let count):
            "is \(count) bytes long, more than the \(IPNSRecord.byteCountMax) that one may have"
        case .malformed(let text): "is malformed (\(text))"
        case .notV2: "has no V2 signature: it is of an old kind that proves nothing"
        case .noKey: "does not have the public key, of which the name is the hash"
        case .otherKey: "has another public key than the name's"
        case .unusableKey(let text): "cannot be checked: \(text)"
        case .badData(let text): "has malformed data: \(text)"
        case .badSignature: "is not signed by the name's key"
        case .fieldMismatch(let field): "has another \(field) outside of what is signed than in it"
        case .unknownValidityType(let type): "has a validity of the unknown type \(type)"
        case .badValidity: "has a validity that is no time"
        case .expired(let time): "held until \(RecordTime.text(time))"
        case .badValue: "leads to what is no path from /ipfs/ or /ipns/ on"
        }
    }
}

/// A record whose signature was checked.
public struct IPNSRecord: Hashable, Sendable {
    /// The longest record, in bytes; looked at before anything is parsed.
    public static let byteCountMax = 10_240

    /// The record as it came, or as it was made.
    public let bytes: [UInt8]
    /// What the name leads to: a path from /ipfs/ or /ipns/ on.
    public let value: String
    /// Greater in a later record.
    public let sequence: UInt64
    /// Until when the record holds.
    public let validUntil: Timestamp
    /// How long nobody needs to ask again, in nanoseconds; one above `Int64.max` counts as that.
    public let ttlNanoseconds: UInt64

    /// Takes a record that is a name's, whose signature is the key's, and which holds still.
    ///
    /// - Parameter now: the time that it is looked at; nil to take one whose time is over.
    public init(
        verifying bytes: [UInt8], of name: IPNSName, at now: Timestamp? = .now()
    ) throws(IPNSRecordError) {
        guard bytes.count <= Self.byteCountMax else {
            throw .tooLarge(byteCount: bytes.count)
        }
        let fields = try RecordFields(decoding: bytes)
        guard let signature = fields.signatureV2, !signature.isEmpty, let data = fields.data,
            !data.isEmpty
        else { throw .notV2 }
        let key = try Self.key(of: name, fields.publicKey)
        let content = try RecordData(decoding: data)
        guard key.verifies(signature, over: RecordData.signedPrefix + data) else {
            throw .badSignature
        }
        try fields.compare(with: content)
        guard content.validityType == 0 else {
            throw .unknownValidityType(content.validityType)
        }
        guard let validUntil = RecordTime.parse(content.validity) else { throw .badValidity }
        if let now, validUntil <= now { throw .expired(validUntil) }
        guard let value = String(validating: content.value, as: UTF8.self),
            value.hasPrefix("/ipfs/") || value.hasPrefix("/ipns/")
        else { throw .badValue }
        self.init(bytes: bytes, value: value, content, validUntil)
    }

    private init(bytes: [UInt8], value: String, _ data: RecordData, _ validUntil: Timestamp) {
        self.bytes = bytes
        self.value = value
        self.validUntil = validUntil
        sequence = data.sequence
        ttlNanoseconds = min(data.ttl, UInt64(Int64.max))
    }

    /// The name's key: that of the record, whose hash must be the name, else what the name holds.
    private static func key(
        of name: IPNSName, _ given: [UInt8]?
    ) throws(IPNSRecordError) -> PublicKey {
        do throws(NamingError) {
            if let given, !given.isEmpty {
                let key = try PublicKey(protobuf: given)
                guard key.multihash == name.multihash else { throw NamingError(.untrusted, "") }
                return key
            }
            guard let key = try name.key else { throw NamingError(.notFound, "") }
            return key
        } catch {
            switch error.kind {
            case .untrusted: throw .otherKey
            case .notFound: throw .noKey
            default: throw .unusableKey(error.description)
            }
        }
    }

    /// Makes a record and signs it.
    ///
    /// - Parameters:
    ///   - value: a path from /ipfs/ or /ipns/ on.
    ///   - hasV1: whether the fields and the signature of before 2021 stand in it too, for readers of then.
    /// - Throws: `refused` for a value that is too long; `failed`.
    public init(
        value: String, sequence: UInt64, validUntil: Timestamp, ttlNanoseconds: UInt64,
        hasV1: Bool = true, signedBy key: PrivateKey
    ) throws(NamingError) {
        precondition(
            value.hasPrefix("/ipfs/") || value.hasPrefix("/ipns/"), "a record leads to a path")
        let validity = Array(RecordTime.text(validUntil).utf8)
        let content = RecordData(
            value: Array(value.utf8), validity: validity, validityType: 0, sequence: sequence,
            ttl: min(ttlNanoseconds, UInt64(Int64.max)))
        let data = content.encoded
        var fields = RecordFields()
        fields.data = data
        fields.signatureV2 = try key.signature(over: RecordData.signedPrefix + data)
        if hasV1 {
            // The name of the type, not its number.
            fields.signatureV1 = try key.signature(
                over: content.value + validity + Array("EOL".utf8))
            (fields.value, fields.validity) = (content.value, validity)
            (fields.validityType, fields.sequence, fields.ttl) = (0, sequence, content.ttl)
        }
        let bytes = fields.encoded
        guard bytes.count <= Self.byteCountMax else {
            throw NamingError(.refused, "the path is too long for a record: \(value)")
        }
        self.init(bytes: bytes, value: value, content, validUntil)
    }

    /// A record of data that nobody has looked at, for tests.
    package static func signed(data: [UInt8], by key: PrivateKey) throws(NamingError) -> [UInt8] {
        var fields = RecordFields()
        fields.data = data
        fields.signatureV2 = try key.signature(over: RecordData.signedPrefix + data)
        return fields.encoded
    }

    /// Whether this record takes another one's place: by the greater sequence, then by the later validity.
    public func supersedes(_ other: IPNSRecord) -> Bool {
        sequence == other.sequence ? validUntil > other.validUntil : sequence > other.sequence
    }
}
