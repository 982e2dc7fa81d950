import Foundation
import Glibc
import Kubo
import Logging
import Testing

/// The forms of a node's address.
struct AddressTests {
    @Test(
        "An address is understood in each of its forms",
        arguments: [
            ("http://127.0.0.1:5001", "http://127.0.0.1:5001"),
            ("http://127.0.0.1:5001/", "http://127.0.0.1:5001"),
            ("http://127.0.0.1:5001/api/v0", "http://127.0.0.1:5001"),
            ("http://node.example/ipfs/rpc/", "http://node.example/ipfs/rpc"),
            ("http://node.example/ipfs/api/v0/", "http://node.example/ipfs"),
            ("https://node.example", "https://node.example"),
            ("http://[::1]:5001", "http://[::1]:5001"),
            ("localhost:5001", "http://localhost:5001"),
            ("[::1]:5001", "http://[::1]:5001"),
            ("/ip4/127.0.0.1/tcp/5001", "http://127.0.0.1:5001"),
            ("/ip4/0.0.0.0/tcp/5001", "http://127.0.0.1:5001"),
            ("/ip4/10.0.0.7/tcp/5001/http", "http://10.0.0.7:5001"),
            ("/ip4/10.0.0.7/tcp/443/https", "https://10.0.0.7:443"),
            ("/dns/node.example/tcp/443/tls/http", "https://node.example:443"),
            ("/ip6/::1/tcp/5001", "http://[::1]:5001"),
            ("/ip6/::/tcp/5001", "http://[::1]:5001"),
            ("/dns4/node/tcp/1", "http://node:1"),
            ("/dns6/node/tcp/65535", "http://node:65535"),
            ("/unix/run/ipfs api.sock", "unix:///run/ipfs api.sock"),
            ("unix:///run/ipfs.sock", "unix:///run/ipfs.sock"),
        ])
    func addressIsUnderstood(_ text: String, _ expected: String) throws {
        #expect(try KuboAddress(text).description == expected)
    }

    @Test(
        "What is not an address is refused in one line",
        arguments: [
            "", " ", "127.0.0.1", "node", ":5001", "node:", "node:0", "node:65536", "node:5001x",
            "node:+1", "node:-1", "node:99999999999999999999", "ftp://node:1", "http://",
            "http://:5001", "http://no de:1", "http://node:1?x=y", "http://node:1/#f",
            "http://node:1/a b", "http://[::1", "http://[zz]:1", "http://[::1]x", "::1:5001",
            "/ip4/127.0.0.1/tcp", "/ip4/127.0.0.1/udp/5001", "/ip4/300.0.0.1/tcp/1",
            "/ip4/::1/tcp/1", "/ip6/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/x",
            "/ip4/127.0.0.1/tcp/5001/p2p/x", "/dns//tcp/1", "/dns/a/b/tcp/1", "/onion/a/tcp/1",
            "unix://relative", "unix:", "/unix", "/unix/" + String(repeating: "a", count: 200), "/",
            "//", "http://node:1\r\nX: y", "http://node\u{0}:1", "http://näme:1",
            "http://node:1/" + String(repeating: "a", count: 5000),
        ])
    func otherTextIsRefused(_ text: String) {
        let error = #expect(throws: KuboAddressError.self) { try KuboAddress(text) }
        #expect(error.map { !$0.description.contains("\n") && !$0.description.isEmpty } == true)
        #expect((error?.description.utf8.count ?? 0) <= 600)
    }

