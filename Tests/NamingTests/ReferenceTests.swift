import Multiformats
import Naming
import Testing

@Suite struct ReferenceTests {
    private static let cid = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
    private static let old = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    private static let key = KnownKey.name

    @Test(arguments: [
        (cid, "/ipfs/\(cid)"), (old, "/ipfs/\(old)"), ("\(cid)/a/b", "/ipfs/\(cid)/a/b"),
        ("/ipfs/\(cid)", "/ipfs/\(cid)"), ("/ipfs/\(old)/a//b/", "/ipfs/\(old)/a/b"),
        ("ipfs://\(cid)/a%20b/%25", "/ipfs/\(cid)/a b/%"), ("IPFS://\(cid)", "/ipfs/\(cid)"),
        ("/ipfs/\(cid)/a%20b", "/ipfs/\(cid)/a%20b"),
        (key, "/ipns/\(key)"), ("\(key)/x", "/ipns/\(key)/x"),
        (KnownKey.peerID, "/ipns/\(key)"), ("/ipns/\(KnownKey.peerID)/x", "/ipns/\(key)/x"),
        ("ipns://\(key)", "/ipns/\(key)"), ("example.org", "/ipns/example.org"),
        ("Example.org./a", "/ipns/example.org/a"), ("/ipns/example.org", "/ipns/example.org"),
        ("ipns://example.org/a/b", "/ipns/example.org/a/b"),
        ("/ipns/example.car", "/ipns/example.car"), ("ipns://example.car", "/ipns/example.car"),
    ])
    func textsLeadWhereTheySay(_ text: String, path: String) throws {
        guard case .path(let found) = try Reference(text) else {
            Issue.record("\(text) is no path")
            return
        }
        #expect(found.description == path)
        #expect(try ContentPath(found.bytes) == found)
    }

    @Test(arguments: ["a.car", "./a.car", "/a/b.car", "../x y.car", "example.car"])
    func archivesAreFiles(_ text: String) throws {
        #expect(try Reference(text) == .archive(Array(text.utf8)))
    }

    @Test func namesMayBeAnyBytes() throws {
        let bytes = Array("/ipfs/\(Self.cid)/".utf8) + [0xff, 0xfe]
        guard case .path(let path) = try Reference(bytes: bytes) else {
            Issue.record("no path")
            return
        }
        #expect(path.names == [[0xff, 0xfe]])
        #expect(path.bytes == bytes)
    }

    @Test(arguments: [
        ("", "empty"), ("nonsense", "dot"), ("/", "/ipfs/"), ("/etc/passwd", "/ipfs/"),
        ("./x", ".car"), ("/ipfs", "/ipfs/"), ("/ipfs/", "CID"),
        ("/ipfs/example.org", "behind /ipfs/"),
        ("/ipfs/\(key)", "/ipns/\(key)"), ("/ipns/\(cid)", "dag-pb"), ("ipns://", "ipns://"),
        ("ipfs://", "ipfs://"), ("ipfs://\(cid)?x", "%3F"), ("ipfs://\(cid)#x", "fragment"),
        ("ipfs://\(cid)/%2", "hexadecimal"), ("ipfs://\(cid)/%zz", "hexadecimal"),
        ("ipfs://\(cid)/a%2fb", "%2F"), ("\(cid)/../x", "'..'"), ("\(cid)/a/./x", "name 2"),
        ("ipfs://\(cid)/%2e%2e", "'..'"), ("ipfs://\(cid)/%00", "name 1"),
        ("\(cid)/" + String(repeating: "x", count: 256), "255"), ("\(cid)x", "CID"),
        ("a..b", "empty part"), ("exa mple.org", "characters"), ("https://example.org", "https:"),
        (String(repeating: "x", count: 9000), "8192"),
    ])
    func errorsSayWhatIsWrong(_ text: String, words: String) {
        let error = #expect(throws: NamingError.self) { try Reference(text) }
        #expect(error?.kind == .malformed)
        #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
    }
}
