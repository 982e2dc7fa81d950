import HTTP
import HTTPScript
import Testing

struct PublicAddressTests {
    @Test(arguments: [
        "1.1.1.1", "9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255",
        "192.169.0.0", "100.63.255.255", "100.128.0.0", "223.255.255.255", "198.20.0.0",
        "2600::1", "2001:db8::1", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1",
    ])
    func everybodysAddressesArePublic(_ text: String) {
        #expect(PublicAddress.isPublic(text) == true)
    }

    @Test(arguments: [
        "0.0.0.0", "10.0.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254", "172.16.0.1",
        "172.31.255.255", "192.168.1.1", "100.64.0.1", "192.0.0.1", "198.18.0.1", "198.19.255.255",
        "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "::127.0.0.1",
    ])
    func othersAreNot(_ text: String) {
        #expect(PublicAddress.isPublic(text) == false)
    }

    @Test(arguments: ["", "localhost", "127.1", "1.2.3.4.5", "0x7f000001", "[::1]"])
    func whatIsNoAddressIsNeither(_ text: String) {
        #expect(PublicAddress.isPublic(text) == nil)
    }

    @Test func aServerOfThisMachineIsNotReached() throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, "here")] }
        defer { server.stop() }
        let client = try makeHTTPClient()
        let error = failure {
            _ = try client.send(server.request { $0.route.isPublicOnly = true })
        }
        #expect(error?.kind == .offline)
        #expect(error?.message.contains("no public address") == true)
        #expect(error?.wasSent == false)
        #expect(server.connectionCount == 0)
        #expect(text(try client.send(server.request())) == "here")
    }
}
