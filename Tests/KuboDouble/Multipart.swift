internal import Glibc

/// Takes a `multipart/form-data` body apart while it comes, part by part.
struct MultipartReader {
    struct Part {
        var name: String
        /// As it stands in the header, unescaped.
        var fileName: [UInt8]?
        var contentType: String
    }

    /// The headers of one part, in bytes.
    private static let headersMax = 1 << 16

    private let next: () throws(Halt) -> [UInt8]?
    /// What separates parts, with the line break before it.
    private let delimiter: [UInt8]
    private var buffer: [UInt8]
    private var start = 0
    /// Within the body of a part.
    private var isInPart = false
    private var isOver = false

    private static let cut = Halt.failed("unexpected EOF")

    /// - Parameter next: gives the body piece by piece, nil at its end.
    init(boundary: String, next: @escaping () throws(Halt) -> [UInt8]?) {
        self.next = next
        delimiter = Array(("\r\n--" + boundary).utf8)
        // The first delimiter has no line break before it.
        buffer = [0x0d, 0x0a]
    }

    /// The next part; what was not read of the one before is skipped. Nil behind the last.
    mutating func nextPart() throws(Halt) -> Part? {
        if isInPart {
            while try !readSome(limit: 1 << 16).isEmpty {}
        } else if !isOver, start == 0 {
            // Whatever stands before the first delimiter.
            isInPart = true
            while try !readSome(limit: 1 << 16).isEmpty {}
        }
        guard !isOver else { return nil }
        // Behind the delimiter: `--` at the end of all, else a line break and headers.
        let two = try take(2)
        if two == Array("--".utf8) {
            isOver = true
            // What follows has no meaning, but belongs to the request.
            while try next() != nil {}
            return nil
        }
        guard two == [0x0d, 0x0a] else { throw Halt.failed("multipart: expecting a new Part") }
        var headers: [UInt8] = []
        while !headers.ends(with: [0x0d, 0x0a, 0x0d, 0x0a]) && headers != [0x0d, 0x0a] {
            headers += try take(1)
            guard headers.count <= Self.headersMax else {
                throw .failed("multipart: message too large")
            }
        }
        isInPart = true
        return Self.parse(headers)
    }

    /// Some bytes of the part, at most `limit`; none at its end.
    mutating func readSome(limit: Int) throws(Halt) -> ArraySlice<UInt8> {
        guard isInPart else { return [] }
        while true {
            let available = buffer.count - start
            if let match = find() {
                if match == start {
                    start += delimiter.count
                    isInPart = false
                    return []
                }
                return taken(min(limit, match - start))
            }
            // The last bytes may be the beginning of a delimiter.
            let safe = available - (delimiter.count - 1)
            if safe > 0 { return taken(min(limit, safe)) }
            try fill()
        }
    }

    private mutating func taken(_ count: Int) -> ArraySlice<UInt8> {
        let piece = buffer[start..<(start + count)]
        start += count
        return piece
    }

    /// The rest of the part.
    mutating func readAll(limit: Int) throws(Halt) -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let piece = try readSome(limit: 1 << 20)
            if piece.isEmpty { return bytes }
            bytes += piece
            guard bytes.count <= limit else { throw .failed("http: request body too large") }
        }
    }

    /// Where the next delimiter begins.
    private func find() -> Int? {
        buffer.withUnsafeBytes { raw in
            guard let base = raw.baseAddress else { return nil }
            var index = start
            while raw.count - index >= delimiter.count {
                // The line break in front is rare in most content.
                guard let match = memchr(base + index, 0x0d, raw.count - index) else { return nil }
                index = UnsafeRawPointer(match) - base
                guard raw.count - index >= delimiter.count else { return nil }
                if memcmp(base + index, delimiter, delimiter.count) == 0 { return index }
                index += 1
            }
            return nil
        }
    }

    private mutating func take(_ count: Int) throws(Halt) -> [UInt8] {
        while buffer.count - start < count { try fill() }
        return Array(taken(count))
    }

    private mutating func fill() throws(Halt) {
        guard let piece = try next() else { throw Self.cut }
        if start > 0 {
            buffer.removeSubrange(..<start)
            start = 0
        }
        buffer += piece
    }

    private static func parse(_ headers: [UInt8]) -> Part {
        var part = Part(name: "", fileName: nil, contentType: "")
        for line in headers.split(whereSeparator: { $0 == 0x0d || $0 == 0x0a }) {
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { continue }
            let key = String(decoding: line[..<colon], as: UTF8.self).lowercased()
            let value = line[(colon + 1)...].drop { $0 == UInt8(ascii: " ") }
            if key == "content-type" {
                part.contentType = String(decoding: value, as: UTF8.self)
            } else if key == "content-disposition" {
                for field in value.split(separator: UInt8(ascii: ";")) {
                    let field = field.drop { $0 == UInt8(ascii: " ") }
                    if let text = quoted(field, "name=") {
                        part.name = String(decoding: text, as: UTF8.self)
                    } else if let text = quoted(field, "filename=") {
                        part.fileName = URLText.unescaped(Array(text))
                    }
                }
            }
        }
        return part
    }

    private static func quoted(_ field: ArraySlice<UInt8>, _ key: String) -> ArraySlice<UInt8>? {
        guard field.starts(with: key.utf8) else { return nil }
        return field.dropFirst(key.utf8.count).drop { $0 == UInt8(ascii: "\"") }
            .prefix { $0 != UInt8(ascii: "\"") }
    }
}

extension [UInt8] {
    fileprivate func ends(with suffix: [UInt8]) -> Bool {
        count >= suffix.count && self[(count - suffix.count)...].elementsEqual(suffix)
    }
}

/// The escapes of queries.
enum URLText {
    /// `%41` and `+` as what they stand for.
    static func unescaped(_ text: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count)
        var index = 0
        while index < text.count {
            if text[index] == UInt8(ascii: "%"), index + 2 < text.count,
                let byte = UInt8(
                    String(decoding: text[(index + 1)...(index + 2)], as: UTF8.self), radix: 16)
            {
                bytes.append(byte)
                index += 3
            } else {
                bytes.append(text[index] == UInt8(ascii: "+") ? UInt8(ascii: " ") : text[index])
                index += 1
            }
        }
        return bytes
    }
}
