import Foundation
import HTTP
import HTTPScript
import Kubo
import Testing

/// Proxies of the environment, and the node.
struct ProxyTests {
    private let everyProxy = HTTPEnvironment([
        "http_proxy": "http://127.0.0.1:1", "all_proxy": "http://127.0.0.1:1",
    ])

    @Test(arguments: ["http://127.0.0.1:", "http://localhost:", "/ip4/127.0.0.1/tcp/"])
    func nodeOnThisMachineIsReachedWithoutAProxy(_ begin: String) throws {
        let server = try ScriptedServer { _, _ in [Reply.version] }
        defer { server.stop() }
        let client = try makeClient(begin + "\(server.port)") { $0.environment = everyProxy }
        #expect(try client.version().version == "0.43.0")
    }

    @Test func nodeAtAUnixSocketIsReachedWithoutAProxy() throws {
        let path = FileManager.default.temporaryDirectory.path + "/\(UUID().uuidString)"
        let server = try ScriptedServer(socketPath: path) { _, _ in [Reply.version] }
        defer {
            server.stop()
            try? FileManager.default.removeItem(atPath: path)
        }
        let client = try makeClient("unix://\(path)") { $0.environment = everyProxy }
        #expect(try client.version().version == "0.43.0")
    }

    @Test func nodeElsewhereIsReachedByTheProxy() throws {
        let proxy = try ScriptedServer { _, _ in [Reply.version] }
        defer { proxy.stop() }
        let client = try makeClient("http://kubo.test:5001") {
            $0.environment = HTTPEnvironment(["http_proxy": "http://\(proxy.address)"])
        }
        #expect(try client.version().version == "0.43.0")
        #expect(proxy.requests.first?.line == "POST http://kubo.test:5001/api/v0/version HTTP/1.1")
    }
}
