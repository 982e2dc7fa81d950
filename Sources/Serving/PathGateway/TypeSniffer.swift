/// The types of files by how they begin.
///
/// Source: https://mimesniff.spec.whatwg.org/, and JSON and SVG, which it does not tell from text
enum TypeSniffer {
    /// How many bytes of the beginning are looked at.
    static let byteCount = 512

    /// The type of what begins with these bytes, `application/octet-stream` where nothing is known of them.
    static func type(of beginning: some Collection<UInt8>) -> String {
        let bytes = Array(beginning.prefix(byteCount))
        if let (_, _, type) = signatures.first(where: { matches($0.1, bytes, at: $0.0) }) {
            return type
        }
        if let type = typeInContainer(bytes) { return type }
        if let type = typeOfMarks(bytes) { return type }
        if bytes.starts(with: [0xfe, 0xff]) { return "text/plain; charset=utf-16be" }
        if bytes.starts(with: [0xff, 0xfe]) { return "text/plain; charset=utf-16le" }
        return bytes.contains(where: isBinary)
            ? "application/octet-stream" : "text/plain; charset=utf-8"
    }

    /// Where a signature stands, its bytes, and the type.
    private static let signatures: [(Int, [UInt8], String)] = [
        (0, Array("%PDF-".utf8), "application/pdf"),
        (0, Array("%!PS-Adobe-".utf8), "application/postscript"),
        (0, [0x89] + Array("PNG\r\n".utf8) + [0x1a, 0x0a], "image/png"),
        (0, [0xff, 0xd8, 0xff], "image/jpeg"),
        (0, Array("GIF87a".utf8), "image/gif"),
        (0, Array("GIF89a".utf8), "image/gif"),
        (0, [0x00, 0x00, 0x01, 0x00], "image/vnd.microsoft.icon"),
        (0, Array("BM".utf8), "image/bmp"),
        (0, [0x49, 0x49, 0x2a, 0x00], "image/tiff"),
        (0, [0x4d, 0x4d, 0x00, 0x2a], "image/tiff"),
        (0, [0x1a, 0x45, 0xdf, 0xa3], "video/webm"),
        (0, Array("OggS".utf8) + [0x00], "application/ogg"),
        (0, Array("fLaC".utf8), "audio/flac"),
        (0, Array("ID3".utf8), "audio/mpeg"),
        (0, [0xff, 0xfb], "audio/mpeg"),
        (0, Array("MThd".utf8) + [0x00, 0x00, 0x00, 0x06], "audio/midi"),
        (0, Array("wOFF".utf8), "font/woff"),
        (0, Array("wOF2".utf8), "font/woff2"),
        (0, [0x00, 0x01, 0x00, 0x00], "font/ttf"),
        (0, Array("OTTO".utf8), "font/otf"),
        (0, [0x1f, 0x8b, 0x08], "application/gzip"),
        (0, [0x28, 0xb5, 0x2f, 0xfd], "application/zstd"),
        (0, Array("BZh".utf8), "application/x-bzip2"),
        (0, [0xfd] + Array("7zXZ".utf8) + [0x00], "application/x-xz"),
        (0, Array("PK".utf8) + [0x03, 0x04], "application/zip"),
        (0, Array("Rar!".utf8) + [0x1a, 0x07], "application/vnd.rar"),
        (0, Array("7z".utf8) + [0xbc, 0xaf, 0x27, 0x1c], "application/x-7z-compressed"),
        (257, Array("ustar".utf8), "application/x-tar"),
        (0, [0x00] + Array("asm".utf8), "application/wasm"),
        (0, [0x7f] + Array("ELF".utf8), "application/x-elf"),
        (0, Array("SQLite format 3".utf8) + [0x00], "application/vnd.sqlite3"),
        (0, Array("PAR1".utf8), "application/vnd.apache.parquet"),
    ]

    /// RIFF and the boxes of ISO media, which say behind their length what they hold.
    private static func typeInContainer(_ bytes: [UInt8]) -> String? {
        if bytes.starts(with: "RIFF".utf8) {
            if matches(Array("WEBPVP".utf8), bytes, at: 8) { return "image/webp" }
            if matches(Array("WAVE".utf8), bytes, at: 8) { return "audio/wav" }
            if matches(Array("AVI ".utf8), bytes, at: 8) { return "video/x-msvideo" }
        }
        guard matches(Array("ftyp".utf8), bytes, at: 4), bytes.count >= 12 else { return nil }
        switch String(decoding: bytes[8..<12], as: UTF8.self) {
        case "avif", "avis": return "image/avif"
        case "heic", "heix", "mif1": return "image/heic"
        case "qt  ": return "video/quicktime"
        case "M4A ": return "audio/mp4"
        default: return "video/mp4"
        }
    }

    /// HTML, XML, SVG and JSON, behind blanks and the mark of UTF-8.
    private static func typeOfMarks(_ bytes: [UInt8]) -> String? {
        let isMarked = bytes.starts(with: [0xef, 0xbb, 0xbf])
        let text = (isMarked ? bytes.dropFirst(3) : bytes[...]).drop(while: isBlank)
        if text.first == UInt8(ascii: "<") {
            let small = text.map(lowercased)
            if small.starts(with: "<!--".utf8) || tags.contains(where: { begins(small, with: $0) })
            {
                return "text/html"
            }
            let hasSVG = small.indices.contains { begins(small[$0...], with: "<svg") }
            if begins(small, with: "<svg") || (small.starts(with: "<?xml".utf8) && hasSVG) {
                return "image/svg+xml"
            }
            if small.starts(with: "<?xml".utf8) { return "text/xml; charset=utf-8" }
        }
        guard !bytes.contains(where: isBinary) else { return nil }
        // An object begins with the name of its first member, and a list that is told from text with a string or one of those.
        let next = text.dropFirst().drop(while: isBlank).first
        switch (text.first, next) {
        case (UInt8(ascii: "{"), UInt8(ascii: "\"")), (UInt8(ascii: "{"), UInt8(ascii: "}")),
            (UInt8(ascii: "["), UInt8(ascii: "\"")), (UInt8(ascii: "["), UInt8(ascii: "{")):
            return "application/json"
        default: return nil
        }
    }

    private static let tags = [
        "<!doctype html", "<html", "<head", "<script", "<iframe", "<h1", "<div", "<font", "<table",
        "<a", "<style", "<title", "<b", "<body", "<br", "<p",
    ]

    /// Whether text begins with a tag that ends there.
    private static func begins(_ text: some Collection<UInt8>, with tag: String) -> Bool {
        guard text.starts(with: tag.utf8) else { return false }
        let next = text.dropFirst(tag.utf8.count).first
        return next.map { isBlank($0) || $0 == UInt8(ascii: ">") } ?? false
    }

    private static func matches(_ signature: [UInt8], _ bytes: [UInt8], at offset: Int) -> Bool {
        bytes.dropFirst(offset).starts(with: signature)
    }

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0c || byte == 0x0d
    }

    private static func isBinary(_ byte: UInt8) -> Bool {
        byte <= 0x08 || byte == 0x0b || (0x0e...0x1a).contains(byte) || (0x1c...0x1f).contains(byte)
    }

    private static func lowercased(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
    }
}
