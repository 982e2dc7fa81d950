import Base
import Gateway
import HTTP
import KuboDouble
import MerkleDAG
import Multiformats
import Remotes

/// A gateway without proxies and with limits that a slow machine keeps, which a test may change.
func makeGateway(
    _ url: String, _ change: (inout GatewayConfiguration) -> Void = { _ in }
) throws -> GatewayRemote {
    var configuration = GatewayConfiguration(try GatewayURL(url))
    configuration.userAgent = "registryfs/test"
    configuration.environment = HTTPEnvironment([:])
    configuration.connectMilliseconds = 10_000
    configuration.firstByteMilliseconds = 20_000
    configuration.stallMilliseconds = 20_000
    change(&configuration)
    return try GatewayRemote(configuration)
}

extension RemoteBlocks {
    /// A block, within a time that a slow machine keeps.
    func get(
        _ cid: CID, milliseconds: Int = 60_000, asksPeers: Bool = true,
        _ cancellation: Cancellation? = nil
    ) throws(RemoteError) -> [UInt8] {
        var request = BlockRequest(cid, deadlineMilliseconds: milliseconds)
        request.asksPeers = asksPeers
        request.cancellation = cancellation
        return try block(request, memory: nil)
    }
}

/// The error that a request ends with; nil where it does not.
func failure(_ body: () throws -> Void) -> RemoteError? {
    do {
        try body()
        return nil
    } catch let error as RemoteError {
        return error
    } catch let error as RemoteStreamError<Never> {
        switch error {
        case .remote(let error): return error
        }
    } catch {
        return nil
    }
}

typealias Block = (cid: CID, bytes: [UInt8])

/// A raw block of some length, which no other number has.
func rawBlock(_ number: Int, byteCount: Int = 100) -> Block {
    let bytes =
        (0..<byteCount).map {
            UInt8(truncatingIfNeeded: ($0 &* 31) ^ (number &* 7919 >> ($0 % 13)))
        }
        + Array("\(number)".utf8)
    return (CID.raw(sha256: bytes), bytes)
}

/// The root of a file of these leaves.
func fileRoot(of leaves: [Block]) -> Block {
    let sizes = leaves.map { UInt64($0.bytes.count) }
    let node = DAGNode(
        links: leaves.map { DAGLink(cid: $0.cid, treeSize: UInt64($0.bytes.count)) },
        data: UnixFSData(kind: .file, fileSize: sizes.reduce(0, +), blockSizes: sizes).encoded())
    let bytes = node.encoded()
    return (CID.dagPB(sha256: bytes, version: 1), bytes)
}

/// A CARv1 of these blocks in this order.
func archive(roots: [CID], _ blocks: [Block]) -> [UInt8] {
    var bytes: [UInt8] = []
    func append(_ piece: UnsafeRawBufferPointer) { bytes.append(contentsOf: piece) }
    withoutActuallyEscaping(append) { append in
        var writer = CARWriter<Never>(roots: roots, sink: append)
        for (cid, block) in blocks { writer.write(cid, block) }
    }
    return bytes
}

/// The double of a gateway, which has these blocks.
func makeDouble(_ blocks: [Block]) throws -> DoubleNode {
    var options = DoubleNode.Options()
    options.isOffline = true
    let node = try DoubleNode(options)
    for (cid, bytes) in blocks { try node.addBlock(cid, bytes) }
    return node
}
