import Base
import Glibc
import HTTPScript
import Multiformats
import Naming
import Testing

@Suite struct DNSMessageTests {
    /// Three answers: a TXT of two strings, another one, and an alias.
    private static let packet = hex(
        """
        123481800001000300000000085f646e736c696e6b01780000100001c00c001000010000012c001105646e736c69
        0a6e6b3d2f697066732f62c00c001000010000003c000403613d62c00c000500010000003c0003017900
        """)

    @Test func aPacketIsTakenApart() throws {
        let name = try DNSName("_DNSLink.x.")
        let message = try DNSMessage(decoding: Self.packet, answering: name)
        #expect(message.id == 0x1234 && message.code == 0 && !message.isTruncated)
        #expect(
            message.texts(of: name) == [
                DNSText(bytes: Array("dnslink=/ipfs/b".utf8), ttlSeconds: 60),
                DNSText(bytes: Array("a=b".utf8), ttlSeconds: 60),
            ])
        #expect(message.answers.map(\.ttlSeconds) == [300, 60, 60])
        #expect(message.answers.last?.content == .alias(Array("y.".utf8)))
    }

    @Test func aPacketThatIsCutOffIsNone() throws {
        let name = try DNSName("_dnslink.x")
        for count in 0..<Self.packet.count {
            #expect(throws: DNSMessageError.self) {
                try DNSMessage(decoding: Array(Self.packet[..<count]), answering: name)
            }
        }
    }

    @Test func noPacketMakesTheReaderFail() throws {
        let name = try DNSName("_dnslink.x")
        // One byte changed, every one to every value; then many at random.
        for index in Self.packet.indices {
            for value in 0...255 {
                var packet = Self.packet
                packet[index] = UInt8(value)
                _ = try? DNSMessage(decoding: packet, answering: name).texts(of: name)
            }
        }
        for _ in 0..<100_000 {
            var packet = Self.packet
            for _ in 0..<Int.random(in: 1...6) {
                packet[Int.random(in: 12..<packet.count)] = UInt8.random(in: 0...255)
            }
            _ = try? DNSMessage(decoding: packet, answering: name).texts(of: name)
        }
    }

    @Test func pointersThatLeadInCirclesEnd() throws {
        let name = try DNSName("a.b")
        let question = DNSMessage.question(name, id: 7)
        func judge(_ owner: [UInt8]) -> Bool {
            var packet = question
            packet[2] = 0x80
            packet[7] = 1
            packet += owner + [0, 16, 0, 1, 0, 0, 0, 1, 0, 2, 1, 0x61]
            return (try? DNSMessage(decoding: packet, answering: name)) != nil
        }
        let here = UInt8(question.count)
        #expect(judge([0xc0, 12]))
        #expect(judge([1, 0x78, 0xc0, 12]))
        #expect(!judge([0xc0, here]))
        #expect(!judge([0xc0, here + 2]))
        #expect(!judge([1, 0x78, 0xc0, here]))
        #expect(!judge([0xff, 0xff]))
        #expect(!judge([0x40, 0]))
        // Two names of 253 bytes, one behind the other.
        let long = (0..<4).flatMap { _ in [62] + [UInt8](repeating: 0x61, count: 62) }
        #expect(!judge(long + [0xc0, 12]))
    }

    @Test func answersToAnotherQuestionAreNone() throws {
        let name = try DNSName("_dnslink.x")
        for other in ["_dnslink.y", "x", "_dnslink.x.x"] {
            #expect(throws: DNSMessageError.notTheAnswer) {
                try DNSMessage(decoding: Self.packet, answering: try DNSName(other))
            }
        }
        var question = Self.packet
        question[2] = 0x01
        #expect(throws: DNSMessageError.notTheAnswer) {
            try DNSMessage(decoding: question, answering: name)
        }
    }

    @Test(arguments: [
        ("example.org", "example.org"), ("Example.ORG.", "example.org"),
        ("_a.b-c.d", "_a.b-c.d"), ("b\u{fc}cher.example", "xn--bcher-kva.example"),
        (
            "\u{4ed6}\u{4eec}\u{4e3a}\u{4ec0}\u{4e48}\u{4e0d}\u{8bf4}\u{4e2d}\u{6587}.a",
            "xn--ihqwcrb4cv8a8dqg056pqjye.a"
        ),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ])
    func domainsAreWrittenAsTheyAreAskedFor(_ text: String, asked: String) throws {
        #expect(try DNSName(text).description == asked)
    }

    @Test(arguments: [
        "", ".", "a..b", ".a", "a b.c", "a/b", "a\u{308}.b", "a.\u{202e}b",
        String(repeating: "a", count: 64) + ".b", String(repeating: "aa.", count: 90),
    ])
    func whatIsNoDomainIsRefused(_ text: String) {
        #expect(throws: NamingError.self) { try DNSName(text) }
    }
}

