import Base
import HTTPTypes
import Multiformats
import Naming
import Serving
import Testing

/// What names lead to, as a server finds it out, and domains as sites.
@Suite struct ResolvedNamesTests {
    /// A name server in memory, which may be away, or never answer.
    private final class DNSDouble: DNSResolver {
        struct State: Sendable {
            var links: [String: String] = [:]
            var ttlSeconds: UInt32 = 300
            var failure: NamingError?
            var askedCount = 0
            var isStuck = false
        }

        let state = Monitor(State())
        let goOn = Base.Semaphore()

        var address: String { "a double" }
        var askedCount: Int { state.withLock { $0.askedCount } }

        func texts(
            of name: DNSName, deadline: Int64, cancellation: Cancellation?
        ) throws(NamingError) -> DNSAnswer {
            let now = state.withLock { state in
                if name.description.hasPrefix("_dnslink.") { state.askedCount += 1 }
                return state
            }
            if now.isStuck { goOn.wait() }
            if let failure = now.failure { throw failure }
            guard let link = now.links[name.description] else {
                return .noSuchName(ttlSeconds: nil)
            }
            return .texts([
                DNSText(bytes: Array("dnslink=\(link)".utf8), ttlSeconds: now.ttlSeconds)
            ])
        }
    }

    private let dns = DNSDouble()
    private let milliseconds = Monitor(Int64(0))

    private func names(
        own: (any NameLookup)? = nil, only domains: Set<DNSName>? = nil
    ) -> ResolvedNames {
        let milliseconds = milliseconds
        let clock: @Sendable () -> Int64 = { milliseconds.withLock { $0 } }
        // A new resolver has a cache of its own.
        return ResolvedNames(
            NameResolver(dns: dns, sources: [], store: nil, clock: clock), own: own,
            only: domains, clock: clock)
    }

    private func link(_ domain: String, _ path: String) {
        dns.state.withLock { $0.links["_dnslink.\(domain)"] = path }
    }

    private func fault<Value>(_ body: () throws(ServeFault) -> Value) -> ServeFault? {
        do throws(ServeFault) {
            _ = try body()
            return nil
        } catch {
            return error
        }
    }

    private static let cid = CID.raw(sha256: [1])

    // MARK: Lookups

    @Test func aDomainLeadsToItsContentForItsTime() throws {
        link("example.org", "/ipfs/\(Self.cid)/a")
        let names = names()
        let found = try #require(try names.root(of: "Example.org"))
        #expect(found.cid == Self.cid && found.path == [[0x61]])
        #expect(found.ttlSeconds == 300)
        milliseconds.withLock { $0 += 200_000 }
        #expect(try names.root(of: "example.org")?.ttlSeconds == 100)
        #expect(dns.askedCount == 1)
    }

    @Test func whatIsNoNameIsNotAskedFor() throws {
        let names = names()
        for text in [
            "", "nodot", "a..b", "a b.c", "..", String(repeating: "a.", count: 200) + "b",
            "\(Self.cid)",
        ] {
            #expect(try names.root(of: text) == nil)
        }
        #expect(dns.askedCount == 0)
    }

    @Test func aNameThatIsNotThereIsRememberedAsWell() throws {
        let names = names()
        #expect(try names.root(of: "example.org") == nil)
        link("example.org", "/ipfs/\(Self.cid)")
        milliseconds.withLock { $0 += 29_000 }
        #expect(try names.root(of: "example.org") == nil)
    }

    @Test func onlyTheDomainsOfASiteAreLookedUp() throws {
        link("example.org", "/ipfs/\(Self.cid)")
        link("other.org", "/ipfs/\(Self.cid)")
        let names = names(only: [try DNSName("example.org")])
        #expect(try names.root(of: "other.org") == nil)
        #expect(dns.askedCount == 0)
        #expect(try names.root(of: "example.org")?.cid == Self.cid)
    }

    @Test func whatIsKnownHereIsAskedOfNobody() throws {
        link("example.org", "/ipfs/\(CID.raw(sha256: [2]))")
        let names = names(own: NameStub(target: NameTarget(Self.cid)))
        #expect(try names.root(of: "example.org")?.cid == Self.cid)
        #expect(dns.askedCount == 0)
    }

