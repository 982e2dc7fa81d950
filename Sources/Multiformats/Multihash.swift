// A hash that says which function made it.
//
// Layout:   uv(code) ‖ uv(length) ‖ digest
// Validity: both numbers minimal; the digest at most 128 bytes; a function of fixed length that is
//           known here has exactly that length.
// Source:   https://github.com/multiformats/multihash

internal import CSHA256
internal import Crypto

/// Why bytes are not a multihash, or content does not match one.
public enum MultihashError: Error, Hashable, Sendable {
    /// One of the two numbers in front of the digest is malformed.
    case varint(VarintError)
    /// The bytes end before the digest does.
    case truncated
    /// The digest is longer than `Multihash.digestLengthMax`, or not of its function's length.
    case badDigestLength(code: Multicodec, length: UInt64)
    /// Bytes follow the digest.
    case trailingBytes(count: Int)
    /// The content cannot be checked, because the hash function is not known here.
    case unsupportedFunction(Multicodec)
    /// The content has another hash.
    case mismatch
}

/// The hash of some content together with the function that made it.
///
/// A SHA-256 lies inline (no heap); others keep their digest in an array.
public struct Multihash: Sendable {
    /// The longest digest that is accepted, in bytes (identity digests are bounded to this too).
    public static let digestLengthMax = 128

    /// The words of a digest are big-endian, so that comparing them is comparing the bytes.
    enum Storage: Sendable {
        case sha256(UInt64, UInt64, UInt64, UInt64)
        case other(code: UInt64, digest: [UInt8])
    }

    let storage: Storage

    private init(_ storage: Storage) {
        self.storage = storage
    }

    /// Makes a multihash from a digest that somebody computed.
    ///
    /// - Throws: `badDigestLength` if the digest has not the length that its function gives.
    public init(code: Multicodec, digest: UnsafeRawBufferPointer) throws(MultihashError) {
        try Self.checkLength(UInt64(digest.count), code: code)
        if code == .sha2_256 {
            self.init(sha256Digest: digest)
        } else {
            self.init(.other(code: code.rawValue, digest: Array(digest)))
        }
    }

    /// Makes a multihash from a digest that somebody computed.
    public init(code: Multicodec, digest: [UInt8]) throws(MultihashError) {
        self = try digest.withRawBytes { (raw) throws(MultihashError) in
            try Multihash(code: code, digest: raw)
        }
    }

