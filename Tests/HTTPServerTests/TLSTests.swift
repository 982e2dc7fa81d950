import Base
import Foundation
import Glibc
import HTTP
import HTTPServer
import HTTPTypes
import Serving
import Testing

@Suite struct TLSTests {
    /// A certificate for the loopback that signs itself, and its key.
    private final class Certificate: Sendable {
        let directory = temporaryPath("tls")

        var path: String { directory + "/cert.pem" }
        var keyPath: String { directory + "/key.pem" }

        init() throws {
            try Sys.makeDirectory(directory)
            try renew()
        }

        deinit { try? FileManager.default.removeItem(atPath: directory) }

        /// Makes another one, in place of the first.
        func renew() throws {
            let (status, _) = try run(
                "/usr/bin/openssl",
                [
                    "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                    "-nodes", "-days", "2", "-subj", "/CN=registryfs test", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", keyPath + ".new", "-out",
                    path + ".new",
                ])
            try #require(status == 0, "openssl made no certificate")
            for name in [keyPath, path] {
                try? FileManager.default.removeItem(atPath: name)
                try FileManager.default.moveItem(atPath: name + ".new", toPath: name)
            }
        }

        func files() throws -> CertificateFiles {
            try CertificateFiles(certificatePath: path, keyPath: keyPath)
        }
    }

    private static func get(_ url: String, trusting path: String) throws -> HTTPReply {
        var request = HTTP.HTTPRequest(.get, url)
        request.replyBytesMax = 4 << 20
        return try makeHTTPClient(["SSL_CERT_FILE": path]).send(request)
    }

    /// What curl says of an answer: the version of HTTP, the status, and the body's size and end.
    private static func curl(
        _ url: String, _ options: String...
    ) throws -> (status: Int32, words: String) {
        let (status, output) = try run(
            "/usr/bin/curl",
            ["-sk", "-o", "/dev/null", "-w", "%{http_version} %{http_code} %{size_download}"]
                + options + [url])
        return (status, String(decoding: output, as: UTF8.self))
    }

    @Test func filesAreSentByTLS() async throws {
        let certificate = try Certificate()
        let file = try TestFile(byteCount: 2_000_000)
        try await withServer(
            {
                $0.certificate = try certificate.files()
                $0.pieceBytes = 64 << 10
            },
            handler: { _ in
                ServeResponse(
                    200, [:], .pieces([file.range(3..<1_999_999), .bytes(Array("end".utf8))]))
            }
        ) { server in
            let reply = try Self.get(server.url(scheme: "https"), trusting: certificate.path)
            let expected = file.bytes[3..<1_999_999] + Array("end".utf8)
            #expect(reply.body.elementsEqual(expected))
        }
    }

    @Test func manyAtOnceAreSentWholeWithLittleMemory() async throws {
        let certificate = try Certificate()
        let file = try TestFile(byteCount: 500_000)
        try await withServer(
            {
                $0.certificate = try certificate.files()
                $0.piecesBytesMax = 1 << 20
            }, handler: { _ in ServeResponse(200, [:], .pieces([file.range(0..<500_000)])) }
        ) { server in
            let url = server.url(scheme: "https")
            let (status, body) = try run(
                "/usr/bin/curl",
                ["-sk", "--http2", "--parallel", "--parallel-max", "20"]
                    + Array(repeating: ["-o", "-", url], count: 20).flatMap { $0 })
            #expect(status == 0)
            #expect(body.count == 20 * 500_000)
            // One alone has its bytes in their order.
            #expect(try Self.get(url, trusting: certificate.path).body == file.bytes)
        }
    }

    @Test func newCertificateIsUsedAndABadOneIsNot() async throws {
        let certificate = try Certificate()
        let files = try certificate.files()
        let old = temporaryPath("old")
        try FileManager.default.copyItem(atPath: certificate.path, toPath: old)
        defer { unlink(old) }
        try await withServer({ $0.certificate = files }, handler: { _ in plain("x") }) { server in
            let url = server.url(scheme: "https")
            #expect(try Self.get(url, trusting: old).status == 200)
            #expect(try !files.reload())
            try certificate.renew()
            _ = try files.reload()
            #expect(throws: HTTPError.self) { try Self.get(url, trusting: old) }
            #expect(try Self.get(url, trusting: certificate.path).status == 200)

            let good = temporaryPath("good")
            try FileManager.default.copyItem(atPath: certificate.path, toPath: good)
            defer { unlink(good) }
            try Data("no certificate".utf8).write(to: URL(fileURLWithPath: certificate.path))
            #expect(throws: ServerFailure.self) { try files.reload() }
            // Told once for each change.
            #expect(try !files.reload())
            #expect(try Self.get(url, trusting: good).status == 200)
        }
    }

