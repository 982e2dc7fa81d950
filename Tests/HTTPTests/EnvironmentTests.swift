import Foundation
import Glibc
import HTTP
import HTTPScript
import Testing

/// Proxies and certificate authorities by the environment's variables.
struct EnvironmentTests {
    /// A proxy that answers itself, and lets no tunnel through.
    private func makeProxy() throws -> ScriptedServer {
        try ScriptedServer { _, request in
            [
                request.line.hasPrefix("CONNECT")
                    ? Reply.whole(403, "no") : Reply.whole(200, "by the proxy")
            ]
        }
    }

    @Test(arguments: ["http_proxy", "all_proxy", "ALL_PROXY"])
    func proxyIsUsedForHTTP(_ name: String) throws {
        let proxy = try makeProxy()
        defer { proxy.stop() }
        let client = try makeHTTPClient {
            $0.environment = HTTPEnvironment([name: "http://\(proxy.address)"])
        }
        let reply = try client.send(HTTPRequest(.get, "http://gateway.test/ipfs/x"))
        #expect(text(reply) == "by the proxy")
        #expect(proxy.requests.first?.line == "GET http://gateway.test/ipfs/x HTTP/1.1")
    }

    @Test(arguments: ["https_proxy", "HTTPS_PROXY", "all_proxy"])
    func tunnelIsAskedForHTTPSWithoutTheHeaders(_ name: String) throws {
        let proxy = try makeProxy()
        defer { proxy.stop() }
        let client = try makeHTTPClient {
            $0.environment = HTTPEnvironment([name: proxy.address])
        }
        var request = HTTPRequest(.get, "https://gateway.test/ipfs/x")
        request.headers.append("Authorization", "Bearer s3cret")
        let error = failure { _ = try client.send(request) }
        #expect(error != nil)
        let asked = try #require(proxy.requests.first)
        #expect(asked.line == "CONNECT gateway.test:443 HTTP/1.1")
        #expect(!asked.head.contains("s3cret"))
    }

    @Test(
        "What curl leaves unread is not read",
        arguments: [
            ["HTTP_PROXY": "PROXY"], ["https_proxy": "PROXY"], ["http_proxy": ""],
            ["http_proxy": "PROXY", "no_proxy": "127.0.0.1"],
            ["http_proxy": "PROXY", "NO_PROXY": "*"],
        ])
    func requestGoesWithoutAProxy(_ variables: [String: String]) throws {
        let proxy = try makeProxy()
        defer { proxy.stop() }
        let server = try ScriptedServer { _, _ in [Reply.whole(200, "straight")] }
        defer { server.stop() }
        let client = try makeHTTPClient {
            $0.environment = HTTPEnvironment(
                variables.mapValues { $0 == "PROXY" ? "http://\(proxy.address)" : $0 })
        }
        #expect(text(try client.send(server.request())) == "straight")
        #expect(proxy.connectionCount == 0)
    }

    @Test(arguments: ["127.0.0.1", "*"])
    func whatHasToBePublicGoesByTheProxyInAnyCase(_ unproxied: String) throws {
        let proxy = try makeProxy()
        defer { proxy.stop() }
        let server = try ScriptedServer { _, _ in [Reply.whole(200, "straight")] }
        defer { server.stop() }
        let client = try makeHTTPClient {
            $0.environment = HTTPEnvironment([
                "http_proxy": "http://\(proxy.address)", "no_proxy": unproxied,
            ])
        }
        _ = try? client.send(server.request { $0.route.isPublicOnly = true })
        #expect(server.connectionCount == 0)
        #expect(proxy.connectionCount == 1)
    }

    @Test func directRouteGoesWithoutAProxy() throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, "straight")] }
        defer { server.stop() }
        let client = try makeHTTPClient {
            $0.environment = HTTPEnvironment(["http_proxy": "http://127.0.0.1:1"])
        }
        #expect(failure { _ = try client.send(server.request()) }?.kind == .offline)
        let reply = try client.send(server.request { $0.route.isDirect = true })
        #expect(text(reply) == "straight")
    }

    @Test func environmentOfTheProcessIsReadByItsVariables() {
        #expect(HTTPEnvironment.current == HTTPEnvironment(ProcessInfo.processInfo.environment))
    }

    @Test(arguments: ["http://user:s3cret@", "bad://user:s3cret@host", "http://user:s3cret@[x"])
    func passwordOfAProxyIsInNoText(_ proxy: String) throws {
        let environment = HTTPEnvironment(["all_proxy": proxy])
        let client = try makeHTTPClient { $0.environment = environment }
        let error = failure { _ = try client.send(HTTPRequest(.get, "http://gateway.test/")) }
        #expect(error != nil)
        #expect(error?.description.contains("s3cret") == false, "\(error?.description ?? "")")
        #expect(!"\(environment)".contains("s3cret"))
        #expect(!String(reflecting: environment).contains("s3cret"))
    }

    // MARK: Certificate authorities

    @Test(arguments: ["SSL_CERT_FILE", "CURL_CA_BUNDLE"])
    func fileOfAuthoritiesThatIsMissingIsNamed(_ name: String) throws {
        let server = try ScriptedServer { _, _ in [.close] }
        defer { server.stop() }
        let client = try makeHTTPClient {
            $0.environment = HTTPEnvironment([name: "/nonexistent/ca.pem"])
        }
        let error = failure {
            _ = try client.send(HTTPRequest(.get, "https://\(server.address)/"))
        }
        #expect(error?.kind == .untrusted)
        #expect(
            error?.message
                == "no certificate authority can be read from /nonexistent/ca.pem (\(name))")
    }

    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl")))
    func serverIsTrustedByTheFileOfAuthorities() throws {
        let directory = FileManager.default.temporaryDirectory.appending(
            path: "http-tests-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let (key, certificate) = (directory.path + "/key.pem", directory.path + "/cert.pem")
        let maker = try openssl([
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=IP:127.0.0.1",
        ])
        // Foundation's own wait needs a run loop, which a test's thread has not.
        while maker.isRunning { Thread.sleep(forTimeInterval: 0.01) }
        let port = try ScriptedServer.freePort()
        let server = try openssl([
            "s_server", "-accept", "127.0.0.1:\(port)", "-key", key, "-cert", certificate, "-www",
        ])
        // It may have been given SIGTERM to ignore.
        defer { kill(server.processIdentifier, SIGKILL) }
        func error(_ variables: [String: String]) throws -> HTTPError? {
            let client = try makeHTTPClient { $0.environment = HTTPEnvironment(variables) }
            var request = HTTPRequest(.get, "https://127.0.0.1:\(port)/")
            request.takesUnknownEnd = true
            for _ in 0..<200 {
                let error = failure { _ = try client.send(request) }
                // It takes a while until it listens.
                guard error?.kind == .offline, error?.wasSent == false else { return error }
                Thread.sleep(forTimeInterval: 0.05)
            }
            return failure { _ = try client.send(request) }
        }
        #expect(try error(["CURL_CA_BUNDLE": certificate]) == nil)
        #expect(try error(["SSL_CERT_FILE": certificate, "SSL_CERT_DIR": "/nonexistent"]) == nil)
        #expect(try error([:])?.kind == .untrusted)
    }

    private func openssl(_ arguments: [String]) throws -> Process {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/openssl")
        process.arguments = arguments
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        return process
    }
}
