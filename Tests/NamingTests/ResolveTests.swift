import Base
import Foundation
import HTTPScript
import Multiformats
import Naming
import Testing

/// Domains and their TXT records, without a server.
struct FixedDNS: DNSResolver {
    var texts: [String: [String]]
    var ttlSeconds: UInt32 = 300
    let asked = Monitor<[String]>([])

    var address: String { "a test" }

    func texts(
        of name: DNSName, deadline: Int64, cancellation: Cancellation?
    ) throws(NamingError) -> DNSAnswer {
        asked.withLock { $0.append("\(name)") }
        guard let found = texts["\(name)"] else { return .noSuchName(ttlSeconds: nil) }
        guard !found.isEmpty else { return .noTexts(ttlSeconds: nil) }
        return .texts(
            found.map { DNSText(bytes: Array($0.utf8), ttlSeconds: ttlSeconds) })
    }
}

/// Records of one name.
struct FixedRecords: IPNSRecordSource {
    var address = "a test"
    var answer: @Sendable (IPNSName, Cancellation?) -> Result<[UInt8], NamingError>

    init(
        _ address: String = "a test",
        _ answer: @escaping @Sendable (IPNSName, Cancellation?) -> Result<[UInt8], NamingError>
    ) {
        self.address = address
        self.answer = answer
    }

    func record(
        of name: IPNSName, deadline: Int64, cancellation: Cancellation?
    ) throws(NamingError) -> [UInt8] {
        try answer(name, cancellation).get()
    }
}

@Suite struct ResolveTests {
    private static let cid = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"

    private func resolve(
        _ text: String, _ dns: [String: [String]] = [:], ttl: UInt32 = 300,
        sources: [any IPNSRecordSource] = [], store: SequenceStore? = nil,
        milliseconds: Int = 30_000
    ) throws -> Resolution {
        guard case .path(let path) = try Reference(text) else {
            throw NamingError(.failed, "a file")
        }
        return try NameResolver(
            dns: FixedDNS(texts: dns, ttlSeconds: ttl), sources: sources, store: store
        ).resolve(path, deadlineMilliseconds: milliseconds)
    }

    private static func record(
        _ sequence: UInt64, value: String = "/ipfs/\(cid)", key: PrivateKey? = nil
    ) throws -> IPNSRecord {
        try RecordTests.make(
            sequence: sequence, validUntil: Timestamp(nanoseconds: .max - 1), value: value,
            key: key)
    }

    // MARK: Domains

    @Test func contentNeedsNobody() throws {
        let found = try resolve("\(Self.cid)/a")
        #expect(found.path.description == "/ipfs/\(Self.cid)/a")
        #expect(found.steps.isEmpty && found.ttlSeconds == nil && found.validUntil == nil)
    }

    @Test(arguments: ["/ipfs/\(cid)", cid, "/ipfs/\(cid)/"])
    func aDomainLeadsToContent(_ value: String) throws {
        let found = try resolve(
            "example.org/a/b",
            ["_dnslink.example.org": ["v=spf1 -all", "dnslink=\(value)", "dnslinks=/ipfs/x"]])
        #expect(found.path.description == "/ipfs/\(Self.cid)/a/b")
        #expect(found.ttlSeconds == 300)
        let step = try #require(found.steps.first)
        #expect(step.owner == "_dnslink.example.org" && step.notes.isEmpty)
        #expect(step.from.description == "/ipns/example.org/a/b")
    }

    @Test(arguments: [
        nil, [], ["other"], ["dnslink=nonsense"], ["dnslink=/ipfs/x"], [" dnslink=\(cid)"],
    ])
    func theApexIsAskedWhereNothingElseSays(_ first: [String]?) throws {
        var dns = ["example.org": ["dnslink=/ipfs/\(Self.cid)"]]
        dns["_dnslink.example.org"] = first
        let found = try resolve("example.org", dns)
        #expect(found.root.description == Self.cid)
        let step = try #require(found.steps.first)
        #expect(step.owner == "example.org")
        #expect(step.notes.count == 1 && step.notes[0].contains("_dnslink.example.org"))
    }

    @Test func theApexIsNotAskedOtherwise() throws {
        let dns = FixedDNS(texts: ["_dnslink.example.org": ["dnslink=/ipfs/\(Self.cid)"]])
        let link = try DNSLink.find(
            try DNSName("example.org"), by: dns, deadline: .max, cancellation: nil)
        #expect(link.detour == nil)
        #expect(dns.asked.withLock { $0 } == ["_dnslink.example.org"])
    }