    @Test func aKeyThatCannotBeReadAgainStaysWithItsCertificate() throws {
        let certificate = try Certificate()
        let files = try certificate.files()
        #expect(files.whatIsUnreadable() == nil)
        let key = certificate.directory + "/kept.pem"
        try FileManager.default.moveItem(atPath: certificate.keyPath, toPath: key)
        // Which nobody may read, not even root.
        try FileManager.default.createSymbolicLink(
            atPath: certificate.keyPath, withDestinationPath: "/proc/sys/vm/drop_caches")
        #expect(files.whatIsUnreadable()?.contains(certificate.keyPath) == true)
        #expect(files.whatIsUnreadable()?.contains(certificate.path) == false)
        // Another certificate of the same key.
        try FileManager.default.removeItem(atPath: certificate.path)
        let (status, _) = try run(
            "/usr/bin/openssl",
            [
                "req", "-x509", "-key", key, "-days", "3", "-subj", "/CN=renewed", "-out",
                certificate.path,
            ])
        #expect(status == 0)
        #expect(try files.reload())
        #expect(try !files.reload())
        // And one of another key.
        let other = try Certificate()
        try FileManager.default.removeItem(atPath: certificate.path)
        try FileManager.default.copyItem(atPath: other.path, toPath: certificate.path)
        let failure = #expect(throws: ServerFailure.self) { try files.reload() }
        #expect(failure?.description.contains("start the server anew") == true)
    }

    @Test func filesThatCannotBeLookedAtAnyMoreAreNoChange() throws {
        // Root looks at all of them.
        guard geteuid() != 0 else { return }
        let certificate = try Certificate()
        let files = try certificate.files()
        chmod(certificate.directory, 0)
        defer { chmod(certificate.directory, 0o700) }
        #expect(try !files.reload())
        #expect(files.whatIsUnreadable()?.contains(certificate.path) == true)
    }

    @Test func changedFilesAreSeenByTheServer() async throws {
        let certificate = try Certificate()
        try await withServer(
            {
                $0.certificate = try certificate.files()
                $0.certificateMilliseconds = 10
            }, handler: { _ in plain("x") }
        ) { server in
            try certificate.renew()
            var status = 0
            for _ in 0..<1_000 where status != 200 {
                status =
                    (try? Self.get(server.url(scheme: "https"), trusting: certificate.path))?.status
                    ?? 0
                if status != 200 { Threads.sleep(milliseconds: 20) }
            }
            #expect(status == 200)
        }
    }

