import Base
import Foundation
import HTTPTypes
import Multiformats
import Naming
import Serving
import Testing

/// Delegated routing, by https://specs.ipfs.tech/routing/http-routing-v1/ and IPIP-484.
@Suite struct RoutingTests {
    private static let peer = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
    private let content: FixtureContent
    private let routing: DelegatedRouting

    init() throws {
        content = try FixtureContent("gateway-raw-block")
        routing = DelegatedRouting(
            content: content, scope: .tree, peer: try IPNSName(Self.peer),
            addresses: try ["https://example.com", "http://1.2.3.4:8080"].map { url in
                try ProviderAddress(baseURL: url)
            }, records: try FixtureRecords(),
            now: { Timestamp(seconds: 1_800_000_000, nanoseconds: 0) })
    }

    private struct Peer: Codable, Equatable {
        var Schema: String
        var ID: String
        var Addrs: [String]
        var Protocols: [String]
    }

    private func peers(_ response: ServeResponse, _ key: String = "Providers") throws -> [Peer] {
        let bytes = Data(try response.bytes())
        return try #require(try JSONDecoder().decode([String: [Peer]].self, from: bytes)[key])
    }

    private let whole = Peer(
        Schema: "peer", ID: peer,
        Addrs: ["/dns/example.com/tcp/443/https", "/ip4/1.2.3.4/tcp/8080/http"],
        Protocols: ["transport-ipfs-gateway-http"])

