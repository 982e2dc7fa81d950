import Multiformats
import ReadSocket
import Serving
import Testing

@Suite struct ProtocolTests {
    private static let requests: [ReadRequest] = [
        .hello(Hello(session: SessionID(high: 1, low: .max))), .root,
        .entry(path: []), .entry(path: [bytes("docker"), [0, 0xff, 0x2f], []]),
        .names(path: [bytes("a")]), .block(cid(1), .tree, .here, loan: 0),
        .block(cid(2), .any, .everywhere, loan: .max), .wholeFile(cid(3), .any, loan: 7),
        .has(cid(4), .tree), .endOfLoans([]), .endOfLoans([1, .max]), .expect([]),
        .expect([cid(1), .dagPB(sha256: [], version: 0)]),
    ]

    private static let answers: [ReadAnswer] =
        [
            .hello(Hello(session: .none)), .nothing, .root(.dagPB(sha256: [], version: 0)),
            .entry(.file(cid(1), size: .max)), .entry(.directory),
            .entry(.symlink(target: bytes("../up"))), .entry(.symlink(target: [])),
            .names([], isLast: true), .names([], isLast: false),
            .names(
                [
                    ServedName(name: [], mayBeDirectory: true),
                    ServedName(name: [0xff], mayBeDirectory: false),
                ], isLast: false), .bytes([]), .bytes(pattern(300)),
            .range(offset: 0, count: .max), .truth(true), .truth(false),
        ] + faults.map { .fault($0) }

    static let faults: [ServeFault] = [
        .notFound, .unavailable, .timedOut, .damaged(cid(1)),
        .unsuitable(reason: "a directory"), .tooLarge(reason: ""), .failed(reason: "grün"),
    ]

    @Test(arguments: requests) func aRequestComesBackAsItWent(_ request: ReadRequest) throws {
        let frame = try #require(request.frame)
        let head = try FrameHead(
            decoding: Array(frame.prefix(8)), countMax: ReadProtocol.requestCountMax)
        #expect(head.count == frame.count - 8)
        #expect(try ReadRequest(kind: head.kind, body: Array(frame.dropFirst(8))) == request)
        #expect(ReadSocketTrial.requests(frame + frame) == 2)
    }

    @Test(arguments: answers) func anAnswerComesBackAsItWent(_ answer: ReadAnswer) throws {
        let frame = try #require(answer.frame)
        let head = try FrameHead(
            decoding: Array(frame.prefix(8)), countMax: ReadProtocol.answerCountMax)
        #expect(head.count == frame.count - 8)
        #expect(try ReadAnswer(kind: head.kind, body: Array(frame.dropFirst(8))) == answer)
        #expect(ReadSocketTrial.answers(frame + frame) == 2)
    }

    @Test func whatIsCutIsNoFrame() throws {
        for request in Self.requests {
            let frame = try #require(request.frame)
            for count in 0..<frame.count {
                #expect(ReadSocketTrial.requests(Array(frame.prefix(count))) == 0)
            }
        }
    }

    @Test(
        arguments: [
            (0, []), (10, []), (129, []), (255, []), (2, [0]), (1, bytes("rfs-read")),
            (1, bytes("rfs-mumble") + [UInt8](repeating: 0, count: 16)), (3, [1]), (3, [2, 0, 1]),
            (5, [2, 0] + [UInt8](repeating: 0, count: 8) + cid(1).bytes),
            (5, [0, 2] + [UInt8](repeating: 0, count: 8) + cid(1).bytes),
            (5, [0, 0] + [UInt8](repeating: 0, count: 8)),
            (6, [0] + [UInt8](repeating: 0, count: 8) + cid(1).bytes + [0]),
            (7, [0]), (7, [9] + cid(1).bytes), (8, [1]),
            (8, [UInt8](repeating: 0, count: 8 * (ReadProtocol.endedLoansMax + 1))),
            (9, [36, 0, 1]), (9, [0, 0]),
        ] as [(UInt8, [UInt8])])
    func nonsenseIsNoRequest(kind: UInt8, body: [UInt8]) {
        #expect(throws: ReadMalformed.self) { try ReadRequest(kind: kind, body: body) }
    }

    @Test(
        arguments: [
            (1, []), (128, []), (140, []), (130, [0]), (131, []), (131, cid(1).bytes + [0]),
            (132, [1, 2]), (133, [0]), (135, []), (135, [2]), (135, [0, 2, 0, 0]),
            (135, [0, 1, 5, 0, 1]), (137, [UInt8](repeating: 0, count: 15)),
            (137, [UInt8](repeating: 0, count: 17)), (138, []), (138, [2]), (138, [1, 1]),
            (139, []),
            (139, [0]), (139, [8]), (139, [1, 1]), (139, [4]), (139, [5, 0xff]), (139, [7, 10]),
            (139, [7] + [UInt8](repeating: 65, count: 501)),
        ] as [(UInt8, [UInt8])])
    func nonsenseIsNoAnswer(kind: UInt8, body: [UInt8]) {
        #expect(throws: ReadMalformed.self) { try ReadAnswer(kind: kind, body: body) }
    }

    @Test func headsAreBoundedAndHaveNoOtherBits() throws {
        #expect(throws: ReadMalformed.self) {
            try FrameHead(decoding: [1, 0, 1, 0, 2, 0, 0, 0], countMax: 65_536)
        }
        #expect(throws: ReadMalformed.self) {
            try FrameHead(decoding: [255, 255, 255, 255, 2, 0, 0, 0], countMax: 65_536)
        }
        for place in 5..<8 {
            var head: [UInt8] = [0, 0, 0, 0, 2, 0, 0, 0]
            head[place] = 1
            #expect(throws: ReadMalformed.self) { try FrameHead(decoding: head, countMax: 65_536) }
        }
        #expect(throws: ReadMalformed.self) { try FrameHead(decoding: [0], countMax: 65_536) }
        let largest = try FrameHead(decoding: [0, 0, 1, 0, 2, 0, 0, 0], countMax: 65_536)
        #expect(largest == FrameHead(kind: 2, count: 65_536))
    }

    @Test func whatIsTooLongHasNoFrame() {
        #expect(ReadRequest.entry(path: [pattern(65_536)]).frame == nil)
        #expect(ReadRequest.names(path: [pattern(40_000), pattern(40_000)]).frame == nil)
        #expect(ReadAnswer.bytes(pattern(ReadProtocol.answerCountMax + 1)).frame == nil)
        #expect(
            ReadAnswer.names(
                [ServedName(name: pattern(65_536), mayBeDirectory: false)], isLast: true
            ).frame == nil)
    }

    @Test func aLongReasonIsCutAndStillRead() throws {
        let reason = String(repeating: "ä\n", count: 1000)
        let frame = try #require(ReadAnswer.fault(.failed(reason: reason)).frame)
        #expect(frame.count <= 8 + 1 + 500)
        #expect(ReadSocketTrial.answers(frame) == 1)
    }

    @Test func helloOfAnotherVersionIsReadAsFarAsItsVersion() throws {
        var frame = try #require(ReadRequest.hello(Hello(session: .none)).frame)
        frame[16] = 9
        guard case .hello(let hello) = try ReadRequest(kind: 1, body: Array(frame[8..<20])) else {
            Issue.record("no hello")
            return
        }
        #expect(hello.version == 9)
    }
}
