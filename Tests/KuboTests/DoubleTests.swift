import Foundation
import KuboDouble
import MerkleDAG
import Multiformats
import Testing

/// What the double does wrong when it is told to, and what it keeps.
struct DoubleTests {
    private static let content = Array("some content to be damaged\n".utf8)
    private static let cid = CID.raw(sha256: content).description

    /// A double with one block.
    private static func node(
        _ options: DoubleNode.Options = DoubleNode.Options()
    ) throws -> (node: DoubleNode, client: RawClient) {
        let node = try DoubleNode(options)
        let client = try RawClient(node.address, timeoutSeconds: 30)
        let (headers, body) = RawClient.multipart([content])
        let response = try client.send(
            "POST", "/api/v0/block/put?cid-codec=raw", headers: headers, body: body)
        try #require(response.status == 200)
        node.resetStatistics()
        return (node, client)
    }

    /// Waits for a condition; false where it never comes.
    private static func waits(for condition: () -> Bool) -> Bool {
        let end = ContinuousClock.now + .seconds(300)
        while !condition() {
            guard ContinuousClock.now < end else { return false }
            Thread.sleep(forTimeInterval: 0.005)
        }
        return true
    }

    private static func get(_ client: RawClient) throws -> RawClient.Response {
        try client.send("POST", "/api/v0/block/get?arg=\(cid)")
    }

    @Test func bytesAreWrongAsOftenAsAskedAndRightAgainThen() throws {
        let (node, client) = try Self.node()
        defer { node.stop() }
        for (kind, value) in [(Fault.Kind.flip, 3), (.truncate, 5), (.extra, 7)] {
            node.add(Fault(kind, command: "block/*", value: value, count: 2))
            for _ in 0..<2 {
                let response = try Self.get(client)
                #expect(response.status == 200)
                #expect(!response.isCut)
                #expect(response.streamError == nil)
                #expect(response.body != Self.content)
            }
            #expect(try Self.get(client).body == Self.content)
        }
    }

    @Test func aCutReplyShowsAsCut() throws {
        let (node, client) = try Self.node()
        defer { node.stop() }
        node.add(Fault(.cutReply, command: "block/get", value: 4, count: 1))
        let response = try Self.get(client)
        #expect(response.isCut)
        #expect(response.body == Array(Self.content.prefix(4)))
    }

