// The protocol between the daemon of a volume and a process that serves it to others, over the unix
// socket `serve/read.sock` of the state directory.
//
// Layout:   A frame is a head of 8 bytes and a body; numbers are little endian.
//
//               0  4  count of the body's bytes
//               4  1  kind
//               5  3  zero
//
//           "names" below are 2 bytes of length and the bytes, a CID is its binary form.
//
//           Requests (client)                        body
//               1 hello          the 8 bytes "rfs-read", 2 version, 16 session (zero: a new one)
//               2 root           -
//               3 entry          names to the end: the path
//               4 names          names to the end: the path
//               5 block          1 scope, 1 reach, 8 loan, CID
//               6 whole file     1 scope, 8 loan, CID
//               7 has            1 scope, CID
//               8 end of loans   8 each
//               9 expect         each 2 of length, CID
//
//           Answers (daemon)                         body
//             129 hello          the 8 bytes "rfs-read", 2 version, 16 session (zero: it has no such one)
//             130 nothing        -              there is no entry, no directory, no whole file
//             131 root           CID
//             132 file           8 size, CID    an entry
//             133 directory      -              an entry
//             134 symlink        target         an entry
//             135 names          1: whether more parts follow; each 1 may be a directory, 2 of length, bytes
//             136 bytes          the bytes
//             137 range          8 offset, 8 count; a descriptor beside the frame's first byte
//             138 truth          1: 0 or 1
//             139 fault          1 case of ServeFault, then its reason in UTF-8, or its CID
//
// Order:    `hello` is the first frame of both. Then one request at a time: the next is sent when the answer is
//           whole. `end of loans` and `expect` have no answer.
// Version:  A daemon of another version answers with its own `hello` and closes; the layout of the head and of
//           the first 10 bytes of `hello` never change.
// Loans:    The client numbers the ranges that it may be lent, upwards from 1 and each once in a session; 0 asks for
//           bytes or nothing. The loan lasts until the client ends it, or the session's last connection closes. Because the
//           number is the client's, it can end a loan that it never came to see: where it gave up waiting, or had no
//           descriptor left. The daemon ends a loan itself where the range cannot be sent. A number that is no loan
//           (any more) is passed over.
// Sessions: A connection with a session of zero begins one; others of the same user join it by its number, which is
//           random. So loans outlive the connection that they came by.
// Validity: A body is at most `requestCountMax`, or `answerCountMax`; a kind is one of the sender's; nothing is left over
//           or missing; a truth is 0 or 1; numbers and CIDs are minimal. No descriptor comes but with `range`, and there exactly one.
//           Anything else ends the connection. What is decoded encodes to the same bytes.
// Trust:    Who can reach the socket may read what the volume serves: that is what the mode of the state directory (0700) and
//           the descriptor of `serve/`, which a server was given before it let go of its privileges, are for. So the directory itself
//           lets everybody through (0711) and the socket lets everybody connect (0666). The client asks the kernel
//           who listens (SO_PEERCRED) and looks at each descriptor: a regular file, read-only, long enough.

internal import Base
internal import Multiformats
internal import Serving

/// The bounds and the version of the protocol.
public enum ReadProtocol {
    public static let version: UInt16 = 1
    /// In the state directory.
    public static let directoryName = "serve"
    /// In that directory.
    public static let socketName = "read.sock"
    /// Of a request's body, in bytes.
    public static let requestCountMax = 64 << 10
    /// Of the bytes of one answer: a block is at most 2 MiB (the block limit of Bitswap).
    public static let bytesCountMax = 2 << 20
    /// Of an answer's body, in bytes.
    public static let answerCountMax = bytesCountMax
    /// Of what one `end of loans` ends.
    public static let endedLoansMax = 1024
    /// Of what one `expect` tells of.
    public static let expectedMax = 256
    /// Of one part of a listing, in bytes; a name may go beyond it.
    static let namesPartCount = 128 << 10
    /// What is shorter is sent as bytes: a descriptor costs more than the copy.
    static let lentCountMin: UInt64 = 16 << 10
    /// Of a fault's reason.
    static let reasonCountMax = 500
    static let headCount = 8
    static let magic = Array("rfs-read".utf8)
}

/// What came is not of the protocol.
package struct ReadMalformed: Error, Hashable {
    package var reason: String

    package init(_ reason: String) {
        self.reason = reason
    }
}

