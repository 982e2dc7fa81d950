import Multiformats
import Testing

@Suite struct MultibaseTests {
    /// The published vectors of multibase ("yes mani !" and leading zeros).
    @Test(arguments: [
        (Multibase.base16, "f796573206d616e692021", "f00796573206d616e692021"),
        (.base16Upper, "F796573206D616E692021", "F00796573206D616E692021"),
        (.base32, "bpfsxgidnmfxgsibb", "bab4wk4zanvqw42jaee"),
        (.base32Upper, "BPFSXGIDNMFXGSIBB", "BAB4WK4ZANVQW42JAEE"),
        (.base36, "k2lcpzo5yikidynfl", "k02lcpzo5yikidynfl"),
        (.base36Upper, "K2LCPZO5YIKIDYNFL", "K02LCPZO5YIKIDYNFL"),
        (.base58btc, "z7paNL19xttacUY", "z17paNL19xttacUY"),
        (.base64url, "ueWVzIG1hbmkgIQ", "uAHllcyBtYW5pICE"),
    ])
    func publishedTextsAreReadAndWritten(base: Multibase, text: String, zeroText: String) throws {
        let bytes = Array("yes mani !".utf8)
        #expect(base.encode(bytes) == text)
        #expect(base.encode([0] + bytes) == zeroText)
        #expect(try Multibase.decode(text).bytes == bytes)
        #expect(try Multibase.decode(zeroText).bytes == [0] + bytes)
        #expect(try Multibase.decode(text).base == base)
    }

    @Test(arguments: Multibase.allCases)
    func everyLengthSurvivesARoundTrip(base: Multibase) throws {
        var bytes: [UInt8] = []
        var state: UInt32 = 1
        for _ in 0..<80 {
            let text = base.encode(bytes)
            #expect(try Multibase.decode(text).bytes == bytes)
            let bare = base.encodeWithoutPrefix(bytes)
            #expect(String(base.prefix) + bare == text)
            #expect(try base.decodeWithoutPrefix(bare) == bytes)
            state = state &* 1_664_525 &+ 1_013_904_223
            bytes.append(UInt8(truncatingIfNeeded: state >> 24))
        }
    }

    @Test(arguments: Multibase.allCases)
    func leadingZerosAreKept(base: Multibase) throws {
        for count in 0..<10 {
            let bytes = [UInt8](repeating: 0, count: count)
            #expect(try Multibase.decode(base.encode(bytes)).bytes == bytes)
        }
    }

    @Test(arguments: [
        ("", MultibaseError.empty), ("!abc", .unknownBase("!")), ("ñabc", .unknownBase("ñ")),
        ("f0g", .badDigit(offset: 2)), ("f0F", .badDigit(offset: 2)), ("f0", .badEnding),
        ("F0a", .badDigit(offset: 2)),
        ("bA", .badDigit(offset: 1)), ("b1", .badDigit(offset: 1)), ("ba", .badEnding),
        ("baaa", .badEnding), ("bab", .badEnding), ("baa=", .badDigit(offset: 3)),
        ("kA", .badDigit(offset: 1)), ("z0", .badDigit(offset: 1)), ("zl", .badDigit(offset: 1)),
        ("uA", .badEnding), ("uAB", .badEnding), ("uA+", .badDigit(offset: 2)),
        ("bé", .badDigit(offset: 1)),
    ])
    func malformedTextsAreRejected(text: String, error: MultibaseError) {
        #expect(throws: error) { try Multibase.decode(text) }
    }

    @Test func textsAreBounded() {
        let text = "z" + String(repeating: "1", count: Multibase.digitCountMax + 1)
        #expect(throws: MultibaseError.tooLong(count: text.utf8.count)) {
            try Multibase.decode(text)
        }
    }
}