    @Test func aCutRequestGetsNoReplyAndStoresNothing() throws {
        let (node, client) = try Self.node()
        defer { node.stop() }
        let count = node.blockCount
        node.add(Fault(.cutRequest, command: "block/put", value: 1000, count: 1))
        let (headers, body) = RawClient.multipart([[UInt8](repeating: 9, count: 1 << 20)])
        #expect(throws: RawClient.Failure.self) {
            try client.send("POST", "/api/v0/block/put", headers: headers, body: body)
        }
        #expect(node.blockCount == count)
    }

    @Test func statusesAndTrailersComeAsAsked() throws {
        let (node, client) = try Self.node()
        defer { node.stop() }
        node.add(Fault(.status, command: "block/get", value: 503, message: "busy", count: 1))
        let refused = try Self.get(client)
        #expect(refused.status == 503)
        #expect(refused.text.contains("busy"))
        node.add(Fault(.trailer, command: "block/get", message: "too late", count: 1))
        let late = try Self.get(client)
        #expect(late.status == 200)
        #expect(late.body == Self.content)
        #expect(late.streamError == "too late")
    }

    @Test func aLostReplyIsAnErrorOfWhatWasDone() throws {
        let (node, client) = try Self.node()
        defer { node.stop() }
        node.add(Fault(.lostReply, command: "files/mkdir", count: 1))
        #expect(try client.send("POST", "/api/v0/files/mkdir?arg=/made").status == 500)
        #expect(try client.send("POST", "/api/v0/files/stat?arg=/made").status == 200)
    }

    @Test func aHangingCallEndsWhenFaultsAreCleared() throws {
        let (node, client) = try Self.node()
        defer { node.stop() }
        node.add(Fault(.hang, command: "version"))
        let call = Background { try? client.send("POST", "/api/v0/version") }
        try #require(Self.waits { node.statistics["version"]?.calls == 1 })
        // Others are served meanwhile.
        #expect(try Self.get(client).status == 200)
        try node.clearFaults()
        #expect(call.value() == nil)
        #expect(try client.send("POST", "/api/v0/version").status == 200)
    }

    @Test func refusedConnectionsAreWelcomeAgainOnTheSamePort() throws {
        let (node, client) = try Self.node()
        defer { node.stop() }
        try node.setRefusing(true)
        #expect(throws: RawClient.Failure.self) { try Self.get(client) }
        try node.setRefusing(false)
        #expect(try Self.get(client).body == Self.content)
    }

    @Test func aFullRepositoryTakesNothingNew() throws {
        let (node, client) = try Self.node()
        defer { node.stop() }
        node.setFull(true)
        let (headers, body) = RawClient.multipart([Array("new".utf8)])
        let response = try client.send("POST", "/api/v0/block/put", headers: headers, body: body)
        #expect(response.status == 500)
        #expect(response.text.contains("no space left on device"))
        // What is there is read as before.
        #expect(try Self.get(client).body == Self.content)
        node.setFull(false)
        #expect(
            try client.send("POST", "/api/v0/block/put", headers: headers, body: body).status == 200
        )
    }

    @Test func aRestartLosesWhatWasNotFlushed() throws {
        let (node, client) = try Self.node()
        defer { node.stop() }
        for (path, flush) in [("/kept", true), ("/lost", false)] {
            let target = "/api/v0/files/cp?arg=/ipfs/\(Self.cid)&arg=\(path)&flush=\(flush)"
            #expect(try client.send("POST", target).status == 200)
        }
        #expect(try client.send("POST", "/api/v0/files/stat?arg=/lost").status == 200)
        try node.restart()
        #expect(try client.send("POST", "/api/v0/files/stat?arg=/lost").status == 500)
        #expect(try client.send("POST", "/api/v0/files/stat?arg=/kept").status == 200)
    }

    @Test func statisticsTellBlocksSentTwice() throws {
        let (node, client) = try Self.node()
        defer { node.stop() }
        let (headers, body) = RawClient.multipart([Self.content, Array("another".utf8)])
        for _ in 0..<2 {
            let response = try client.send(
                "POST", "/api/v0/block/put", headers: headers, body: body)
            #expect(response.status == 200)
        }
        let counted = try #require(node.statistics["block/put"])
        #expect(counted.calls == 2)
        #expect(counted.blocks == 4)
        #expect(counted.knownBlocks == 3)
        #expect(counted.blockBytes == 2 * (Self.content.count + 7))
        #expect(counted.requestBytes == 2 * body.count)
    }

    @Test func faultsAreSetOverHTTPToo() throws {
        let (node, client) = try Self.node()
        defer { node.stop() }
        let control = try RawClient(node.controlAddress)
        let fault = Array(#"{"command":"block/get","kind":"status","value":502,"count":1}"#.utf8)
        #expect(try control.send("POST", "/double/faults", body: fault).status == 200)
        #expect(try Self.get(client).status == 502)
        let statistics = try control.send("GET", "/double/stats")
        let counted = try JSONDecoder().decode(
            [String: CommandStatistics].self, from: Data(statistics.body))
        #expect(counted["block/get"]?.calls == 1)
        #expect(try control.send("POST", "/double/faults", body: [0x7b]).status == 400)
    }

    @Test func aDirectoryKeepsBlocksPinsAndTheFlushedRoot() throws {
        let directory = FileManager.default.temporaryDirectory.path + "/double-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: directory) }
        var options = DoubleNode.Options()
        options.storeDirectory = directory
        let before: String
        do {
            let (node, client) = try Self.node(options)
            defer { node.stop() }
            for target in [
                "files/mkdir?arg=/a/b&parents=true", "files/cp?arg=/ipfs/\(Self.cid)&arg=/a/f",
                "files/mkdir?arg=/lost&flush=false", "pin/add?arg=\(Self.cid)&name=n",
            ] {
                #expect(try client.send("POST", "/api/v0/" + target).status == 200)
            }
            before = try client.send("POST", "/api/v0/files/stat?arg=/a").text
        }
        let node = try DoubleNode(options)
        defer { node.stop() }
        let client = try RawClient(node.address)
        #expect(try client.send("POST", "/api/v0/files/stat?arg=/a").text == before)
        #expect(try client.send("POST", "/api/v0/files/stat?arg=/lost").status == 500)
        #expect(
            try client.send("POST", "/api/v0/pin/ls?names=true&arg=\(Self.cid)").text
                .contains("\"Name\":\"n\""))
        #expect(try Self.get(client).body == Self.content)
    }

    @Test func itListensOnAUnixSocket() throws {
        var options = DoubleNode.Options()
        let path = FileManager.default.temporaryDirectory.path + "/double-\(UUID().uuidString).sock"
        options.unixPath = path
        let node = try DoubleNode(options)
        defer {
            node.stop()
            try? FileManager.default.removeItem(atPath: path)
        }
        #expect(try RawClient("/unix" + path).send("POST", "/api/v0/version").status == 200)
    }

    @Test func clientsThatGoAwayDoNoHarm() throws {
        let (node, client) = try Self.node()
        defer { node.stop() }
        let missing = CID.raw(sha256: Array("nowhere".utf8)).description
        // Waits for a block that never comes, and is left alone.
        let hasty = try RawClient(node.address, timeoutSeconds: 1)
        #expect(throws: RawClient.Failure.self) {
            try hasty.send("POST", "/api/v0/block/get?arg=\(missing)")
        }
        #expect(try Self.get(client).body == Self.content)
    }

    @Test func aBlockThatComesEndsTheWaitForIt() throws {
        let (node, client) = try Self.node()
        defer { node.stop() }
        let late = Array("late".utf8)
        let cid = CID.raw(sha256: late).description
        let call = Background { try? client.send("POST", "/api/v0/block/get?arg=\(cid)") }
        try #require(Self.waits { node.statistics["block/get"]?.calls == 1 })
        let (headers, body) = RawClient.multipart([late])
        _ = try client.send("POST", "/api/v0/block/put", headers: headers, body: body)
        #expect(call.value()?.body == late)
    }

    @Test func aStreamedArchiveOfManyMegabytesArrivesWhole() throws {
        let node = try DoubleNode()
        defer { node.stop() }
        let client = try RawClient(node.address)
        let blocks = (0..<40).map { [UInt8](repeating: UInt8($0), count: 1 << 20) }
        var archive: [UInt8] = []
        var writer = CARWriter<Never>(roots: []) { archive += $0 }
        for block in blocks { writer.write(CID.raw(sha256: block), block) }
        let (headers, body) = RawClient.multipart([archive], name: "path")
        let response = try client.send(
            "POST", "/api/v0/dag/import?pin-roots=false&stats=true", headers: headers, body: body)
        #expect(
            response.text == "{\"Stats\":{\"BlockCount\":40,\"BlockBytesCount\":\(40 << 20)}}\n")
        let cid = CID.raw(sha256: blocks[39])
        let back = try client.send("POST", "/api/v0/block/get?arg=\(cid)")
        #expect(back.body == blocks[39])
    }
}

/// A call on a thread of its own, which the tests' pool does not have to lend.
///
/// `@unchecked Sendable`: the result is written and read with `condition` locked.
private final class Background: @unchecked Sendable {
    private let condition = NSCondition()
    private var result: RawClient.Response??

    init(_ body: @escaping @Sendable () -> RawClient.Response?) {
        Thread.detachNewThread { [self] in
            let response = body()
            condition.lock()
            result = .some(response)
            condition.signal()
            condition.unlock()
        }
    }

    /// Blocks until the call is over; records an issue where it never is.
    func value() -> RawClient.Response? {
        condition.lock()
        defer { condition.unlock() }
        let end = Date.now + 300
        while result == nil {
            guard condition.wait(until: end) else {
                Issue.record("the call does not end")
                break
            }
        }
        return result ?? nil
    }
}