@Suite struct ResolverTests {
    private func ask(
        _ resolver: some DNSResolver, _ name: String = "_dnslink.example.org",
        milliseconds: Int64 = 30_000, cancellation: Cancellation? = nil
    ) throws -> DNSAnswer {
        try resolver.texts(
            of: try DNSName(name), deadline: MonotonicClock.milliseconds + milliseconds,
            cancellation: cancellation)
    }

    private static let link = "dnslink=/ipfs/bafkqaaa"
    private static let found = DNSAnswer.texts([
        DNSText(bytes: Array(link.utf8), ttlSeconds: 300)
    ])

    @Test func textsComeOverUDP() throws {
        let server = try ScriptedDNS { question in
            [Packet.answer(question, [.text(Self.link), .strings(["a", "b"], ttl: 5)])]
        }
        defer { server.stop() }
        let answer = try ask(try ServerResolver(server.address))
        #expect(
            answer
                == .texts([
                    DNSText(bytes: Array(Self.link.utf8), ttlSeconds: 300),
                    DNSText(bytes: Array("ab".utf8), ttlSeconds: 5),
                ]))
        #expect(server.questions.map(\.name) == ["_dnslink.example.org"])
    }

    @Test func whatIsTruncatedIsAskedForByTCP() throws {
        let many = (0..<200).map { "record \($0) " + String(repeating: "x", count: 200) }
        let server = try ScriptedDNS { question in
            [
                question.isTCP
                    ? Packet.answer(question, many.map { .text($0) })
                    : Packet.answer(question, isTruncated: true, [])
            ]
        }
        defer { server.stop() }
        guard case .texts(let texts) = try ask(try ServerResolver(server.address)) else {
            Issue.record("no records")
            return
        }
        #expect(texts.count == 200)
        #expect(server.questions.map(\.isTCP) == [false, true])
    }

    @Test func strangersAreNotBelieved() throws {
        let server = try ScriptedDNS { question in
            var wrongID = Packet.answer(question, [.text("dnslink=/ipfs/wrong")])
            wrongID[0] ^= 0xff
            var wrongName = Packet.answer(question, [.text("dnslink=/ipfs/wrong")])
            wrongName[14] ^= 1
            return [
                wrongID, wrongName, [], [1, 2, 3], Packet.answer(question, [.text(Self.link)]),
            ]
        }
        defer { server.stop() }
        #expect(try ask(try ServerResolver(server.address)) == Self.found)
    }

    @Test func aFloodOfStrangersHasAnEnd() throws {
        let server = try ScriptedDNS { question in
            [[UInt8]](repeating: Array(question.packet[..<8]), count: 100)
        }
        defer { server.stop() }
        let error = #expect(throws: NamingError.self) {
            try ask(try ServerResolver(server.address))
        }
        #expect(error?.kind == .malformed)
    }

    @Test func aLostQuestionIsSentAgain() throws {
        let count = Monitor(0)
        let server = try ScriptedDNS { question in
            let number = count.withLock { count in
                count += 1
                return count
            }
            return number < 2 ? [] : [Packet.answer(question, [.text(Self.link)])]
        }
        defer { server.stop() }
        #expect(try ask(try ServerResolver(server.address)) == Self.found)
        #expect(server.questions.count == 2)
    }

    @Test func silenceEndsWithTheDeadline() throws {
        let server = try ScriptedDNS { question in
            question.isTCP
                ? []
                : question.name == "tcp.example"
                    ? [Packet.answer(question, isTruncated: true, [])] : []
        }
        defer { server.stop() }
        let error = #expect(throws: NamingError.self) {
            try ask(try ServerResolver(server.address), milliseconds: 300)
        }
        #expect(error?.kind == .timeout)
        // The connection ends without an answer.
        let cut = #expect(throws: NamingError.self) {
            try ask(try ServerResolver(server.address), "tcp.example")
        }
        #expect(cut?.kind == .malformed)
    }

    @Test func cancellationEndsAQuestion() throws {
        let server = try ScriptedDNS { _ in [] }
        defer { server.stop() }
        let cancellation = Cancellation()
        try Threads.startDetached(name: "cancel") {
            Threads.sleep(milliseconds: 100)
            cancellation.cancel()
        }
        let error = #expect(throws: NamingError.self) {
            try ask(try ServerResolver(server.address), cancellation: cancellation)
        }
        #expect(error?.kind == .cancelled)
    }

    @Test func nobodyAtThePortIsSaid() throws {
        let error = #expect(throws: NamingError.self) {
            try ask(try ServerResolver("127.0.0.1:\(try ScriptedServer.freePort())"))
        }
        #expect(error?.kind == .unreachable)
    }

    @Test func errorsOfServersAreTold() throws {
        let codes: [(UInt8, NamingError.Kind)] = [(2, .failed), (5, .refused), (4, .failed)]
        for (code, kind) in codes {
            let server = try ScriptedDNS { [Packet.answer($0, code: code, [])] }
            defer { server.stop() }
            let error = #expect(throws: NamingError.self) {
                try ask(try ServerResolver(server.address))
            }
            #expect(error?.kind == kind)
        }
    }

    @Test func negativeAnswersTellHowLongTheyHold() throws {
        let server = try ScriptedDNS { question in
            question.name == "none.example"
                ? [Packet.answer(question, code: 3, authority: 17, [])]
                : [Packet.answer(question, [])]
        }
        defer { server.stop() }
        let resolver = try ServerResolver(server.address)
        #expect(try ask(resolver, "none.example") == .noSuchName(ttlSeconds: 17))
        #expect(try ask(resolver, "empty.example") == .noTexts(ttlSeconds: nil))
    }

    @Test func aliasesAreFollowedWithinThePacket() throws {
        let server = try ScriptedDNS { question in
            [
                Packet.answer(
                    question,
                    [
                        .alias("_dnslink.example.org", to: "a.example", ttl: 40),
                        .alias("a.example", to: "b.example"),
                        .text(Self.link, owner: "b.example"),
                        .text("dnslink=/ipfs/other", owner: "c.example"),
                        .alias("b.example", to: "a.example"),
                    ])
            ]
        }
        defer { server.stop() }
        #expect(
            try ask(try ServerResolver(server.address))
                == .texts([DNSText(bytes: Array(Self.link.utf8), ttlSeconds: 40)]))
    }

    @Test(arguments: [
        "", "example.org", "1.2.3", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "[::1", "[::1]53",
        "1.2.3.4:5x", "::1::",
    ])
    func whatIsNoServerIsRefused(_ text: String) {
        #expect(throws: NamingError.self) { try ServerResolver(text) }
    }

    @Test func serversAreWrittenInAllTheirForms() throws {
        #expect(try ServerResolver("1.2.3.4").address == "1.2.3.4:53")
        #expect(try ServerResolver("1.2.3.4:5353").address == "1.2.3.4:5353")
        #expect(try ServerResolver("::1").address == "[::1]:53")
        #expect(try ServerResolver("[::1]").address == "[::1]:53")
        #expect(try ServerResolver("[::1]:5353").address == "[::1]:5353")
    }

    @Test func answersComeOverHTTP() throws {
        let server = try ScriptedServer { _, request in
            let query = request.line.split(separator: " ")[1].split(separator: "=")[1]
            guard
                let packet = try? Multibase.base64url.decodeWithoutPrefix(String(query)),
                request.header("Accept") == "application/dns-message"
            else { return [Reply.whole(400)] }
            let question = ScriptedDNS.Question(packet: packet, name: "", isTCP: false)
            return [
                Reply.whole(
                    200, Packet.answer(question, [.text(Self.link)]),
                    headers: ["Content-Type: application/dns-message", "Age: 100"])
            ]
        }
        defer { server.stop() }
        let answer = try ask(try HTTPSResolver("http://\(server.address)/dns-query"))
        #expect(
            answer == .texts([DNSText(bytes: Array(Self.link.utf8), ttlSeconds: 200)]))
        #expect(server.requests.first?.line.hasPrefix("GET /dns-query?dns=AAAB") == true)
    }

    @Test(arguments: [
        Reply.whole(200, "<html>", headers: ["Content-Type: text/html"]),
        Reply.whole(500, "no"), Reply.whole(302, "", headers: ["Location: /other"]),
        Reply.whole(200, "", headers: ["Content-Type: application/dns-message"]),
        Reply.whole(
            200, [UInt8](repeating: 0, count: 70_000),
            headers: ["Content-Type: application/dns-message"]),
        .close,
    ])
    func otherRepliesOverHTTPAreErrors(_ step: ScriptedServer.Step) throws {
        let server = try ScriptedServer { _, _ in [step] }
        defer { server.stop() }
        #expect(throws: NamingError.self) {
            try ask(try HTTPSResolver("http://\(server.address)/dns-query"))
        }
    }

    @Test func answersAreRememberedWithinBounds() throws {
        let server = try ScriptedDNS { question in
            [
                question.name == "none.example"
                    ? Packet.answer(question, code: 3, authority: 1000, [])
                    : Packet.answer(question, [.text(Self.link, ttl: 0)])
            ]
        }
        defer { server.stop() }
        let cache = DNSCache(try ServerResolver(server.address))
        for _ in 0..<5 {
            _ = try ask(cache, "a.example")
            _ = try ask(cache, "none.example")
        }
        #expect(server.questions.count == 2)
        for number in 0..<(DNSCache.nameCountMax + 10) { _ = try ask(cache, "n\(number).example") }
        #expect(server.questions.count == 2 + DNSCache.nameCountMax + 10)
    }
}
