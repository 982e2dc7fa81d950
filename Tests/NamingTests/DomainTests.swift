import Naming
import Testing

@Suite struct DomainPatternTests {
    @Test(arguments: [
        ("example.com", "example.com"), ("*.example.com", "a.example.com"),
        ("*.example.com", "a.b-c.example.com"), ("*.com", "a.com"), ("*", "bonner.is"),
        ("*", "xn--bcher-kva.ch"), ("*", "a--b.c0m"), ("*.example", "a.example"),
        ("*.local", "printer.local"), ("box.lan", "box.lan"), ("*.home.arpa", "a.home.arpa"),
        ("*", "0x1g.is"),
    ])
    func aPatternHasItsDomains(_ pattern: String, _ domain: String) throws {
        #expect(try DomainPattern(pattern).covers(domain))
    }

    @Test(arguments: [
        ("example.com", "a.example.com"), ("*.example.com", "example.com"),
        ("*.example.com", "notexample.com"), ("*.example.com", "a.example.com.evil.org"),
        ("example.com", "example.com."), ("example.com", "Example.com"),
        // What the local network alone knows, and what is nobody's.
        ("*", "printer.local"), ("*", "a.test"), ("*", "a.example"), ("*", "a.internal"),
        ("*", "a.lan"), ("*", "a.home.arpa"), ("*", "1.0.0.127.in-addr.arpa"), ("*", "a.onion"),
        ("*", "a.invalid"), ("*", "www.example.org"), ("*", "example.com"), ("*", "host.home"),
        ("*", "a.localhost"), ("*", "localhost"), ("*", "localhost.localdomain"),
        // Addresses in all their forms.
        ("*", "127.0.0.1"), ("*", "2130706433"), ("*", "0x7f000001"), ("*", "0x7f.1"),
        ("*", "a.0x7f"), ("*", "a.0x"), ("*", "1.2"), ("*", "::1"), ("*", "[::1]"), ("*", "a.1"),
        // What no repository can be called, or no domain.
        ("*", "library"), ("*", ""), ("*", "."), ("*", ".."), ("*", "a..b"), ("*", ".a.b"),
        ("*", "a.b."), ("*", "a.b:5000"), ("*", "A.b"), ("*", "a_b.is"), ("*", "-a.is"),
        ("*", "a-.is"), ("*", "a.is/b"), ("*", "a b.is"), ("*", "ü.is"), ("*", "a.is\0"),
        ("*", String(repeating: "a", count: 64) + ".is"),
        ("*", String(repeating: "a.", count: 126) + "is"),
    ])
    func aPatternHasNothingElse(_ pattern: String, _ domain: String) throws {
        #expect(try !DomainPattern(pattern).covers(domain))
    }

    @Test(arguments: [
        "", "com", "**", "*.", "*com", "a.*", "*.*.com", "a.*.com", "Example.com", "example.com:80",
        "10.0.0.1", "*.1", "*.localhost", "localhost", "a.localhost", "[::1]", "https://a.b",
        "a/b.c",
        "*.a_b.is", "example.com.",
    ])
    func whatIsNoPatternIsRefused(_ text: String) {
        let error = #expect(throws: NamingError.self) { try DomainPattern(text) }
        #expect(error?.kind == .malformed)
        #expect(error?.description.contains("*.example.com") == true)
    }
}

@Suite struct DomainAnnouncementTests {
    private func found(_ texts: String...) -> DomainAnnouncement {
        found(texts)
    }

    private func found(_ texts: [String]) -> DomainAnnouncement {
        var announcement = DomainAnnouncement()
        announcement.add(texts.map { DNSText(bytes: Array($0.utf8), ttlSeconds: 60) })
        return announcement
    }

    @Test func gatewaysAndNodesAreRead() {
        let all = found(
            "v=spf1 -all", "dnslink=/ipfs/bafkqaaa", "gateway=https://b.example/ipfs ",
            "gateway=https://a.example:8443", "gateway=http://c.example",
            "ipfsnode=/ip4/192.0.2.1/tcp/4001/p2p/12D3KooA",
            #"ipfsnode=["/dns4/d.example/tcp/4001/p2p/12D3KooB", "\/ip6\/2001:db8::1\/tcp\/1\/ipfs\/QmC"]"#
        )
        #expect(
            all.gateways
                == [
                    "https://a.example:8443", "https://b.example/ipfs", "http://c.example",
                ].sorted { $0 < $1 })
        #expect(
            Set(all.nodes) == [
                "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooA", "/dns4/d.example/tcp/4001/p2p/12D3KooB",
                "/ip6/2001:db8::1/tcp/1/ipfs/QmC",
            ])
    }

    @Test(arguments: [
        "gateway=", "gateway=ftp://a", "gateway=a.example", "gateway=https://a b",
        "Gateway=https://a",
        "gateway=https://a\n", "gateway=https://ä", "ipfsnode=", "ipfsnode=[]", "ipfsnode=[",
        "ipfsnode=12D3", "ipfsnode=/ip4/192.0.2.1/tcp/4001", #"ipfsnode=["a"#, #"ipfsnode=[1,"x"]"#,
        #"ipfsnode=["/ip4/192.0.2.1/p2p/\"x"]"#, #"ipfsnode=["/ip4/192.0.2.1/p2p/\nx"]"#,
    ])
    func whatIsNoneIsPassedOver(_ text: String) {
        #expect(found(text).isEmpty)
    }

    @Test func thereIsABound() {
        let many = found(
            (0..<100).map { "gateway=https://\($0 + 100).example" }
                + (0..<100).map { "ipfsnode=/ip4/192.0.2.1/tcp/\($0)/p2p/Qm" }
                + ["gateway=https://" + String(repeating: "a", count: 60_000)])
        #expect(many.gateways == (100..<104).map { "https://\($0).example" })
        #expect(many.nodes.count == DomainAnnouncement.nodesMax)
    }

    @Test func onlyWhatIsNewIsTold() {
        var all = found("gateway=https://a.example")
        let texts = ["gateway=https://a.example", "gateway=https://b.example"].map {
            DNSText(bytes: Array($0.utf8), ttlSeconds: 1)
        }
        #expect(all.add(texts).gateways == ["https://b.example"])
        #expect(all.gateways == ["https://a.example", "https://b.example"])
        #expect(all.add(texts).isEmpty)
    }
}
