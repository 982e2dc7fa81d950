internal import HTTPTypes

extension HTTPField.Name {
    /// The path that was asked for.
    static let ipfsPath = known("X-Ipfs-Path")
    /// The CIDs that the path led over.
    static let ipfsRoots = known("X-Ipfs-Roots")

    private static func known(_ text: String) -> HTTPField.Name {
        guard let name = HTTPField.Name(text) else {
            preconditionFailure("\(text) is no name of a field")
        }
        return name
    }
}

/// Texts for fields of answers that have in them what a client said.
enum FieldText {
    /// The value of Content-Disposition for a file to be saved.
    ///
    /// What is not ASCII becomes `_` in the name that every browser knows, and stands beside it as UTF-8.
    static func attachment(_ name: String) -> String {
        var plain = ""
        for scalar in name.unicodeScalars {
            let isPlain =
                (0x20..<0x7f).contains(scalar.value) && !["\"", "\\", "/"].contains(scalar)
            plain.unicodeScalars.append(isPlain ? scalar : "_")
        }
        let text = "attachment; filename=\"\(plain)\""
        guard name.utf8.contains(where: { $0 >= 0x80 }) else { return text }
        return text + "; filename*=UTF-8''" + escaped(Array(name.utf8))
    }

    /// Percent signs for all but the characters that mean nothing anywhere in a URL.
    static func escaped(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        for byte in bytes {
            if isUnreserved(byte) {
                text.append(byte)
            } else {
                appendEscaped(byte, to: &text)
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// A path as it came, so that it can stand in a field: what no URL has is escaped.
    static func path(_ raw: String) -> String {
        var text: [UInt8] = []
        for byte in raw.utf8 {
            if (0x21..<0x7f).contains(byte) {
                text.append(byte)
            } else {
                appendEscaped(byte, to: &text)
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
            UInt8(ascii: "_"), UInt8(ascii: "~"):
            true
        default: false
        }
    }

    private static func appendEscaped(_ byte: UInt8, to text: inout [UInt8]) {
        let digits = Array("0123456789ABCDEF".utf8)
        text += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
    }
}