    @Test func credentialsInAnAddressAreRefusedAndNotRepeated() {
        let error = #expect(throws: KuboAddressError.self) {
            try KuboAddress("http://user:hunter2@node:5001")
        }
        #expect(error?.description.contains("hunter2") == false)
    }

    @Test func addressIsDiscoveredInTheNodesRepository() throws {
        let directory = try TemporaryDirectory()
        try "/ip4/127.0.0.1/tcp/4242\n".write(
            toFile: directory.path + "/api", atomically: false, encoding: .utf8)
        let found = try KuboAddress.discovered(environment: ["IPFS_PATH": directory.path])
        #expect(found.description == "http://127.0.0.1:4242")

        try FileManager.default.createDirectory(
            atPath: directory.path + "/.ipfs", withIntermediateDirectories: false)
        try "/ip6/::1/tcp/7".write(
            toFile: directory.path + "/.ipfs/api", atomically: false, encoding: .utf8)
        #expect(
            try KuboAddress.discovered(environment: ["HOME": directory.path]).description
                == "http://[::1]:7")
    }

    @Test(arguments: [
        ("127.0.0.1:1", true), ("http://127.9.9.9", true), ("http://localhost:1", true),
        ("http://[::1]:1", true), ("/unix/run/api", true), ("https://example.org", true),
        ("/ip4/0.0.0.0/tcp/1", true), ("http://127.0.0.1.example.org", false),
        ("http://127.example", false), ("http://example.org", false), ("10.0.0.1:5001", false),
        ("http://[::2]:1", false), ("/dns4/node/tcp/5001", false),
    ])
    func onlyTheLoopbackAndEncryptionArePrivate(_ text: String, isPrivate: Bool) throws {
        #expect(try KuboAddress(text).isPrivate == isPrivate)
    }

    @Test(.enabled(if: geteuid() == 0))
    func addressThatAnotherUserCouldHaveWrittenIsNotBelieved() throws {
        let directory = try TemporaryDirectory()
        let (repository, file) = (directory.path + "/.ipfs", directory.path + "/.ipfs/api")
        try FileManager.default.createDirectory(
            atPath: repository, withIntermediateDirectories: false)
        try "/ip4/127.0.0.1/tcp/4242".write(toFile: file, atomically: false, encoding: .utf8)
        let environments = [["HOME": directory.path], ["IPFS_PATH": repository]]
        func isBelieved(_ environment: [String: String]) -> Bool {
            (try? KuboAddress.discovered(environment: environment)) != nil
        }
        #expect(environments.allSatisfy(isBelieved))
        // Whoever made the repository that was named is the node's user.
        chown(file, 4242, 4242)
        #expect(!environments.contains(where: isBelieved))
        chown(repository, 4242, 4242)
        #expect(isBelieved(environments[1]) && !isBelieved(environments[0]))
        chown(file, 4243, 4243)
        #expect(!environments.contains(where: isBelieved))
        chown(file, 0, 0)
        #expect(rename(file, directory.path + "/moved") == 0)
        #expect(symlink(directory.path + "/moved", file) == 0)
        #expect(!environments.contains(where: isBelieved))
    }

    @Test func missingOrBadDiscoveryFileIsOneClearError() throws {
        let directory = try TemporaryDirectory()
        let missing = #expect(throws: KuboAddressError.self) {
            try KuboAddress.discovered(environment: ["IPFS_PATH": directory.path])
        }
        #expect(missing?.description.contains(directory.path + "/api") == true)
        try Data(repeating: 0xff, count: 100_000).write(
            to: URL(fileURLWithPath: directory.path + "/api"))
        #expect(throws: KuboAddressError.self) {
            try KuboAddress.discovered(environment: ["IPFS_PATH": directory.path])
        }
        #expect(throws: KuboAddressError.self) { try KuboAddress.discovered(environment: [:]) }
    }
}

/// Credentials and their forms.
struct CredentialsTests {
    @Test(arguments: [
        ("bearer:s3cret", "bearer ***"), ("s3cret", "bearer ***"), ("basic:us:s3cret", "basic ***"),
        ("basic:us:", "basic ***"),
    ])
    func credentialsShowTheirKindOnly(_ text: String, _ shown: String) throws {
        let credentials = try KuboCredentials(text)
        #expect(credentials.description == shown)
        var dumped = ""
        dump(credentials, to: &dumped)
        let everything = "\(credentials) \(String(reflecting: credentials)) \(dumped)"
        #expect(!everything.contains("s3cret"))
        #expect(!everything.contains("us:"))
    }

    @Test(arguments: [
        "", "bearer:", "basic:", "basic:user", "basic::pass", "to ken", "token\n",
        "bearer:a\r\nX: y",
        "a\u{7f}", String(repeating: "a", count: 5000),
    ])
    func malformedCredentialsAreRefusedAndNotRepeated(_ text: String) {
        let error = #expect(throws: KuboCredentialsError.self) { try KuboCredentials(text) }
        #expect(error?.description.contains("X: y") == false)
    }