    @Test func whileNobodyAnswersTheLastAnswerCounts() throws {
        link("example.org", "/ipfs/\(Self.cid)")
        dns.state.withLock { $0.ttlSeconds = 0 }
        let names = names()
        #expect(try names.root(of: "example.org")?.cid == Self.cid)
        dns.state.withLock { $0.failure = NamingError(.unreachable, "nobody answers") }
        // Beyond what the resolver itself remembers of DNS.
        milliseconds.withLock { $0 += Int64(DNSCache.secondsRange.lowerBound) * 1_000 + 1_000 }
        let late = try #require(try names.root(of: "example.org"))
        #expect(late.cid == Self.cid && late.ttlSeconds == nil)
        // Who asks again need not wait until nobody has answered again.
        let asked = dns.askedCount
        #expect(try names.root(of: "example.org")?.cid == Self.cid)
        #expect(dns.askedCount == asked)
        milliseconds.withLock { $0 += 6_000 }
        #expect(try names.root(of: "example.org")?.cid == Self.cid)
        #expect(dns.askedCount > asked)
        milliseconds.withLock { $0 += 3_700_000 }
        #expect(
            fault { () throws(ServeFault) in try names.root(of: "example.org") } == .unavailable)
    }

    @Test func whoCannotBeAskedIsNotAskedAgainAtOnce() throws {
        dns.state.withLock { $0.failure = NamingError(.unreachable, "nobody answers") }
        let names = names()
        #expect(
            fault { () throws(ServeFault) in try names.root(of: "example.org") } == .unavailable)
        // Nor is anybody asked again at once.
        let asked = dns.askedCount
        #expect(
            fault { () throws(ServeFault) in try names.root(of: "example.org") } == .unavailable)
        #expect(dns.askedCount == asked)
        milliseconds.withLock { $0 += 6_000 }
        dns.state.withLock { $0.failure = nil }
        link("example.org", "/ipfs/\(Self.cid)")
        #expect(try names.root(of: "example.org")?.cid == Self.cid)
    }

    @Test func manyWhoAskForOneNameAskOnce() throws {
        link("example.org", "/ipfs/\(Self.cid)")
        dns.state.withLock { $0.isStuck = true }
        let names = names()
        let found = Monitor(0)
        let threads = try (0..<8).map { _ in
            try Threads.start(name: "test") {
                if (try? names.root(of: "example.org"))??.cid == Self.cid {
                    found.withLock { $0 += 1 }
                }
            }
        }
        for _ in 0..<100 { dns.goOn.signal() }
        for thread in threads { thread.join() }
        #expect(found.withLock { $0 } == 8)
        #expect(dns.askedCount == 1)
    }

    // MARK: Sites

    private func ask(
        _ router: ServeRouter, _ host: String, _ target: String
    ) throws -> PathAnswer {
        let name = try #require(HTTPField.Name("Host"))
        let request = ServeRequest(method: .get, target: target, fields: [name: host])
        return try PathAnswer(router.respond(to: try #require(request)))
    }

    private func router(_ content: PathContent, _ root: CID) throws -> ServeRouter {
        link("example.org", "/ipfs/\(root)")
        var options = ServeOptions(peer: PrivateKey().name)
        options.sites = [try DNSName("example.org")]
        options.siteNames = names(only: options.sites)
        return ServeRouter(content: content, options) { _ in }
    }

    @Test func aDomainIsASiteToWhoAsksForItsHost() throws {
        let content = try PathContent()
        let root = try content.directory([
            "_redirects": content.file("/old /page.html 301\n/* /page.html 404\n"),
            "page.html": content.file("page"),
            "sub": try content.directory(["a.txt": content.file("text")]),
        ])
        let router = try router(content, root)
        for host in ["example.org", "EXAMPLE.org:8080", "example.org."] {
            let answer = try ask(router, host, "/page.html")
            #expect(answer.status == 200 && answer.text == "page")
            #expect(answer["X-Ipfs-Path"] == "/ipns/example.org/page.html")
            #expect(answer["Cache-Control"]?.hasPrefix("public, max-age=") == true)
        }
        #expect(try ask(router, "example.org", "/old")["Location"] == "/page.html")
        // Links and redirects begin at the site.
        #expect(try ask(router, "example.org", "/sub")["Location"] == "/sub/")
        let listing = try ask(router, "example.org", "/sub/")
        #expect(listing.status == 200 && !listing.text.contains("/ipns/example.org/sub/a.txt"))
        let missing = try ask(router, "example.org", "/nothing")
        #expect(missing.status == 404 && missing.text == "page")
    }

    @Test func aSiteHasNothingButItsOwnContent() throws {
        let content = try PathContent()
        let secret = content.file("secret")
        let root = try content.directory(["a": content.file("a")])
        let router = try router(content, root)
        for target in [
            "/ipfs/\(secret)", "/ipns/other.org/", "/v2/", "/routing/v1/providers/\(secret)",
            "/../ipfs/\(secret)", "/%2e%2e/x", "//", "/ipfs/\(secret)?format=raw",
        ] {
            #expect(try ask(router, "example.org", target).status == 404)
        }
        #expect(!content.asked.contains(secret))
        // Nor is it one for other hosts.
        for host in ["other.org", "", "sub.example.org", "example.org.evil.org", "example.org:x"] {
            #expect(try ask(router, host, "/a").status == 404)
        }
    }
}
