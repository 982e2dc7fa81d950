import Multiformats
import Testing

@Suite struct VarintTests {
    @Test(arguments: [
        (UInt64(0), "00"), (1, "01"), (127, "7f"), (128, "8001"), (255, "ff01"), (300, "ac02"),
        (16384, "808001"), (0x129, "a902"), (0xf101, "81e203"), (0x0400, "8008"), (0x0401, "8108"),
        (UInt64(Int64.max), "ffffffffffffffff7f"),
    ])
    func numbersHaveOneForm(value: UInt64, digits: String) throws {
        var bytes: [UInt8] = []
        Varint.append(value, to: &bytes)
        #expect(bytes == hex(digits))
        #expect(Varint.length(of: value) == bytes.count)
        let read = try decode(bytes + [0xff])
        #expect(read.value == value)
        #expect(read.length == bytes.count)
    }

    @Test func protobufHasRoomForSixtyFourBits() throws {
        var bytes: [UInt8] = []
        Varint.append(.max, to: &bytes)
        #expect(bytes == hex("ffffffffffffffffff01"))
        #expect(Varint.length(of: .max) == 10)
        #expect(try decode(bytes, lengthMax: Varint.protobufLengthMax).value == .max)
        #expect(throws: VarintError.tooLarge) { try decode(bytes) }
    }

    @Test(arguments: [
        ("", VarintError.truncated), ("80", .truncated), ("ffff", .truncated),
        ("8000", .notMinimal),
        ("818000", .notMinimal), ("80808080808080808001", .tooLarge),
        ("ffffffffffffffffff7f", .tooLarge), ("ffffffffffffffffffffffff", .tooLarge),
    ])
    func otherFormsAreRejected(digits: String, error: VarintError) {
        #expect(throws: error) { try decode(hex(digits)) }
    }

    @Test func theTenthByteOfProtobufHoldsOneBit() {
        let bytes = hex("ffffffffffffffffff02")
        #expect(throws: VarintError.tooLarge) {
            try decode(bytes, lengthMax: Varint.protobufLengthMax)
        }
    }

    private func decode(
        _ bytes: [UInt8], lengthMax: Int = Varint.lengthMax
    ) throws -> (value: UInt64, length: Int) {
        try bytes.withUnsafeBytes { try Varint.decode($0, lengthMax: lengthMax) }
    }
}