    @Test func keyOfAnotherCertificateIsRefused() throws {
        let one = try Certificate()
        let other = try Certificate()
        #expect(throws: ServerFailure.self) {
            try CertificateFiles(certificatePath: one.path, keyPath: other.keyPath)
        }
        #expect(throws: ServerFailure.self) {
            try CertificateFiles(certificatePath: one.path + ".none", keyPath: one.keyPath)
        }
        #expect(throws: ServerFailure.self) {
            try CertificateFiles(certificatePath: one.keyPath, keyPath: one.keyPath)
        }
    }

    @Test func plainWordsToTLSEndTheirConnectionOnly() async throws {
        let certificate = try Certificate()
        try await withServer(
            { $0.certificate = try certificate.files() }, handler: { _ in plain("x") }
        ) { server in
            let client = try server.connect()
            try client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            let bytes = try client.receiveToEnd()
            #expect(!String(decoding: bytes, as: UTF8.self).contains("HTTP/1.1"))
            let url = server.url(scheme: "https")
            #expect(try Self.get(url, trusting: certificate.path).status == 200)
        }
    }

    @Test func handshakeThatDoesNotComeIsClosed() async throws {
        let certificate = try Certificate()
        try await withServer(
            {
                $0.certificate = try certificate.files()
                $0.requestMilliseconds = 100
            }, handler: { _ in plain("x") }
        ) { server in
            let silent = try server.connect()
            #expect(try silent.receiveToEnd().isEmpty)
            let half = try server.connect()
            // The begin of a record with a ClientHello.
            try half.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
            #expect(try half.receiveToEnd().count < 100)
        }
    }

    @Test func version2IsAgreedOnByALPN() async throws {
        let certificate = try Certificate()
        let file = try TestFile(byteCount: 3_000_000)
        let digest = temporaryPath("digest")
        defer { unlink(digest) }
        try await withServer(
            { $0.certificate = try certificate.files() },
            handler: { _ in ServeResponse(200, [:], .pieces([file.range(0..<3_000_000)])) }
        ) { server in
            let url = server.url(scheme: "https")
            #expect(try Self.curl(url, "--http2").words == "2 200 3000000")
            #expect(try Self.curl(url, "--http1.1").words == "1.1 200 3000000")
            #expect(try Self.curl(url, "--http2", "-I").words == "2 200 0")
            let (status, body) = try run("/usr/bin/curl", ["-sk", "--http2", url])
            #expect(status == 0)
            #expect(body == file.bytes)
        }
    }

    @Test func version2IsSpokenWithoutTLSByPriorKnowledge() async throws {
        let seen = Waited<String>()
        try await withServer(handler: { request in
            seen.add(request.rawPath)
            return plain("x")
        }) { server in
            let (status, words) = try Self.curl(
                server.url("/a%2Fb"), "--http2-prior-knowledge")
            #expect(status == 0)
            #expect(words == "2 200 1")
            // An upgrade is not made, and is no harm.
            #expect(try Self.curl(server.url("/"), "--http2").words == "1.1 200 1")
        }
        #expect(seen.all == ["/a%2Fb", "/"])
    }

    @Test func boundsHoldForVersion2() async throws {
        try await withServer(
            {
                $0.targetBytesMax = 100
                $0.requestBodyBytesMax = 1_000
                $0.access.tokens = ["token"]
            }, handler: { _ in plain("x") }
        ) { server in
            let version2 = "--http2-prior-knowledge"
            let token = "Authorization: Bearer token"
            let refused = try Self.curl(server.url(), version2)
            #expect(refused.words.hasPrefix("2 401"))
            let answered = try Self.curl(server.url(), version2, "-H", token)
            #expect(answered.words == "2 200 1")
            let url = server.url("/" + String(repeating: "a", count: 100))
            let long = try Self.curl(url, version2, "-H", token)
            #expect(long.words.hasPrefix("2 414"))
            let body = String(repeating: "b", count: 1_001)
            let large = try Self.curl(server.url(), version2, "-H", token, "-d", body)
            #expect(large.words.hasPrefix("2 413"))
        }
    }

    @Test func streamWhoseProducerFailsIsReset() async throws {
        try await withServer(handler: { _ in
            ServeResponse(
                200, [:],
                .producer(
                    ClosureProducer { number throws(ServeFault) in
                        guard number < 3 else { throw .failed(reason: "for a test") }
                        return .bytes([UInt8](repeating: 1, count: 1_000))
                    }, count: nil))
        }) { server in
            let (status, words) = try Self.curl(server.url(), "--http2-prior-knowledge")
            // CURLE_HTTP2_STREAM, or CURLE_PARTIAL_FILE.
            #expect(status == 92 || status == 18, "curl ended with \(status): \(words)")
        }
    }

    @Test func streamThatWaitsForItsHandlerIsNotIdle() async throws {
        try await withServer(
            {
                $0.idleMilliseconds = 200
                $0.requestMilliseconds = 200
                $0.stallMilliseconds = 200
            },
            handler: { _ in
                Threads.sleep(milliseconds: 2_000)
                return plain("late")
            }
        ) { server in
            let answered = try Self.curl(server.url(), "--http2-prior-knowledge")
            #expect(answered.words == "2 200 4")
        }
    }

    @Test func handlerIsToldThatTheClientOfItsStreamIsGone() async throws {
        let started = Waited<Bool>()
        let ended = Waited<Bool>()
        try await withServer(handler: { request in
            let wakes = Semaphore()
            let cancellation = request.cancellation
            _ = cancellation?.onCancel { wakes.signal() }
            started.add(true)
            if cancellation?.isCancelled == false { wakes.wait() }
            ended.add(cancellation?.isCancelled ?? false)
            return plain("x")
        }) { server in
            let client = Process()
            client.executableURL = URL(fileURLWithPath: "/usr/bin/curl")
            client.arguments = ["-s", "--http2-prior-knowledge", server.url()]
            client.standardOutput = FileHandle.nullDevice
            try client.run()
            #expect(started.first() == true)
            // Signals that a process can block, a thread's child may have blocked.
            kill(client.processIdentifier, SIGKILL)
            #expect(ended.first() == true)
        }
    }

    @Test func streamUnderWayMayEndAtAStop() async throws {
        let goOn = Semaphore()
        let started = Waited<Bool>()
        try await withServer(
            { $0.stopMilliseconds = 60_000 },
            handler: slowBody(started: started, goOn: goOn, count: nil)
        ) { server in
            let words = Waited<String>()
            let url = server.url()
            try Threads.startDetached(name: "curl") {
                let answered = try? Self.curl(url, "--http2-prior-knowledge")
                words.add(answered?.words ?? "curl failed")
            }
            #expect(started.first() == true)
            server.service.stop()
            goOn.signal()
            #expect(words.first() == "2 200 8")
        }
    }
}
