// A content identifier: what content is (its codec) and its hash.
//
// Layout:   CIDv0 = the bare 34 bytes of a SHA-256 multihash (12 20 …); the codec is dag-pb.
//           CIDv1 = 01 ‖ uv(codec) ‖ multihash.
// Text:     CIDv0 = base58btc without a multibase prefix ("Qm…", 46 characters).
//           CIDv1 = a multibase text, base32 by default.
// Validity: numbers minimal; nothing behind the digest; a CIDv0 is never inside a multibase text.
// Source:   https://github.com/multiformats/cid

/// Why bytes or a text are not a CID.
public enum CIDError: Error, Hashable, Sendable {
    /// A number in front of the multihash is malformed.
    case varint(VarintError)
    /// The multihash is malformed.
    case multihash(MultihashError)
    /// The text is malformed.
    case multibase(MultibaseError)
    /// The version is neither 0 nor 1.
    case unsupportedVersion(UInt64)
    /// The codec's number is above `CID.codecMax`.
    case codecTooLarge(UInt64)
    /// Bytes follow the digest.
    case trailingBytes(count: Int)
    /// A CIDv0 stands in a multibase text.
    case version0InMultibase
}

/// A content identifier of version 0 or 1.
///
/// A value of 40 bytes without heap storage when the hash is a SHA-256, so that tables of
/// them are cheap. Equality tells versions apart, as the binary form does; compare `multihash` to
/// ask for the same block.
public struct CID: Sendable {
    /// The largest number of a codec that is accepted. The multicodec table is far below.
    public static let codecMax: UInt64 = 0x7fff_ffff

    private static let version0Form = UInt32.max

    /// The hash of the content.
    public let multihash: Multihash

    /// The codec of a CIDv1, or `version0Form`. Lies in the padding behind the multihash.
    private let form: UInt32

    private init(form: UInt32, multihash: Multihash) {
        self.form = form
        self.multihash = multihash
    }

    /// Makes a CIDv1.
    ///
    /// - Precondition: the codec is not above `CID.codecMax`.
    public init(codec: Multicodec, multihash: Multihash) {
        precondition(codec.rawValue <= Self.codecMax, "no codec has such a number")
        self.init(form: UInt32(codec.rawValue), multihash: multihash)
    }

    /// Makes a CIDv0, or nil if the hash is not a SHA-256.
    public init?(version0 multihash: Multihash) {
        guard multihash.isSHA256 else { return nil }
        self.init(form: Self.version0Form, multihash: multihash)
    }

    /// Hashes a raw block and makes its CIDv1.
    public static func raw(sha256 content: UnsafeRawBufferPointer) -> CID {
        CID(codec: .raw, multihash: .sha256(of: content))
    }

    /// Hashes a raw block and makes its CIDv1.
    public static func raw(sha256 content: [UInt8]) -> CID {
        CID(codec: .raw, multihash: .sha256(of: content))
    }

    /// Hashes a dag-pb block with SHA-256 and makes its CID of the version asked for.
    ///
    /// - Precondition: `version` is 0 or 1.
    public static func dagPB(sha256 content: UnsafeRawBufferPointer, version: Int) -> CID {
        dagPB(.sha256(of: content), version: version)
    }

    /// Hashes a dag-pb block with SHA-256 and makes its CID of the version asked for.
    public static func dagPB(sha256 content: [UInt8], version: Int) -> CID {
        dagPB(.sha256(of: content), version: version)
    }

    /// Makes the CID of a dag-pb block from its SHA-256.
    ///
    /// - Precondition: `version` is 0 or 1.
    public static func dagPB(_ sha256: Multihash, version: Int) -> CID {
        precondition(version == 0 || version == 1, "a CID has version 0 or 1")
        precondition(version == 1 || sha256.isSHA256, "a CIDv0 has a SHA-256")
        let form = version == 0 ? Self.version0Form : UInt32(Multicodec.dagPB.rawValue)
        return CID(form: form, multihash: sha256)
    }

    /// 0 or 1.
    public var version: Int { form == Self.version0Form ? 0 : 1 }

    /// What the content is; dag-pb for every CIDv0.
    public var codec: Multicodec {
        form == Self.version0Form ? .dagPB : Multicodec(rawValue: UInt64(form))
    }

    /// The same content under a CIDv1.
    public var asV1: CID {
        version == 1 ? self : CID(codec: .dagPB, multihash: multihash)
    }

    /// The same content under a CIDv0; nil unless it is dag-pb with a SHA-256.
    public var asV0: CID? {
        codec == .dagPB ? CID(version0: multihash) : nil
    }

    // MARK: Binary form