    /// Makes a SHA-256 multihash from exactly 32 bytes of digest.
    public init(sha256Digest digest: UnsafeRawBufferPointer) {
        precondition(digest.count == 32, "a SHA-256 has 32 bytes")
        func word(_ index: Int) -> UInt64 {
            UInt64(bigEndian: digest.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self))
        }
        self.init(.sha256(word(0), word(1), word(2), word(3)))
    }

    /// Makes the identity multihash of content of at most 128 bytes.
    public static func identity(_ content: [UInt8]) throws(MultihashError) -> Multihash {
        try Multihash(code: .identity, digest: content)
    }

    /// Hashes content that is in memory whole, without a copy of it.
    public static func sha256(of content: UnsafeRawBufferPointer) -> Multihash {
        var hasher = SHA256Hasher()
        hasher.update(content)
        return hasher.finalize()
    }

    /// Hashes content that is in memory whole.
    public static func sha256(of content: [UInt8]) -> Multihash {
        content.withUnsafeBytes { Multihash.sha256(of: $0) }
    }

    /// Hashes two contents that are in memory whole. Where they are of one length, and the processor has
    /// SHA instructions, both take little longer than one.
    public static func sha256(
        of one: UnsafeRawBufferPointer, and other: UnsafeRawBufferPointer
    ) -> (Multihash, Multihash) {
        if one.count == other.count {
            let pair = withUnsafeTemporaryAllocation(byteCount: 64, alignment: 8) {
                digests -> (Multihash, Multihash)? in
                let ends = digests.bindMemory(to: UInt8.self).baseAddress
                guard let ends,
                    rfs_sha256_two(
                        one.baseAddress, other.baseAddress, one.count, ends, ends + 32) != 0
                else { return nil }
                return (
                    Multihash(sha256Digest: UnsafeRawBufferPointer(rebasing: digests[..<32])),
                    Multihash(sha256Digest: UnsafeRawBufferPointer(rebasing: digests[32...]))
                )
            }
            if let pair { return pair }
        }
        return (sha256(of: one), sha256(of: other))
    }

    /// Reads the multihash that `bytes` begin with.
    ///
    /// - Returns: the multihash, and how many bytes it took.
    public static func decodePrefix(
        _ bytes: UnsafeRawBufferPointer
    ) throws(MultihashError) -> (multihash: Multihash, length: Int) {
        let (number, lengthOffset) = try decodeVarint(bytes, at: 0)
        let (length, start) = try decodeVarint(bytes, at: lengthOffset)
        let code = Multicodec(rawValue: number)
        try checkLength(length, code: code)
        let end = start + Int(length)
        guard end <= bytes.count else { throw .truncated }
        let digest = UnsafeRawBufferPointer(rebasing: bytes[start..<end])
        return (try Multihash(code: code, digest: digest), end)
    }

    private static func decodeVarint(
        _ bytes: UnsafeRawBufferPointer, at offset: Int
    ) throws(MultihashError) -> (value: UInt64, end: Int) {
        do throws(VarintError) {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
            let (value, length) = try Varint.decode(rest)
            return (value, offset + length)
        } catch {
            throw .varint(error)
        }
    }

    /// Reads a multihash that is all of `bytes`.
    public init(bytes: UnsafeRawBufferPointer) throws(MultihashError) {
        let (multihash, length) = try Multihash.decodePrefix(bytes)
        guard length == bytes.count else { throw .trailingBytes(count: bytes.count - length) }
        self = multihash
    }

    /// Reads a multihash that is all of `bytes`.
    public init(bytes: [UInt8]) throws(MultihashError) {
        self = try bytes.withRawBytes { (raw) throws(MultihashError) in
            try Multihash(bytes: raw)
        }
    }

    private static func checkLength(_ length: UInt64, code: Multicodec) throws(MultihashError) {
        let isGood: Bool
        switch code {
        case .sha1: isGood = length == 20
        case .sha2_256, .blake2b256: isGood = length == 32
        case .sha2_512: isGood = length == 64
        default: isGood = length <= UInt64(digestLengthMax)
        }
        guard isGood else { throw .badDigestLength(code: code, length: length) }
    }

    /// The function that made the digest.
    public var code: Multicodec {
        switch storage {
        case .sha256: .sha2_256
        case .other(let code, _): Multicodec(rawValue: code)
        }
    }

    /// Whether this is a SHA-256 in full length, the only hash that a CIDv0 can have.
    public var isSHA256: Bool {
        if case .sha256 = storage { true } else { false }
    }

    /// The digest alone.
    public var digest: [UInt8] {
        withDigest { Array($0) }
    }

    /// The length of the digest in bytes.
    public var digestLength: Int {
        switch storage {
        case .sha256: 32
        case .other(_, let digest): digest.count
        }
    }

    /// Lends the digest without a copy on the heap.
    public func withDigest<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        switch storage {
        case .sha256(let w0, let w1, let w2, let w3):
            let words = (w0.bigEndian, w1.bigEndian, w2.bigEndian, w3.bigEndian)
            return try withUnsafeBytes(of: words) { (raw) throws(Failure) in try body(raw) }
        case .other(_, let digest):
            return try digest.withRawBytes(body)
        }
    }

    /// The length of `bytes`.
    public var byteCount: Int {
        let length = digestLength
        return Varint.length(of: code.rawValue) + Varint.length(of: UInt64(length)) + length
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
        Varint.append(code.rawValue, to: &bytes)
        Varint.append(UInt64(digestLength), to: &bytes)
        withDigest { bytes.append(contentsOf: $0) }
    }

    /// Checks that `content` has this hash.
    ///
    /// Knows identity, SHA-1, SHA-256 and SHA-512.
    ///
    /// - Throws: `mismatch` if it has not, `unsupportedFunction` if that cannot be said.
    public func verify(_ content: UnsafeRawBufferPointer) throws(MultihashError) {
        let isEqual: Bool
        switch storage {
        case .sha256:
            isEqual = Multihash.sha256(of: content) == self
        case .other(let code, let digest):
            switch Multicodec(rawValue: code) {
            case .identity:
                isEqual = content.elementsEqual(digest)
            case .sha1:
                var hash = Insecure.SHA1()
                hash.update(bufferPointer: content)
                isEqual = hash.finalize().elementsEqual(digest)
            case .sha2_512:
                var hash = SHA512()
                hash.update(bufferPointer: content)
                isEqual = hash.finalize().elementsEqual(digest)
            case let unknown:
                throw .unsupportedFunction(unknown)
            }
        }
        guard isEqual else { throw .mismatch }
    }
}

extension Multihash: Hashable {
    public static func == (left: Multihash, right: Multihash) -> Bool {
        switch (left.storage, right.storage) {
        case (.sha256(let l0, let l1, let l2, let l3), .sha256(let r0, let r1, let r2, let r3)):
            l0 == r0 && l1 == r1 && l2 == r2 && l3 == r3
        case (.other(let leftCode, let leftDigest), .other(let rightCode, let rightDigest)):
            leftCode == rightCode && leftDigest == rightDigest
        default:
            false
        }
    }

    public func hash(into hasher: inout Hasher) {
        switch storage {
        case .sha256(let word, _, _, _):
            // A cryptographic digest is uniform: one word of it tells entries of a table apart.
            hasher.combine(word)
        case .other(let code, let digest):
            hasher.combine(code)
            hasher.combine(digest)
        }
    }
}

extension Multihash: Comparable {
    /// Orders by the binary form.
    public static func < (left: Multihash, right: Multihash) -> Bool {
        switch (left.storage, right.storage) {
        case (.sha256(let l0, let l1, let l2, let l3), .sha256(let r0, let r1, let r2, let r3)):
            (l0, l1, l2, l3) < (r0, r1, r2, r3)
        default:
            left.bytes.lexicographicallyPrecedes(right.bytes)
        }
    }
}

/// Hashes content that comes in pieces.
///
/// Pieces are hashed where they lie; nothing is copied. One small heap object a hasher.
public struct SHA256Hasher: Sendable {
    private var state = SHA256()

    /// Begins with no content.
    public init() {}

    /// Takes the next piece of the content.
    public mutating func update(_ piece: UnsafeRawBufferPointer) {
        state.update(bufferPointer: piece)
    }

    /// Takes the next piece of the content.
    public mutating func update(_ piece: [UInt8]) {
        piece.withUnsafeBytes { state.update(bufferPointer: $0) }
    }

    /// The hash of all pieces so far; the hasher can go on afterwards.
    public func finalize() -> Multihash {
        state.finalize().withUnsafeBytes { Multihash(sha256Digest: $0) }
    }
}

extension [UInt8] {
    /// `withUnsafeBytes` that keeps the type of what `body` throws.
    package func withRawBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try withUnsafeBufferPointer { (elements) throws(Failure) in
            try body(UnsafeRawBufferPointer(elements))
        }
    }
}
