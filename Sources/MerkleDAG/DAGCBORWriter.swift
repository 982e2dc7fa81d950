public import Multiformats

/// Writes values in DAG-CBOR one after the other.
///
/// Whoever writes a map gives its keys in their order: the shorter first, those of one length by their bytes.
public struct DAGCBORWriter: Sendable {
    /// What was written so far.
    public private(set) var bytes: [UInt8] = []

    public init() {}

    /// Writes a number that is not negative.
    public mutating func append(_ value: UInt64) { appendHead(.unsigned, value) }

    /// Writes the number -1 - n.
    public mutating func append(negative n: UInt64) { appendHead(.negative, n) }

    /// Writes a number of either sign.
    public mutating func append(_ value: Int64) {
        if value < 0 {
            appendHead(.negative, UInt64(-1 - value))
        } else {
            appendHead(.unsigned, UInt64(value))
        }
    }

    public mutating func append(_ value: Bool) {
        bytes.append(value ? CBORMajor.trueValue : CBORMajor.falseValue)
    }

    public mutating func appendNull() { bytes.append(CBORMajor.nullValue) }

    /// - Precondition: the value is finite.
    public mutating func append(_ value: Double) {
        precondition(value.isFinite, "DAG-CBOR has no such float")
        bytes.append(CBORMajor.double)
        Swift.withUnsafeBytes(of: value.bitPattern.bigEndian) { bytes.append(contentsOf: $0) }
    }

    /// Writes a byte string.
    public mutating func append(bytes content: some Collection<UInt8>) {
        appendHead(.bytes, UInt64(content.count))
        bytes.append(contentsOf: content)
    }

    /// Writes a text, or a key.
    public mutating func append(text: String) {
        appendHead(.text, UInt64(text.utf8.count))
        bytes.append(contentsOf: text.utf8)
    }

    /// Writes a link.
    public mutating func append(_ cid: CID) {
        appendHead(.tag, CBORMajor.linkTag)
        appendHead(.bytes, UInt64(cid.byteCount + 1))
        // The binary CID as a multibase "identity" text.
        bytes.append(0)
        cid.append(to: &bytes)
    }

    /// Writes what is encoded already: values, or what is left of a list or map that was begun.
    public mutating func append(encoded values: some Collection<UInt8>) {
        bytes.append(contentsOf: values)
    }

    /// Writes the head of a list, whose values have to follow.
    public mutating func appendListHead(count: Int) { appendHead(.list, UInt64(count)) }

    /// Writes the head of a map, whose keys and values have to follow in turns.
    public mutating func appendMapHead(count: Int) { appendHead(.map, UInt64(count)) }

    private mutating func appendHead(_ major: CBORMajor, _ value: UInt64) {
        let kind = major.rawValue << 5
        let width: Int
        switch value {
        case ..<24:
            bytes.append(kind | UInt8(value))
            return
        case ...0xff: (width, _) = (1, bytes.append(kind | 24))
        case ...0xffff: (width, _) = (2, bytes.append(kind | 25))
        case ...0xffff_ffff: (width, _) = (4, bytes.append(kind | 26))
        default: (width, _) = (8, bytes.append(kind | 27))
        }
        for index in (0..<width).reversed() {
            bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index)))
        }
    }
}
