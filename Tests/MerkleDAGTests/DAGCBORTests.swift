import MerkleDAG
import Multiformats
import Testing

@Suite struct DAGCBORTests {
    private static let link = CID.raw(sha256: [1, 2, 3])

    @Test(
        arguments: [
            ("00", .unsigned(0)), ("17", .unsigned(23)), ("1818", .unsigned(24)),
            ("18ff", .unsigned(255)), ("190100", .unsigned(256)), ("1a00010000", .unsigned(65536)),
            ("1b0000000100000000", .unsigned(1 << 32)), ("1bffffffffffffffff", .unsigned(.max)),
            ("20", .negative(0)), ("3bffffffffffffffff", .negative(.max)),
            ("40", .bytes([])), ("43010203", .bytes([1, 2, 3])), ("60", .text("")),
            ("6161", .text("a")), ("62c3a4", .text("\u{e4}")), ("80", .list([])),
            ("83010203", .list([.unsigned(1), .unsigned(2), .unsigned(3)])), ("a0", .map([])),
            ("a16161f6", .map([.init("a", .null)])), ("f4", .bool(false)), ("f5", .bool(true)),
            ("fb3ff8000000000000", .float(1.5)),
            ("a2616201626161f5", .map([.init("b", .unsigned(1)), .init("aa", .bool(true))])),
        ] as [(String, DAGCBOR)])
    func valuesHaveOneForm(_ digits: String, value: DAGCBOR) throws {
        #expect(try DAGCBOR(decoding: Self.bytes(digits)) == value)
        #expect(value.encoded == Self.bytes(digits))
    }

    @Test func linksAreReadAndWritten() throws {
        let value = DAGCBOR.link(Self.link)
        #expect(value.encoded == Self.bytes("d82a582500") + Self.link.bytes)
        #expect(try DAGCBOR(decoding: value.encoded) == value)
        #expect(
            CID(codec: .dagCBOR, multihash: .sha256(of: DAGCBOR.map([]).encoded)).description
                == "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua")
    }

    @Test(
        arguments: [
            ("1817", .notShortest(offset: 0)), ("1900ff", .notShortest(offset: 0)),
            ("1a0000ffff", .notShortest(offset: 0)),
            ("1b00000000ffffffff", .notShortest(offset: 0)),
            ("1c", .notShortest(offset: 0)), ("1f", .notShortest(offset: 0)),
            ("5f4101ff", .notShortest(offset: 0)), ("9f01ff", .notShortest(offset: 0)),
            ("5801", .notShortest(offset: 0)), ("", .truncated), ("18", .truncated),
            ("43 0102", .truncated),
            ("81", .truncated), ("a16161", .truncated), ("bbffffffffffffffff", .truncated),
            ("9bffffffffffffffff", .truncated), ("5bffffffffffffffff", .truncated),
            ("f7", .unexpected(offset: 0)), ("f0", .unexpected(offset: 0)),
            ("f820", .unexpected(offset: 0)), ("ff", .unexpected(offset: 0)),
            ("f93e00", .badFloat(offset: 0)), ("fa3fc00000", .badFloat(offset: 0)),
            ("fb7ff0000000000000", .badFloat(offset: 0)),
            ("fb7ff8000000000000", .badFloat(offset: 0)),
            ("61ff", .badText(offset: 0)), ("62c080", .badText(offset: 0)),
            ("a2616101616102", .keyOutOfOrder(offset: 4)),
            ("a2616201616102", .keyOutOfOrder(offset: 4)),
            ("a262616101616202", .keyOutOfOrder(offset: 5)), ("a10101", .unexpected(offset: 1)),
            ("c001", .badTag(0)), ("d82a01", .unexpected(offset: 2)),
            ("d82a40", .badLink(offset: 0)),
            ("d82a4101", .badLink(offset: 0)), ("0000", .trailingBytes(count: 1)),
        ] as [(String, DAGCBORError)])
    func otherFormsAreRefused(_ digits: String, error: DAGCBORError) {
        #expect(throws: error) { try DAGCBOR(decoding: Self.bytes(digits)) }
    }

    @Test func depthAndCountAreBounded() throws {
        func nested(_ depth: Int) -> [UInt8] { [UInt8](repeating: 0x81, count: depth) + [0x00] }
        #expect(try DAGCBOR(decoding: nested(DAGCBOR.depthMax)).encoded == nested(DAGCBOR.depthMax))
        #expect(throws: DAGCBORError.tooDeep) {
            try DAGCBOR(decoding: nested(DAGCBOR.depthMax + 1))
        }
        #expect(throws: DAGCBORError.tooDeep) { try DAGCBOR(decoding: nested(1 << 20)) }
        let many = DAGCBOR.list([DAGCBOR](repeating: .null, count: 99)).encoded
        #expect(throws: DAGCBORError.tooMany(limit: 99)) {
            try DAGCBOR(decoding: many, valueCountMax: 99)
        }
        _ = try DAGCBOR(decoding: many, valueCountMax: 100)
    }

    @Test func mapsAreWrittenInTheirOrder() throws {
        let keys = ["zz", "a", "b", "aaa", "Z", "\u{e4}"]
        let map = DAGCBOR.map(keys.map { .init($0, .text($0)) })
        let read = try DAGCBOR(decoding: map.encoded)
        guard case .map(let entries) = read else {
            Issue.record("no map")
            return
        }
        #expect(entries.map(\.key) == ["Z", "a", "b", "zz", "\u{e4}", "aaa"])
        #expect(read["aaa"] == .text("aaa"))
        // The same to Swift, other bytes.
        #expect(read["a\u{308}"] == nil)
    }

    @Test func whatIsReadIsWrittenBackByteForByte() throws {
        var generator = SystemRandomNumberGenerator()
        var count = 0
        for _ in 0..<200_000 {
            let bytes = (0..<Int.random(in: 1...12, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            guard let value = try? DAGCBOR(decoding: bytes) else { continue }
            count += 1
            #expect(value.encoded == bytes)
        }
        #expect(count > 0)
    }

    private static func bytes(_ digits: String) -> [UInt8] {
        let values = digits.compactMap(\.hexDigitValue)
        return stride(from: 0, to: values.count - 1, by: 2).map {
            UInt8(values[$0] * 16 + values[$0 + 1])
        }
    }
}
