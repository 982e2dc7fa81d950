import Base
import HTTPTypes
import Multiformats
import Naming
import Serving
import Testing

/// Records of names and what names lead to: the cases of ipfs/gateway-conformance v0.13.2 (`TestGatewayIPNSRecord`).
@Suite struct TrustlessNamesTests {
    static let both = "k51qzi5uqu5dlkw8pxuw9qmqayfdeh4kfebhmreauqdc6a7c3y7d5i9fi8mk9w"
    static let v2 = "k51qzi5uqu5dit2ku9mutlfgwyz8u730on38kd10m97m36bjt66my99hb6103f"
    private static let mediaType = "application/vnd.ipfs.ipns-record"

    private let content: FixtureContent
    private let gateway: TrustlessGateway

    init() throws {
        content = try FixtureContent("subdir-with-mixed-block-files")
        gateway = TrustlessGateway(
            content: content, scope: .tree, records: try FixtureRecords(),
            names: FixtureNames(root: content.firstRoot),
            now: { Timestamp(seconds: 1_800_000_000, nanoseconds: 0) })
    }

    @Test(arguments: [both, v2]) func aRecordIsGivenAsItIs(_ name: String) throws {
        for response in [
            try gateway.ask("/ipns/\(name)?format=ipns-record"),
            try gateway.ask("/ipns/\(name)", [.accept: Self.mediaType]),
        ] {
            #expect(response.status == 200)
            #expect(response.field("Content-Type") == Self.mediaType)
            #expect(response.field("Cache-Control") == "public, max-age=1800")
            #expect(
                response.field("Content-Disposition")
                    == "attachment; filename=\"\(name).ipns-record\"")
            #expect(response.field("X-Content-Type-Options") == "nosniff")
            let etag = response.field("Etag") ?? ""
            #expect(etag.hasPrefix("\"") && etag.hasSuffix("\"") && etag.count > 10)
            let record = try IPNSRecord(verifying: try response.bytes(), of: try IPNSName(name))
            #expect(record.value.hasPrefix("/ipfs/bafkqa"))
            let again = try gateway.ask(
                "/ipns/\(name)?format=ipns-record", [.ifNoneMatch: "W/\(etag)"])
            #expect(again.status == 304)
            #expect(again.field("Cache-Control") == "public, max-age=1800")
        }
        let get = try gateway.ask("/ipns/\(name)?format=ipns-record")
        let head = try gateway.ask("/ipns/\(name)?format=ipns-record", method: .head)
        #expect(head.status == 200 && head.fields == get.fields)
    }

    @Test func aNameOfAFileThatIsNotASCIIIsGivenTwice() throws {
        let response = try gateway.ask(
            "/ipns/\(Self.both)?format=ipns-record&filename=test%D1%82%D0%B5%D1%81%D1%82.ipns-record"
        )
        #expect(
            response.field("Content-Disposition")
                == "attachment; filename=\"test____.ipns-record\"; "
                + "filename*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.ipns-record")
    }

    @Test func aRecordIsKeptNoLongerThanItHolds() throws {
        // It holds until 2123-08-14T12:17:03.
        let gateway = TrustlessGateway(
            content: content, scope: .tree, records: try FixtureRecords(),
            now: { Timestamp(seconds: 4_847_689_023 - 100, nanoseconds: 0) })
        let response = try gateway.ask("/ipns/\(Self.both)?format=ipns-record")
        #expect(response.field("Cache-Control") == "public, max-age=100")
        let late = TrustlessGateway(
            content: content, scope: .tree, records: try FixtureRecords(),
            now: { Timestamp(nanoseconds: .max) })
        #expect(
            try late.ask("/ipns/\(Self.both)?format=ipns-record").field("Cache-Control")
                == "public, max-age=0")
    }

    @Test func aNameIsKnownInEveryForm() throws {
        let name = try IPNSName(Self.both)
        for text in [name.peerID, name.cid.encoded(in: .base32)] {
            #expect(try gateway.ask("/ipns/\(text)?format=ipns-record").status == 200)
        }
    }

    @Test(arguments: [
        "/ipns/example.com?format=ipns-record", "/ipns/\(Known.ascii)?format=ipns-record",
        "/ipns/\(both)/path?format=ipns-record", "/ipns/%FF?format=ipns-record",
    ]) func whatHasNoRecordIs400(_ target: String) throws {
        #expect(try gateway.ask(target).status == 400)
    }

    @Test func aNameWithoutARecordIs404() throws {
        let name = "k51qzi5uqu5dg9ufswxt229ntzdy7p4125xzv5rtyjso89ajdujg6csfxcj260"
        #expect(try gateway.ask("/ipns/\(name)?format=ipns-record").status == 404)
        let none = TrustlessGateway(content: content, scope: .tree)
        #expect(try none.ask("/ipns/\(Self.both)?format=ipns-record").status == 404)
        #expect(try none.ask("/ipns/\(Self.both)?format=raw").status == 404)
    }

    @Test func whatANameLeadsToIsGivenForItsTime() throws {
        let response = try gateway.ask("/ipns/example.com/subdir/ascii.txt?format=car")
        #expect(response.status == 200)
        #expect(response.field("Cache-Control") == "public, max-age=60")
        #expect(response.field("X-Ipfs-Path") == "/ipns/example.com/subdir/ascii.txt")
        #expect(try response.blocks() == [Known.mixedRoot, Known.mixedSubdir, Known.ascii])
        // The name leads to a directory below the root.
        let below = try gateway.ask("/ipns/sub.example.com/hello.txt?format=raw")
        #expect(below.status == 200)
        #expect(below.field("Cache-Control") == nil)
        #expect(below.field("Etag") == "\"\(Known.hello).raw\"")
        #expect(try gateway.ask("/ipns/other.example.com?format=raw").status == 404)
        #expect(try gateway.ask("/ipns/failing.example.com?format=raw").status == 504)
    }
}

/// The records of the fixtures.
struct FixtureRecords: NameRecords {
    private let records: [IPNSName: IPNSRecord]

    init() throws {
        var records: [IPNSName: IPNSRecord] = [:]
        for text in [TrustlessNamesTests.both, TrustlessNamesTests.v2] {
            let name = try IPNSName(text)
            records[name] = try IPNSRecord(
                verifying: try FixtureContent.fixture("\(text).ipns-record"), of: name, at: nil)
        }
        self.records = records
    }

    func record(of name: IPNSName) throws(ServeFault) -> IPNSRecord? { records[name] }
}

private struct FixtureNames: NameLookup {
    let root: CID

    func root(of name: String) throws(ServeFault) -> NameTarget? {
        switch name {
        case "example.com": NameTarget(root, ttlSeconds: 60)
        case "sub.example.com": NameTarget(root, path: [Array("subdir".utf8)])
        case "failing.example.com": throw .timedOut
        default: nil
        }
    }
}
