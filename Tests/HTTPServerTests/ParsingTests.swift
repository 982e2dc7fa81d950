import HTTPServer
import Testing

@Suite struct ParsingTests {
    @Test(arguments: [
        ("127.0.0.1:80", ListenAddress.network(host: "127.0.0.1", port: 80)),
        ("localhost:0", .network(host: "localhost", port: 0)),
        (":8080", .network(host: "", port: 8080)),
        ("[::1]:443", .network(host: "::1", port: 443)),
        ("[::]:65535", .network(host: "::", port: 65535)),
        ("unix:/run/registryfs/http", .unix(path: "/run/registryfs/http")),
    ])
    func addressIsRead(_ text: String, _ address: ListenAddress) throws {
        #expect(try ListenAddress(text) == address)
    }

    @Test(arguments: [
        "", "80", "host", "host:", "host:65536", "host:-1", "host:+1", "host:1x", "::1:80", "[]:80",
        "[::1]", "unix:", "unix:relative", "[::1:80", String(repeating: "a", count: 600) + ":1",
    ])
    func whatIsNoAddressIsRefused(_ text: String) {
        #expect(throws: ServerFailure.self) { try ListenAddress(text) }
    }

    @Test(arguments: [
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("10.0.0.0/8", "::ffff:10.1.2.3", true),
        ("10.0.0.0/8", "::10.1.2.3", false),
        ("192.168.1.5", "192.168.1.5", true),
        ("192.168.1.5", "192.168.1.4", false),
        ("192.168.1.4/31", "192.168.1.5", true),
        ("192.168.1.4/31", "192.168.1.6", false),
        ("0.0.0.0/0", "8.8.8.8", true),
        ("0.0.0.0/0", "2001:db8::1", false),
        ("::/0", "8.8.8.8", true),
        ("2001:db8::/33", "2001:db8:7fff::1", true),
        ("2001:db8::/33", "2001:db8:8000::1", false),
        ("::1", "::1", true),
        ("::1/128", "::2", false),
        ("::1", "nonsense", false),
    ])
    func rangeHasTheAddressesOfItsPrefix(
        _ range: String, _ address: String, _ isIn: Bool
    ) throws {
        #expect(try AddressRange(range).contains(address) == isIn)
    }

    @Test(arguments: [
        "", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.1/8", "10.0.0/8",
        "::1/129", "::1/64", "host/8", "10.0.0.0/8/8", "10.0.0.0/00008",
        String(repeating: "1", count: 200),
    ])
    func whatIsNoRangeIsRefused(_ text: String) {
        #expect(throws: AddressRange.Malformed.self) { try AddressRange(text) }
    }

    @Test func tokensAreOneOnEachLine() throws {
        let file = "# of the build\nabc.DEF-1\r\n\n  x/y+z~_==  \n#no"
        #expect(
            try AccessRules.tokens(inFile: Array(file.utf8)) == ["abc.DEF-1", "x/y+z~_=="])
    }

    @Test(arguments: [
        "", "\n\n", "# only words\n", "two words\n", "=\n", "a=b\n", "caf\u{e9}\n", "a\u{0}b\n",
        String(repeating: "a", count: AccessRules.tokenBytesMax + 1),
        String(repeating: "a\n", count: AccessRules.tokensMax + 1),
    ])
    func fileWithoutTokensOrWithOthersIsRefused(_ text: String) {
        #expect(throws: AccessRules.Malformed.self) {
            try AccessRules.tokens(inFile: Array(text.utf8))
        }
    }

    @Test func errorOfATokenNamesItsLineAndNotTheToken() {
        let error = #expect(throws: AccessRules.Malformed.self) {
            try AccessRules.tokens(inFile: Array("good\nsecret word\n".utf8))
        }
        #expect(error?.description.contains("line 2") == true)
        #expect(error?.description.contains("secret") == false)
    }
}