    @Test func severalLinksAreAnError() throws {
        let error = #expect(throws: NamingError.self) {
            try resolve(
                "example.org",
                [
                    "_dnslink.example.org": [
                        "dnslink=/ipfs/\(Self.cid)", "dnslink=/ipfs/bafkqaaa",
                    ],
                    "example.org": ["dnslink=/ipfs/\(Self.cid)"],
                ])
        }
        #expect(error?.kind == .ambiguous)
        #expect(error?.description.contains("bafkqaaa") == true)
    }

    @Test func domainsWithoutALinkSayWhy() throws {
        let error = #expect(throws: NamingError.self) {
            try resolve("example.org", ["example.org": ["dnslink=/ipfs/nonsense"]])
        }
        #expect(error?.kind == .notFound)
        #expect(error?.description.contains("there is no _dnslink.example.org") == true)
        #expect(error?.description.contains("nonsense") == true)
    }

    @Test func domainsLeadToDomainsToADepth() throws {
        func chain(_ count: Int) -> [String: [String]] {
            var dns: [String: [String]] = [:]
            for number in 0..<count {
                dns["_dnslink.n\(number).example"] = [
                    "dnslink=/ipns/n\(number + 1).example/\(number)"
                ]
            }
            dns["_dnslink.n\(count).example"] = ["dnslink=/ipfs/\(Self.cid)/root"]
            return dns
        }
        let found = try resolve("n0.example/x", chain(3))
        #expect(found.path.description == "/ipfs/\(Self.cid)/root/2/1/0/x")
        #expect(found.steps.count == 4)
        #expect(
            try resolve("n0.example", chain(NameResolver.depthMax - 1)).steps.count
                == NameResolver.depthMax)
        let deep = #expect(throws: NamingError.self) {
            try resolve("n0.example", chain(NameResolver.depthMax))
        }
        #expect(deep?.kind == .tooDeep)
        let loop = #expect(throws: NamingError.self) {
            try resolve(
                "a.example",
                [
                    "_dnslink.a.example": ["dnslink=/ipns/b.example"],
                    "_dnslink.b.example": ["dnslink=/ipns/a.example/x"],
                ])
        }
        #expect(loop?.kind == .tooDeep)
    }

    // MARK: Records

    @Test func domainsLeadToKeysAndKeysToContent() throws {
        let record = try Self.record(3, value: "/ipfs/\(Self.cid)/deep")
        let found = try resolve(
            "example.org/x", ["_dnslink.example.org": ["dnslink=/ipns/\(KnownKey.name)/y"]],
            ttl: 900, sources: [FixedRecords { _, _ in .success(record.bytes) }])
        #expect(found.path.description == "/ipfs/\(Self.cid)/deep/y/x")
        #expect(found.steps.map(\.method) == [.dnslink, .ipns])
        #expect(found.steps.last?.sequence == 3)
        #expect(found.ttlSeconds == 300)
        #expect(found.validUntil == record.validUntil)
    }

    @Test func theLatestRecordOfAllCounts() throws {
        let (one, two) = (try Self.record(1), try Self.record(2, value: "/ipfs/bafkqaaa"))
        let forged = try Self.record(9, key: PrivateKey())
        let sources: [any IPNSRecordSource] = [
            FixedRecords("first") { _, _ in .success(one.bytes) },
            FixedRecords("forger") { _, _ in .success(forged.bytes) },
            FixedRecords("second") { _, _ in .success(two.bytes) },
            FixedRecords("silent") { _, _ in .failure(NamingError(.unreachable, "nobody")) },
        ]
        let found = try resolve(KnownKey.name, sources: sources)
        #expect(found.root.description == "bafkqaaa")
        let step = try #require(found.steps.first)
        #expect(step.source == "second" && step.notes.count == 2)
        #expect(step.notes[0].contains("forger") && step.notes[0].contains("not signed"))
    }

    @Test func aSourceThatHangsIsNotWaitedForWithoutAnEnd() throws {
        let record = try Self.record(1)
        let wasCancelled = Semaphore()
        let sources: [any IPNSRecordSource] = [
            FixedRecords("hangs") { _, cancellation in
                while cancellation?.isCancelled == false { Threads.sleep(milliseconds: 10) }
                wasCancelled.signal()
                return .failure(NamingError(.cancelled, "cancelled"))
            },
            FixedRecords("works") { _, _ in .success(record.bytes) },
        ]
        let found = try resolve(KnownKey.name, sources: sources, milliseconds: 600_000)
        #expect(found.steps.first?.notes == ["hangs does not answer in time"])
        wasCancelled.wait()
        let error = #expect(throws: NamingError.self) {
            try resolve(KnownKey.name, sources: [sources[0]], milliseconds: 200)
        }
        #expect(error?.kind == .timeout)
    }

    @Test func recordsNeverGoBack() throws {
        let directory = try TemporaryDirectory()
        let store = try SequenceStore(directory: directory.path)
        let (one, two) = (try Self.record(1), try Self.record(2))
        func resolve(_ record: IPNSRecord) throws -> Resolution {
            try self.resolve(
                KnownKey.name, sources: [FixedRecords { _, _ in .success(record.bytes) }],
                store: store)
        }
        #expect(try resolve(two).steps.first?.sequence == 2)
        let error = #expect(throws: NamingError.self) { try resolve(one) }
        #expect(error?.kind == .untrusted)
        #expect(error?.description.contains("goes back") == true)
        #expect(try resolve(two).steps.first?.sequence == 2)
    }

    @Test func keysLeadToEachOtherToADepth() throws {
        let other = PrivateKey()
        let first = try Self.record(1, value: "/ipns/\(other.name)")
        let second = try Self.record(1, value: "/ipns/\(KnownKey.name)", key: other)
        let error = #expect(throws: NamingError.self) {
            try resolve(
                KnownKey.name,
                sources: [
                    FixedRecords { name, _ in
                        .success(name == other.name ? second.bytes : first.bytes)
                    }
                ])
        }
        #expect(error?.kind == .tooDeep)
    }

    @Test func aRecordIsReadFromAFile() throws {
        let directory = try TemporaryDirectory()
        let file = directory.path + "/record"
        let source = RecordFile(path: file)
        let missing = #expect(throws: NamingError.self) {
            try resolve(KnownKey.name, sources: [source])
        }
        #expect(missing?.kind == .notFound)
        try Data(try Self.record(4).bytes).write(to: URL(fileURLWithPath: file))
        #expect(try resolve(KnownKey.name, sources: [source]).steps.first?.sequence == 4)
        try Data(count: 1 << 20).write(to: URL(fileURLWithPath: file))
        let large = #expect(throws: NamingError.self) {
            try resolve(KnownKey.name, sources: [source])
        }
        #expect(large?.kind == .malformed)
    }

    // MARK: Gateways

    private static let type = "Content-Type: application/vnd.ipfs.ipns-record"

    @Test func aGatewayIsAskedForTheRecord() throws {
        let record = try Self.record(5)
        let server = try ScriptedServer { _, _ in
            [Reply.whole(200, record.bytes, headers: [Self.type])]
        }
        defer { server.stop() }
        let source = try GatewayRecords("http://\(server.address)/")
        #expect(try resolve(KnownKey.peerID, sources: [source]).steps.first?.sequence == 5)
        let request = try #require(server.requests.first)
        #expect(request.line == "GET /ipns/\(KnownKey.name)?format=ipns-record HTTP/1.1")
        #expect(request.header("Accept") == "application/vnd.ipfs.ipns-record")
    }

    @Test(
        arguments: [
            (Reply.whole(404, "no"), .notFound),
            (Reply.whole(500, "routing: not found"), .notFound),
            (Reply.whole(200, "<html>", headers: ["Content-Type: text/html"]), .refused),
            (Reply.whole(200, "record"), .refused), (Reply.whole(429, "later"), .refused),
            (Reply.whole(504, "late"), .timeout),
            (Reply.whole(200, "nonsense", headers: [type]), .malformed),
            (Reply.whole(200, "", headers: [type]), .untrusted),
            (Reply.whole(200, [UInt8](repeating: 1, count: 20_000), headers: [type]), .malformed),
            (.flood(Reply.head(200, [type, "Transfer-Encoding: chunked"])), .malformed),
            (.close, .unreachable),
            (.send(Reply.head(200, [type, "Content-Length: 100"]) + [1, 2]), .unreachable),
        ] as [(ScriptedServer.Step, NamingError.Kind)])
    func otherRepliesAreErrors(_ step: ScriptedServer.Step, kind: NamingError.Kind) throws {
        let server = try ScriptedServer { _, _ in [step, .close] }
        defer { server.stop() }
        let error = #expect(throws: NamingError.self) {
            try resolve(
                KnownKey.name, sources: [try GatewayRecords("http://\(server.address)")])
        }
        #expect(error?.kind == kind, "\(error?.description ?? "")")
    }

    @Test func aGatewayThatHangsEndsWithTheDeadline() throws {
        let server = try ScriptedServer { _, _ in [.hang] }
        defer { server.stop() }
        let error = #expect(throws: NamingError.self) {
            try resolve(
                KnownKey.name, sources: [try GatewayRecords("http://\(server.address)")],
                milliseconds: 300)
        }
        #expect(error?.kind == .timeout)
    }

    @Test(arguments: ["", "example.org", "ftp://example.org", "http://u@example.org", "http://a?b"])
    func whatIsNoGatewayIsRefused(_ url: String) {
        #expect(throws: NamingError.self) { try GatewayRecords(url) }
    }
}
