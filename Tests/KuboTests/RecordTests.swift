import Kubo
import KuboDouble
import MerkleDAG
import Multiformats
import Testing

/// IPNS records at a node.
struct RecordTests {
    /// A record with a sequence; nobody signed it.
    private func record(_ sequence: UInt64) -> [UInt8] {
        let data = DAGCBOR.map([.init("Sequence", .unsigned(sequence))]).encoded
        return [0x4a, UInt8(data.count)] + data
    }

    private func freshName() throws -> String {
        let key = (0..<32).map { _ in UInt8.random(in: 0...255) }
        let hash = try Multihash.identity([8, 1, 18, 32] + key)
        return CID(codec: .libp2pKey, multihash: hash).encoded(in: .base36)
    }

    /// A node of today, and one from before 0.40.
    @Test(arguments: [false, true])
    func recordsThatArePutAreThere(isOld: Bool) throws {
        let node = try TestNode.make(.double)
        let client = try makeClient(node.address)
        if isOld {
            for command in ["name/get", "name/put"] {
                node.double?.add(
                    Fault(.status, command: command, value: 404, message: "404 page not found"))
            }
        }
        let name = try freshName()
        let missing = failure { _ = try client.record(of: name, deadlineMilliseconds: 10_000) }
        #expect(missing?.kind == .notFound)
        try client.putRecord(record(3), of: name, deadlineMilliseconds: 10_000)
        #expect(try client.record(of: name, deadlineMilliseconds: 10_000) == record(3))
        try client.putRecord(record(4), of: name, deadlineMilliseconds: 10_000)
        let back = failure {
            try client.putRecord(record(3), of: name, deadlineMilliseconds: 10_000)
        }
        #expect(back?.kind == .conflict)
        #expect(try client.record(of: name, deadlineMilliseconds: 10_000) == record(4))
    }
}

/// Peers that the node is told of.
struct SwarmTests {
    @Test func theNodeConnectsWhereItIsTold() throws {
        let node = try TestNode.make(.double)
        let client = try makeClient(node.address)
        let nobody = failure {
            try client.connect(
                to: "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB",
                deadlineMilliseconds: 10_000)
        }
        #expect(nobody?.kind == .failed)
        let malformed = failure { try client.connect(to: "nonsense", deadlineMilliseconds: 10_000) }
        #expect(malformed != nil)
    }
}
