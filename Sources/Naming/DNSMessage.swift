// Questions for TXT records, and the packets that answer them.
//
// Layout:   header of 12 bytes: id, flags, and the counts of questions, answers, authorities and others, 16 bits
//           each, big-endian; then those. Question = name, type, class. Record = name, type, class, TTL (32
//           bits), length (16), data. Name = labels, each a length of 1 to 63 and its bytes, until a length of 0
//           or a pointer (two bytes from C0 00 on) to an earlier place of the packet. TXT data = strings, each
//           a length byte and its bytes; the text is all of them, one behind the other.
// Validity: the question is the one that was asked, but for case; every length lies within what surrounds it; a
//           pointer leads back; a name has 255 bytes at most. A TTL with the top bit counts as 0.
// Source:   RFC 1035 section 4, RFC 2181 section 8, RFC 2308 section 5

internal import Base

/// Why a packet does not answer a question.
package enum DNSMessageError: Error, Hashable {
    /// It ends within something.
    case truncated
    /// It is a question, or an answer to another one.
    case notTheAnswer
    /// A name is too long, or a pointer leads forward.
    case badName(offset: Int)
    /// A TXT record's strings do not fill it.
    case badText(offset: Int)
    /// There are more records than are read.
    case tooMany
}

/// A packet of a name server.
package struct DNSMessage {
    /// The most records that are read of a packet; one of 65,535 bytes has room for 5,957.
    static let recordCountMax = 8192
    /// The longest packet.
    static let byteCountMax = 65_535
    private static let headerLength = 12
    private static let typeTXT: UInt16 = 16
    private static let typeCNAME: UInt16 = 5
    private static let typeSOA: UInt16 = 6
    private static let classInternet: UInt16 = 1

    package struct Record: Hashable {
        package enum Content: Hashable {
            case text([UInt8])
            case alias([UInt8])
            /// The least time to live of a negative answer.
            case authority(minimumSeconds: UInt32)
            case other(type: UInt16)
        }

        /// Labels in lower case, each with a dot behind it.
        package var owner: [UInt8]
        package var ttlSeconds: UInt32
        package var content: Content
    }

    package var id: UInt16
    package var isTruncated: Bool
    /// RCODE: 0 no error, 2 server failure, 3 no such name, 5 refused.
    package var code: UInt8
    package var answers: [Record]
    package var authorities: [Record]

    /// The packet of a question.
    package static func question(_ name: DNSName, id: UInt16) -> [UInt8] {
        // Recursion desired; one question.
        var bytes: [UInt8] = [UInt8(id >> 8), UInt8(truncatingIfNeeded: id), 1, 0, 0, 1]
        bytes += [UInt8](repeating: 0, count: 6)
        for label in name.labels {
            bytes.append(UInt8(label.utf8.count))
            bytes += Array(label.utf8)
        }
        return bytes + [0, 0, UInt8(typeTXT), 0, UInt8(classInternet)]
    }

    /// Reads the answer to a question for TXT records.
    ///
    /// - Parameter name: what was asked for.
    package init(decoding bytes: [UInt8], answering name: DNSName) throws(DNSMessageError) {
        self = try bytes.withBytes { (raw) throws(DNSMessageError) in
            try DNSMessage(raw, name)
        }
    }

    private init(
        _ raw: UnsafeRawBufferPointer, _ name: DNSName
    ) throws(DNSMessageError) {
        var reader = Reader(raw: raw)
        id = try reader.short()
        let flags = try reader.short()
        // An answer (QR), to a standard query (opcode 0).
        guard flags & 0xf800 == 0x8000 else { throw .notTheAnswer }
        isTruncated = flags & 0x0200 != 0
        code = UInt8(flags & 0xf)
        let counts = [
            try reader.short(), try reader.short(), try reader.short(), try reader.short(),
        ]
        guard counts[0] == 1, Int(counts[1]) + Int(counts[2]) <= Self.recordCountMax else {
            throw counts[0] == 1 ? .tooMany : .notTheAnswer
        }
        let asked = name.labels.flatMap { Array($0.utf8) + [UInt8(ascii: ".")] }
        guard try reader.name() == asked, try reader.short() == Self.typeTXT,
            try reader.short() == Self.classInternet
        else { throw .notTheAnswer }
        (answers, authorities) = ([], [])
        // What is cut off is asked for again, by TCP.
        guard !isTruncated else { return }
        for _ in 0..<counts[1] { answers.append(try reader.record()) }
        for _ in 0..<counts[2] { authorities.append(try reader.record()) }
    }

    /// The TXT records of a name, whose aliases are followed within the packet.
    package func texts(of name: DNSName) -> [DNSText] {
        var owners = Set([name.labels.flatMap { Array($0.utf8) + [UInt8(ascii: ".")] }])
        var ttl = UInt32.max
        // A server puts them in order; each round finds one more that is not.
        for _ in 0..<Self.aliasCountMax {
            let before = owners.count
            for record in answers where owners.contains(record.owner) {
                guard case .alias(let target) = record.content else { continue }
                if owners.insert(target).inserted { ttl = min(ttl, record.ttlSeconds) }
            }
            if owners.count == before { break }
        }
        return answers.compactMap { record in
            guard owners.contains(record.owner), case .text(let bytes) = record.content else {
                return nil
            }
            return DNSText(bytes: bytes, ttlSeconds: min(ttl, record.ttlSeconds))
        }
    }

    /// The most aliases that are followed.
    private static let aliasCountMax = 16

    /// How long a negative answer holds, in seconds; nil where the server does not say.
    var negativeTTLSeconds: UInt32? {
        for record in authorities {
            if case .authority(let minimum) = record.content {
                return min(minimum, record.ttlSeconds)
            }
        }
        return nil
    }

    private struct Reader {
        let raw: UnsafeRawBufferPointer
        var offset = 0

        init(raw: UnsafeRawBufferPointer) { self.raw = raw }

        mutating func short() throws(DNSMessageError) -> UInt16 {
            guard raw.count - offset >= 2 else { throw .truncated }
            defer { offset += 2 }
            return UInt16(raw[offset]) << 8 | UInt16(raw[offset + 1])
        }

        mutating func long() throws(DNSMessageError) -> UInt32 {
            UInt32(try short()) << 16 | UInt32(try short())
        }

        /// The name that begins here, and goes on elsewhere.
        mutating func name() throws(DNSMessageError) -> [UInt8] {
            let start = offset
            var name: [UInt8] = []
            var place = offset
            var end: Int?
            while true {
                guard place < raw.count else { throw .truncated }
                let length = Int(raw[place])
                if length >= 0xc0 {
                    guard place + 1 < raw.count else { throw .truncated }
                    let target = (length & 0x3f) << 8 | Int(raw[place + 1])
                    if end == nil { end = place + 2 }
                    // Each leads further back than the one before, so there is an end.
                    guard target < offset else { throw .badName(offset: start) }
                    offset = target
                    place = target
                    continue
                }
                guard length < 0x40 else { throw .badName(offset: start) }
                if length == 0 {
                    offset = end ?? place + 1
                    return name
                }
                guard place + length < raw.count else { throw .truncated }
                // Its length byte and the last one of the name count too (RFC 1035, 2.3.4).
                guard name.count + length + 1 < 255 else { throw .badName(offset: start) }
                for byte in raw[(place + 1)...(place + length)] {
                    let isUpper = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
                    name.append(isUpper ? byte | 0x20 : byte)
                }
                name.append(UInt8(ascii: "."))
                place += length + 1
            }
        }

        mutating func record() throws(DNSMessageError) -> Record {
            let owner = try name()
            let type = try short()
            let recordClass = try short()
            let ttl = try long()
            let length = Int(try short())
            guard raw.count - offset >= length else { throw .truncated }
            let end = offset + length
            defer { offset = end }
            let content: Record.Content
            switch (recordClass == DNSMessage.classInternet ? type : 0, type) {
            case (DNSMessage.typeTXT, _): content = .text(try text(until: end))
            case (DNSMessage.typeCNAME, _): content = .alias(try name())
            case (DNSMessage.typeSOA, _):
                _ = try name()
                _ = try name()
                // Serial, refresh, retry, expire, minimum.
                for _ in 0..<4 { _ = try long() }
                content = .authority(minimumSeconds: try long())
            default: content = .other(type: type)
            }
            if case .other = content {} else if offset != end { throw .badText(offset: offset) }
            return Record(
                owner: owner, ttlSeconds: ttl > UInt32(Int32.max) ? 0 : ttl, content: content)
        }

        private mutating func text(until end: Int) throws(DNSMessageError) -> [UInt8] {
            var text: [UInt8] = []
            while offset < end {
                let length = Int(raw[offset])
                guard end - offset - 1 >= length else { throw .badText(offset: offset) }
                text += raw[(offset + 1)..<(offset + 1 + length)]
                offset += 1 + length
            }
            return text
        }
    }
}