    /// Reads a CID that is all of `bytes`.
    public init(bytes: UnsafeRawBufferPointer) throws(CIDError) {
        let (cid, length) = try CID.decodePrefix(bytes)
        guard length == bytes.count else { throw .trailingBytes(count: bytes.count - length) }
        self = cid
    }

    /// Reads a CID that is all of `bytes`.
    public init(bytes: [UInt8]) throws(CIDError) {
        self = try bytes.withRawBytes { (raw) throws(CIDError) in try CID(bytes: raw) }
    }

    /// Reads the CID that `bytes` begin with, as in a CAR section.
    ///
    /// - Returns: the CID, and how many bytes it took.
    public static func decodePrefix(
        _ bytes: UnsafeRawBufferPointer
    ) throws(CIDError) -> (cid: CID, length: Int) {
        // No CIDv1 begins like this, for 0x12 is no version.
        if bytes.count >= 2, bytes[0] == 0x12, bytes[1] == 0x20 {
            guard bytes.count >= 34 else { throw .multihash(.truncated) }
            let digest = UnsafeRawBufferPointer(rebasing: bytes[2..<34])
            return (CID(form: version0Form, multihash: Multihash(sha256Digest: digest)), 34)
        }
        let version = try decodeVarint(bytes, at: 0)
        guard version.value == 1 else { throw .unsupportedVersion(version.value) }
        let codec = try decodeVarint(bytes, at: version.length)
        guard codec.value <= codecMax else { throw .codecTooLarge(codec.value) }
        let start = version.length + codec.length
        do throws(MultihashError) {
            let (multihash, length) = try Multihash.decodePrefix(
                UnsafeRawBufferPointer(rebasing: bytes[start...]))
            return (CID(form: UInt32(codec.value), multihash: multihash), start + length)
        } catch {
            throw .multihash(error)
        }
    }

    private static func decodeVarint(
        _ bytes: UnsafeRawBufferPointer, at offset: Int
    ) throws(CIDError) -> (value: UInt64, length: Int) {
        do throws(VarintError) {
            return try Varint.decode(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
        } catch {
            throw .varint(error)
        }
    }

    /// The length of `bytes`: 34 for a CIDv0, 36 for most CIDv1.
    public var byteCount: Int {
        version == 0 ? 34 : 1 + Varint.length(of: UInt64(form)) + multihash.byteCount
    }

    /// The binary form.
    public var bytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(byteCount)
        append(to: &bytes)
        return bytes
    }

    /// Appends the binary form.
    public func append(to bytes: inout [UInt8]) {
        if version == 1 {
            bytes.append(1)
            Varint.append(UInt64(form), to: &bytes)
        }
        multihash.append(to: &bytes)
    }

    /// Checks that `content` has this CID's hash.
    ///
    /// - Throws: `mismatch` if it has not, `unsupportedFunction` if that cannot be said.
    public func verify(_ content: UnsafeRawBufferPointer) throws(MultihashError) {
        try multihash.verify(content)
    }

    // MARK: Text

    /// Reads a CID from its text: a bare CIDv0 or a multibase text.
    public init(parsing text: String) throws(CIDError) {
        let isVersion0 = text.utf8.count == 46 && text.hasPrefix("Qm")
        let bytes: [UInt8]
        do throws(MultibaseError) {
            bytes =
                isVersion0
                ? try Multibase.base58btc.decodeWithoutPrefix(text)
                : try Multibase.decode(text).bytes
        } catch {
            throw .multibase(error)
        }
        guard isVersion0 || bytes.first != 0x12 else { throw .version0InMultibase }
        try self.init(bytes: bytes)
    }

    /// The text in a base of choice, with its prefix.
    ///
    /// A CIDv0 is written as the CIDv1 of the same content, for it has no multibase text.
    public func encoded(in base: Multibase) -> String {
        base.encode(asV1.bytes)
    }
}

extension CID: Hashable {
    public static func == (left: CID, right: CID) -> Bool {
        left.form == right.form && left.multihash == right.multihash
    }

    public func hash(into hasher: inout Hasher) {
        // The same digest under two forms is rare; equality tells those apart.
        multihash.hash(into: &hasher)
    }
}

extension CID: Comparable {
    /// Orders by the binary form.
    public static func < (left: CID, right: CID) -> Bool {
        if left.form == right.form {
            return left.multihash < right.multihash
        }
        return left.bytes.lexicographicallyPrecedes(right.bytes)
    }
}

extension CID: CustomStringConvertible {
    /// The usual text: base58btc for a CIDv0, base32 for a CIDv1.
    public var description: String {
        version == 0
            ? Multibase.base58btc.encodeWithoutPrefix(multihash.bytes)
            : Multibase.base32.encode(bytes)
    }
}
