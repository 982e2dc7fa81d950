internal import Base
internal import MerkleDAG
internal import Multiformats

/// The protobuf of a record.
struct RecordFields {
    var value: [UInt8]?
    var signatureV1: [UInt8]?
    var validityType: UInt64?
    var validity: [UInt8]?
    var sequence: UInt64?
    var ttl: UInt64?
    var publicKey: [UInt8]?
    var signatureV2: [UInt8]?
    var data: [UInt8]?

    init() {}

    /// Fields of other numbers are passed over, as protobuf wants it.
    init(decoding bytes: [UInt8]) throws(IPNSRecordError) {
        do throws(BlockFormatError) {
            self = try bytes.withBytes { (raw) throws(BlockFormatError) in
                var fields = RecordFields()
                var reader = ProtobufReader(raw, in: 0..<raw.count)
                while !reader.isAtEnd { try fields.take(&reader, raw) }
                return fields
            }
        } catch {
            throw .malformed("\(error)")
        }
    }

    private mutating func take(
        _ reader: inout ProtobufReader, _ raw: UnsafeRawBufferPointer
    ) throws(BlockFormatError) {
        let (field, type) = try reader.readTag()
        let bytes: [UInt64: WritableKeyPath<RecordFields, [UInt8]?>] = [
            1: \.value, 2: \.signatureV1, 4: \.validity, 7: \.publicKey, 8: \.signatureV2,
            9: \.data,
        ]
        let numbers: [UInt64: WritableKeyPath<RecordFields, UInt64?>] = [
            3: \.validityType, 5: \.sequence, 6: \.ttl,
        ]
        if let path = bytes[field] {
            guard type == .bytes else { throw .wrongWireType(field: field) }
            guard self[keyPath: path] == nil else { throw .duplicateField(field) }
            self[keyPath: path] = Array(raw[try reader.readRange()])
        } else if let path = numbers[field] {
            guard type == .varint else { throw .wrongWireType(field: field) }
            guard self[keyPath: path] == nil else { throw .duplicateField(field) }
            self[keyPath: path] = try reader.readVarint()
        } else {
            try reader.skip(type)
        }
    }

    var encoded: [UInt8] {
        var bytes: [UInt8] = []
        if let value { bytes.appendBytesField(tag: 0x0a, value) }
        if let signatureV1 { bytes.appendBytesField(tag: 0x12, signatureV1) }
        if let validityType { bytes.appendVarintField(tag: 0x18, validityType) }
        if let validity { bytes.appendBytesField(tag: 0x22, validity) }
        if let sequence { bytes.appendVarintField(tag: 0x28, sequence) }
        if let ttl { bytes.appendVarintField(tag: 0x30, ttl) }
        if let publicKey { bytes.appendBytesField(tag: 0x3a, publicKey) }
        if let signatureV2 { bytes.appendBytesField(tag: 0x42, signatureV2) }
        if let data { bytes.appendBytesField(tag: 0x4a, data) }
        return bytes
    }

    /// Where there is anything of V1, all of it says what data says; a field that is not there says 0.
    func compare(with data: RecordData) throws(IPNSRecordError) {
        guard signatureV1?.isEmpty == false || value?.isEmpty == false else { return }
        guard value ?? [] == data.value else { throw .fieldMismatch("value") }
        guard validity ?? [] == data.validity else { throw .fieldMismatch("validity") }
        guard validityType ?? 0 == data.validityType else { throw .fieldMismatch("validity type") }
        guard sequence ?? 0 == data.sequence else { throw .fieldMismatch("sequence") }
        guard ttl ?? 0 == data.ttl else { throw .fieldMismatch("TTL") }
    }
}

/// What of a record is signed.
struct RecordData {
    /// Source: https://specs.ipfs.tech/ipns/ipns-record/ "Record Creation".
    static let signedPrefix = Array("ipns-signature:".utf8)
    /// A record has five values, and room for some of others' in 10 KiB.
    private static let valueCountMax = 4096

    var value: [UInt8]
    var validity: [UInt8]
    var validityType: UInt64
    var sequence: UInt64
    var ttl: UInt64

    init(
        value: [UInt8], validity: [UInt8], validityType: UInt64, sequence: UInt64, ttl: UInt64
    ) {
        self.value = value
        self.validity = validity
        self.validityType = validityType
        self.sequence = sequence
        self.ttl = ttl
    }

    init(decoding bytes: [UInt8]) throws(IPNSRecordError) {
        let map: DAGCBOR
        do throws(DAGCBORError) {
            map = try DAGCBOR(decoding: bytes, valueCountMax: Self.valueCountMax)
        } catch {
            throw .badData("it is no DAG-CBOR (\(error))")
        }
        func number(_ key: String) throws(IPNSRecordError) -> UInt64 {
            guard case .unsigned(let value)? = map[key] else {
                throw .badData("\(key) is no number of 0 or more")
            }
            return value
        }
        func content(_ key: String) throws(IPNSRecordError) -> [UInt8] {
            guard case .bytes(let value)? = map[key] else {
                throw .badData("\(key) is no byte string")
            }
            return value
        }
        self.init(
            value: try content("Value"), validity: try content("Validity"),
            validityType: try number("ValidityType"), sequence: try number("Sequence"),
            ttl: try number("TTL"))
    }

    var encoded: [UInt8] {
        DAGCBOR.map([
            .init("TTL", .unsigned(ttl)), .init("Value", .bytes(value)),
            .init("Sequence", .unsigned(sequence)), .init("Validity", .bytes(validity)),
            .init("ValidityType", .unsigned(validityType)),
        ]).encoded
    }
}