    @Test func whatIsHereHasOneProvider() throws {
        let response = try routing.ask("/routing/v1/providers/\(Known.rawDir)")
        #expect(response.status == 200)
        #expect(response.field("Content-Type") == "application/json")
        #expect(response.field("Vary") == "Accept")
        #expect(
            response.field("Cache-Control")
                == "public, max-age=300, stale-while-revalidate=172800, stale-if-error=172800")
        #expect(response.field("Access-Control-Allow-Origin") == "*")
        #expect(try peers(response) == [whole])
        // Nothing was got for it.
        #expect(content.asked.blocks.isEmpty && content.asked.has.count == 1)
    }

    @Test func otherFormsOfACIDAreTheSame() throws {
        let cid = try CID(parsing: Known.rawDir)
        for text in [cid.encoded(in: .base36), "\(try #require(cid.asV0))"] {
            #expect(try peers(routing.ask("/routing/v1/providers/\(text)")) == [whole])
        }
    }

    @Test func whatIsNotHereHasNone() throws {
        content.lose(try CID(parsing: Known.rawDir))
        content.hide(try CID(parsing: Known.rawAscii))
        for cid in [Known.rawDir, Known.rawAscii, Known.hello, "bafkqabtimvwgy3yk"] {
            let response = try routing.ask("/routing/v1/providers/\(cid)")
            #expect(response.status == 200)
            #expect(try peers(response).isEmpty)
            #expect(
                response.field("Cache-Control")
                    == "public, max-age=15, stale-while-revalidate=172800, stale-if-error=172800")
        }
    }

    @Test func linesAreGivenIfTheyAreAskedFor() throws {
        let fields: HTTPFields = [.accept: "application/json;q=0.5, application/x-ndjson"]
        let response = try routing.ask("/routing/v1/providers/\(Known.rawDir)", fields)
        #expect(response.field("Content-Type") == "application/x-ndjson")
        let text = try response.text()
        #expect(text.hasSuffix("}\n") && text.filter { $0 == "\n" }.count == 1)
        #expect(try JSONDecoder().decode(Peer.self, from: Data(text.utf8)) == whole)
        let none = try routing.ask("/routing/v1/providers/\(Known.hello)", fields)
        #expect(none.status == 200)
        #expect(try none.bytes().isEmpty)
    }

    @Test(
        arguments: [
            ("filter-protocols=transport-ipfs-gateway-http", [0, 1]),
            ("filter-protocols=Transport-IPFS-Gateway-HTTP,unknown", [0, 1]),
            ("filter-protocols=transport-bitswap", nil), ("filter-protocols=unknown", nil),
            ("filter-addrs=https", [0]), ("filter-addrs=HTTP", [1]), ("filter-addrs=!ip4", [0]),
            ("filter-addrs=tcp,!dns", [1]), ("filter-addrs=!tcp", nil),
            ("filter-addrs=webtransport", nil),
            ("filter-addrs=unknown", nil), ("filter-addrs=", [0, 1]),
            ("filter-addrs=unknown%2Chttps", [0]),
        ] as [(String, [Int]?)])
    func filtersLeaveOut(_ query: String, _ left: [Int]?) throws {
        var expected = whole
        expected.Addrs = (left ?? []).map { whole.Addrs[$0] }
        let response = try routing.ask("/routing/v1/providers/\(Known.rawDir)?\(query)")
        #expect(try peers(response) == (left == nil ? [] : [expected]))
    }

    @Test func theOwnPeerIsKnownAndNoOther() throws {
        let name = try IPNSName(Self.peer)
        for text in [Self.peer, "\(name)", name.cid.encoded(in: .base32)] {
            let response = try routing.ask("/routing/v1/peers/\(text)")
            #expect(try peers(response, "Peers") == [whole])
        }
        let other = try routing.ask("/routing/v1/peers/\(TrustlessNamesTests.both)")
        #expect(other.status == 200)
        #expect(try peers(other, "Peers").isEmpty)
    }

    @Test func aRecordIsGivenWithItsTimes() throws {
        let fields: HTTPFields = [.accept: "application/vnd.ipfs.ipns-record"]
        let target = "/routing/v1/ipns/\(TrustlessNamesTests.both)"
        let response = try routing.ask(target, fields)
        #expect(response.status == 200)
        #expect(response.field("Content-Type") == "application/vnd.ipfs.ipns-record")
        // It holds until 2123-08-14T12:17:03.
        let valid = 4_847_689_023 - 1_800_000_000
        #expect(
            response.field("Cache-Control")
                == "public, max-age=1800, stale-while-revalidate=\(valid), stale-if-error=\(valid)")
        let name = try IPNSName(TrustlessNamesTests.both)
        _ = try IPNSRecord(verifying: try response.bytes(), of: name)
        let etag = try #require(response.field("Etag"))
        #expect(
            try routing.ask(
                target, [.accept: "application/vnd.ipfs.ipns-record", .ifNoneMatch: etag]
            ).status == 304)
        #expect(try routing.ask(target).status == 406)
        #expect(try routing.ask(target, [.accept: "application/json"]).status == 406)
        #expect(try routing.ask(target, [.accept: "*/*"]).status == 200)
    }

    @Test func aNameWithoutARecordIsAnotherType() throws {
        let name = "k51qzi5uqu5dg9ufswxt229ntzdy7p4125xzv5rtyjso89ajdujg6csfxcj260"
        let response = try routing.ask(
            "/routing/v1/ipns/\(name)", [.accept: "application/vnd.ipfs.ipns-record"])
        #expect(response.status == 200)
        #expect(response.field("Content-Type") == "text/plain; charset=utf-8")
        #expect(response.field("Cache-Control")?.hasPrefix("public, max-age=15,") == true)
    }

    @Test(arguments: [
        ("providers/x", 422), ("providers/%FF", 422), ("peers/\(Known.ascii)", 422),
        ("peers/x", 422), ("ipns/example.com", 422), ("dht/closest/peers/\(Known.ascii)", 501),
        ("other/x", 400), ("providers", 400), ("providers/", 400),
        ("providers/\(Known.ascii)/x", 400), ("", 400),
    ]) func wrongRequestsHaveTheirStatuses(_ path: String, _ status: Int) throws {
        #expect(try routing.ask("/routing/v1/\(path)").status == status)
    }

    @Test func nothingIsPut() throws {
        for target in ["ipns/\(TrustlessNamesTests.both)", "providers/\(Known.rawDir)"] {
            for method in [HTTPRequest.Method.put, .post, .delete] {
                #expect(
                    try routing.ask("/routing/v1/\(target)", method: method).status == 501)
            }
        }
        let options = try routing.ask("/routing/v1/providers/x", method: .options)
        #expect(options.status == 204)
        #expect(options.field("Access-Control-Allow-Origin") == "*")
    }

    @Test func aDaemonThatIsAwayIs503() throws {
        content.fail(.unavailable)
        let response = try routing.ask("/routing/v1/providers/\(Known.rawDir)")
        #expect(response.status == 503)
        #expect(response.field("Cache-Control") == "no-cache")
    }

    @Test func withoutAddressesNobodyIsTold() throws {
        let silent = DelegatedRouting(
            content: content, scope: .tree, peer: try IPNSName(Self.peer), addresses: [])
        #expect(try peers(silent.ask("/routing/v1/providers/\(Known.rawDir)")).isEmpty)
    }

    // MARK: Addresses

    @Test(arguments: [
        ("https://example.com", "/dns/example.com/tcp/443/https"),
        ("https://Example.com:8443/", "/dns/example.com/tcp/8443/https"),
        ("http://1.2.3.4:8080", "/ip4/1.2.3.4/tcp/8080/http"),
        ("http://localhost", "/dns/localhost/tcp/80/http"),
        ("http://[2001:DB8::1]:8080", "/ip6/2001:db8::1/tcp/8080/http"),
        ("HTTPS://[::1]", "/ip6/::1/tcp/443/https"),
    ]) func aURLIsAMultiaddr(_ url: String, _ expected: String) throws {
        #expect(try ProviderAddress(baseURL: url).description == expected)
    }

    @Test(arguments: [
        "", "example.com", "ftp://example.com", "https://", "https://:443", "https://a:0",
        "https://a:65536", "https://a:", "https://a:+80", "https://a/b", "https://a?b",
        "https://u@a", "https://[::1", "https://[1.2.3.4]", "https://a\"b", "https://ä.example",
        "https://::1", "https://a b", "http://1.2.3.4\0",
    ]) func whatIsNoBaseOfURLsIsRefused(_ url: String) {
        #expect(throws: ProviderAddressError.self) { try ProviderAddress(baseURL: url) }
    }
}
