import Base
import Checking
import Foundation
import KuboDouble
import KuboStand
import MerkleDAG
import Multiformats
import Remotes
import Testing
import Volume

import struct SystemPackage.Errno

/// A node, and what the tests ask of it beside the volume.
struct NodeStand {
    static let path = "/registryfs/test"

    let kubo: KuboStand
    private let raw: RawClient
    /// The double, whose faults can be set and whose calls are counted.
    var double: DoubleNode? { kubo.node.double }
    let path: String

    /// - Parameter hasPeers: the node looks among them for what it lacks; without, a missing block is
    ///   known at once.
    init(_ kind: TestNode.Kind = .double, hasPeers: Bool = false) throws {
        var options = DoubleNode.Options()
        options.isOffline = !hasPeers
        let node = try TestNode.make(kind, options: options)
        kubo = try KuboStand(node, log: quietLog)
        raw = try RawClient(node.address)
        // All tests share a real node.
        path = Self.path + "-" + UUID().uuidString.prefix(8)
    }

    func options(_ change: (inout RemoteOptions) -> Void = { _ in }) -> VolumeOptions {
        var node = RemoteOptions(kubo.remote)
        node.path = path
        node.quietMilliseconds = 50
        node.publishIntervalMilliseconds = 500
        node.fetch.fetchMilliseconds = 5_000
        change(&node)
        var options = VolumeOptions()
        options.sealDelayMilliseconds = 10
        options.commitIntervalMilliseconds = 50
        options.remote = node
        return options
    }

    /// Sends a request to the node, as others would.
    @discardableResult
    func call(
        _ command: String, _ query: String, _ body: [UInt8]? = nil
    ) throws -> RawClient.Response {
        var headers: [String: String] = [:]
        var bytes: [UInt8] = []
        if let body { (headers, bytes) = RawClient.multipart([body]) }
        return try raw.send("POST", "/api/v0/\(command)?\(query)", headers: headers, body: bytes)
    }

    /// Adds content as others would, with options of `ipfs add`; gives its CID.
    func add(_ bytes: [UInt8], _ options: String = "") throws -> CID {
        let reply = try call("add", "pin=false&quieter=true" + options, bytes)
        let lines = reply.text.split(separator: "\n")
        struct Line: Decodable { var Hash: String }
        let last = try JSONDecoder().decode(Line.self, from: Data((lines.last ?? "").utf8))
        return try CID(parsing: last.Hash)
    }

    func put(_ cid: CID, at name: String) throws {
        try kubo.copy(cid, to: "\(path)/\(name)", makesParents: true)
    }

    func mirrorCID() throws -> CID? { try kubo.status(of: path)?.cid }

    func blockCalls() -> Int { double?.statistics["block/get"]?.calls ?? 0 }
}

extension Volume {
    /// Waits until all is published; the CID of the root.
    @discardableResult
    func published() throws -> CID? {
        try waitUntilPublished(stallMilliseconds: 300_000) { _ in true }
    }

    func inode(_ names: FileName...) throws(Errno) -> Inode { try resolve(path: names) }
}

/// Waits for something that happens in the background, for so long that it is false only where that
/// never comes.
func eventually(
    everyMilliseconds step: UInt32 = 50, _ condition: () throws -> Bool
) rethrows -> Bool {
    let end = ContinuousClock.now + .seconds(300)
    repeat {
        if try condition() { return true }
        Threads.sleep(milliseconds: step)
    } while ContinuousClock.now < end
    return try condition()
}

func expectClean(_ directory: ScratchDirectory) throws {
    let report = try Check.run(stateDirectory: directory.state, repair: false) { _, _ in }
    #expect(report.problems.isEmpty, "\(report.problems)")
}