    @Test func credentialsAreReadFromAFileThatIsItsOwnersAlone() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/auth"
        try "basic:me:pass\n".write(toFile: path, atomically: false, encoding: .utf8)
        chmod(path, 0o600)
        #expect(try KuboCredentials(file: path) == KuboCredentials("basic:me:pass"))
        for mode: mode_t in [0o640, 0o604, 0o602, 0o620] {
            chmod(path, mode)
            let error = #expect(throws: KuboCredentialsError.self) {
                try KuboCredentials(file: path)
            }
            #expect(error?.description.contains("pass") == false)
        }
    }

    @Test(.enabled(if: geteuid() == 0))
    func fileThatAnotherUserCouldHavePutThereIsRefused() throws {
        let directory = try TemporaryDirectory()
        let (path, link) = (directory.path + "/auth", directory.path + "/link")
        try "basic:me:pass\n".write(toFile: path, atomically: false, encoding: .utf8)
        chmod(path, 0o600)
        #expect(symlink("auth", link) == 0)
        #expect(try KuboCredentials(file: link) == KuboCredentials("basic:me:pass"))
        #expect(lchown(link, 4242, 4242) == 0)
        let error = #expect(throws: KuboCredentialsError.self) { try KuboCredentials(file: link) }
        #expect(error?.description.contains("user 4242") == true)
        #expect(try KuboCredentials(file: path) == KuboCredentials("basic:me:pass"))
        chown(path, 4242, 4242)
        #expect(throws: KuboCredentialsError.self) { try KuboCredentials(file: path) }
        let loop = directory.path + "/loop"
        #expect(symlink("loop", loop) == 0)
        #expect(throws: KuboCredentialsError.self) { try KuboCredentials(file: loop) }
    }

    @Test func credentialsDoNotGoToAnotherMachineInTheOpen() throws {
        var configuration = KuboConfiguration(
            address: try KuboAddress("http://192.0.2.1:5001"),
            credentials: try KuboCredentials("bearer:s3cret"))
        let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let error = #expect(throws: KuboError.self) { try KuboClient(configuration, log: log) }
        #expect(error?.kind == .refused && error?.description.contains("s3cret") == false)
        configuration.sendsCredentialsInTheOpen = true
        _ = try KuboClient(configuration, log: log)
        configuration.sendsCredentialsInTheOpen = false
        configuration.address = try KuboAddress("https://192.0.2.1:5001")
        _ = try KuboClient(configuration, log: log)
    }

    @Test func whatIsNoFileOfOneLineIsRefused() throws {
        let directory = try TemporaryDirectory()
        #expect(throws: KuboCredentialsError.self) { try KuboCredentials(file: directory.path) }
        #expect(throws: KuboCredentialsError.self) { try KuboCredentials(file: "/dev/null") }
        #expect(throws: KuboCredentialsError.self) {
            try KuboCredentials(file: directory.path + "/none")
        }
        let pipe = directory.path + "/pipe"
        #expect(mkfifo(pipe, 0o600) == 0)
        #expect(throws: KuboCredentialsError.self) { try KuboCredentials(file: pipe) }
        for (index, content) in ["", "\n", "a\nb\n", String(repeating: "x", count: 9000)]
            .enumerated()
        {
            let path = directory.path + "/\(index)"
            try content.write(toFile: path, atomically: false, encoding: .utf8)
            chmod(path, 0o600)
            #expect(throws: KuboCredentialsError.self) { try KuboCredentials(file: path) }
        }
    }

    @Test func credentialsAreReadFromTheEnvironment() throws {
        #expect(try KuboCredentials(environment: [:]) == nil)
        #expect(try KuboCredentials(environment: ["REGISTRYFS_KUBO_AUTH": ""]) == nil)
        #expect(
            try KuboCredentials(environment: ["REGISTRYFS_KUBO_AUTH": "bearer:x"])
                == KuboCredentials("x"))
    }
}

/// A directory that is removed when its owner ends.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "kubo-tests-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }
}