/// The kind and the length of a frame.
package struct FrameHead: Hashable, Sendable {
    package var kind: UInt8
    /// Of the body, in bytes.
    package var count: Int

    package init(kind: UInt8, count: Int) {
        self.kind = kind
        self.count = count
    }

    /// - Parameter countMax: of the body.
    package init(decoding bytes: [UInt8], countMax: Int) throws(ReadMalformed) {
        var fields = FieldReader(bytes[...])
        count = Int(try fields.number(UInt32.self))
        kind = try fields.number(UInt8.self)
        guard try fields.bytes(3) == [0, 0, 0], fields.isAtEnd else {
            throw ReadMalformed("the head of a frame has bits that mean nothing")
        }
        guard count <= countMax else {
            throw ReadMalformed("a frame of \(count) bytes, at most \(countMax) may come")
        }
    }

    package var encoded: [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(number: UInt32(clamping: count))
        bytes.append(number: kind)
        return bytes + [0, 0, 0]
    }
}

/// The number of a session.
package struct SessionID: Hashable, Sendable {
    var high: UInt64
    var low: UInt64

    /// Asks for a new session, or says that there is none.
    package static let none = SessionID(high: 0, low: 0)

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// One that nobody guesses (getrandom(2)).
    package static func random() -> SessionID {
        // Zero means another thing.
        SessionID(high: .random(in: 1 ... .max), low: .random(in: 0 ... .max))
    }
}

/// The first frame of both sides.
package struct Hello: Hashable, Sendable {
    package var version: UInt16
    package var session: SessionID

    package init(version: UInt16 = ReadProtocol.version, session: SessionID) {
        self.version = version
        self.session = session
    }

    /// Of another version only the version is read.
    init(_ fields: inout FieldReader) throws(ReadMalformed) {
        guard try fields.bytes(ReadProtocol.magic.count) == ReadProtocol.magic[...] else {
            throw ReadMalformed("the other side speaks another protocol")
        }
        version = try fields.number(UInt16.self)
        guard version == ReadProtocol.version else {
            session = .none
            _ = fields.rest()
            return
        }
        session = SessionID(
            high: try fields.number(UInt64.self), low: try fields.number(UInt64.self))
    }

    var body: [UInt8] {
        var bytes = ReadProtocol.magic
        bytes.append(number: version)
        bytes.append(number: session.high)
        bytes.append(number: session.low)
        return bytes
    }
}

/// Takes the fields of a body, each checked.
struct FieldReader {
    private var left: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) {
        left = bytes
    }

    var isAtEnd: Bool { left.isEmpty }

    mutating func bytes(_ count: Int) throws(ReadMalformed) -> ArraySlice<UInt8> {
        guard left.count >= count else { throw ReadMalformed("a frame ends within a field") }
        defer { left = left.dropFirst(count) }
        return left.prefix(count)
    }

    mutating func rest() -> ArraySlice<UInt8> {
        defer { left = [] }
        return left
    }

    mutating func number<Number: FixedWidthInteger>(
        _ type: Number.Type
    ) throws(ReadMalformed) -> Number {
        var number: Number = 0
        for byte in try bytes(Number.bitWidth / 8).reversed() {
            // An 8-bit number has no room to be moved in.
            number = Number.bitWidth == 8 ? Number(byte) : number << 8 | Number(byte)
        }
        return number
    }

    mutating func truth() throws(ReadMalformed) -> Bool {
        switch try number(UInt8.self) {
        case 0: return false
        case 1: return true
        default: throw ReadMalformed("a truth is neither 0 nor 1")
        }
    }

    mutating func name() throws(ReadMalformed) -> [UInt8] {
        Array(try bytes(Int(try number(UInt16.self))))
    }

    mutating func path() throws(ReadMalformed) -> [[UInt8]] {
        var names: [[UInt8]] = []
        while !isAtEnd { names.append(try name()) }
        return names
    }

    mutating func cid() throws(ReadMalformed) -> CID { try Self.cid(rest()) }

    static func cid(_ bytes: ArraySlice<UInt8>) throws(ReadMalformed) -> CID {
        do throws(CIDError) {
            return try CID(bytes: Array(bytes))
        } catch {
            throw ReadMalformed("what should be a CID is none: \(error)")
        }
    }

    mutating func scope() throws(ReadMalformed) -> BlockScope {
        guard let scope = BlockScope(rawValue: try number(UInt8.self)) else {
            throw ReadMalformed("there is no such scope")
        }
        return scope
    }

    mutating func reach() throws(ReadMalformed) -> BlockReach {
        guard let reach = BlockReach(rawValue: try number(UInt8.self)) else {
            throw ReadMalformed("there is no such reach")
        }
        return reach
    }
}

extension [UInt8] {
    mutating func append<Number: FixedWidthInteger>(number: Number) {
        Swift.withUnsafeBytes(of: number.littleEndian) { append(contentsOf: $0) }
    }

    /// - Precondition: at most 65,535 bytes.
    mutating func append(name: [UInt8]) {
        append(number: UInt16(name.count))
        append(contentsOf: name)
    }
}
