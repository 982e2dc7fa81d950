import Serving
import Testing

@Suite struct RegistryJSONTests {
    /// Whether a text is one JSON value.
    private func isValue(_ text: String) -> Bool { isValue(Array(text.utf8)) }

    private func isValue(_ bytes: [UInt8]) -> Bool {
        var reader = JSONReader(bytes)
        do {
            try reader.skipValue()
            return reader.isAtEnd()
        } catch {
            return false
        }
    }

    @Test func valuesArePassedOver() {
        for text in [
            "null", " true ", "false", "0", "-1.5e+10", "\"\"", "\"\\u00e9\\n\\\"\"", "[]", "{}",
            "[1,[2,{\"a\":[]}],\"b\"]", "{\"a\":{\"b\":{}},\"c\":[{},{}]}", "[{},[],1]",
            "\"\u{e9}\"",
        ] {
            #expect(isValue(text), "\(text)")
        }
    }

    @Test func whatIsNoValueIsRefused() {
        for text in [
            "", " ", "nul", "truee", "01", "-", "1.", "1e", ".5", "+1", "\"", "\"\\x\"",
            "\"\\u00g0\"",
            "\"\\u00", "\"\n\"", "[", "]", "[1", "[1,", "[1,]", "[1 2]", "{", "{\"a\"", "{\"a\":",
            "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{a:1}", "{1:1}", "[}", "{]", "[1}", "{\"a\":1]",
            "1 2",
            "'a'", "NaN", "// a\n1",
        ] {
            #expect(!isValue(text), "\(text)")
        }
    }

    @Test func nestingIsBounded() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            func nested(_ depth: Int) -> String {
                String(repeating: open, count: depth) + "1" + String(repeating: close, count: depth)
            }
            #expect(isValue(nested(JSONReader.depthMax)))
            #expect(!isValue(nested(JSONReader.depthMax + 1)))
            var reader = JSONReader(Array(nested(100_000).utf8))
            #expect(throws: JSONFault.tooDeep) { try reader.skipValue() }
        }
    }

    @Test func stringsAreReadWithTheirEscapes() throws {
        for (text, value) in [
            ("\"a\"", "a"), ("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\u{8}\u{c}\n\r\t"),
            ("\"\\u0041\\u00e9\\u20ac\"", "A\u{e9}\u{20ac}"), ("\"\\ud83d\\ude00!\"", "\u{1f600}!"),
            ("\"\\ud83d\"", "\u{fffd}"), ("\"\\ude00\\ud83d\"", "\u{fffd}\u{fffd}"),
            ("\"\\ud83d\\u0041\"", "\u{fffd}A"), ("\"\u{1f600}\"", "\u{1f600}"),
        ] {
            var reader = JSONReader(Array(text.utf8))
            let read = try reader.readString()
            let isAtEnd = reader.isAtEnd()
            #expect(read == value && isAtEnd, "\(text)")
        }
        var broken = JSONReader([0x22, 0xff, 0x22])
        let repaired = try broken.readString()
        #expect(repaired == "\u{fffd}")
    }

    @Test func membersComeInTheirOrderAndTwice() throws {
        var reader = JSONReader(Array("{ \"b\" : 1, \"a\" : [2], \"b\" : {} }".utf8))
        var names: [String] = []
        try reader.readMembers { (reader, name) throws(JSONFault) in
            names.append(name)
            try reader.skipValue()
        }
        let isAtEnd = reader.isAtEnd()
        #expect(names == ["b", "a", "b"] && isAtEnd)
    }

    @Test func noBytesMakeTheReaderFail() {
        let seed = UInt64.random(in: .min ... .max)
        print("RegistryJSONTests seed \(seed)")
        var generator = RegistrySeeded(state: seed)
        let text = Array(
            Manifests.image(
                layers: ["sha256:\\u00e9"], subject: "a", annotations: "{\"a\":\"\\ud83d\\ude00\"}"
            ).utf8)
        for length in 0..<text.count { #expect(!isValue(Array(text[..<length]))) }
        #expect(isValue(text))
        for _ in 0..<20_000 {
            var bytes = text
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let index = Int.random(in: 0..<bytes.count, using: &generator)
                bytes[index] = Array("\"\\{}[],:u0\u{0}".utf8).randomElement(using: &generator) ?? 0
            }
            _ = isValue(bytes)
        }
    }
}
