import Base
import Foundation
import MerkleDAG
import Multiformats
import Remotes

/// A remote that is a directory: a file for each block, by its CIDv1, and one for each pin, with its name.
///
/// It asks nobody else, so a block that it lacks is not found at once, and it does at once what it is asked.
struct BlockDirectory: RemoteStore {
    private let blocks: URL
    private let pins: URL
    let id = UUID().uuidString

    init(_ path: String) throws {
        blocks = URL(fileURLWithPath: path + "/blocks")
        pins = URL(fileURLWithPath: path + "/pins")
        for directory in [blocks, pins] {
            try FileManager.default.createDirectory(
                at: directory, withIntermediateDirectories: true)
        }
    }

    var address: String { blocks.path }

    private func file(_ cid: CID) -> URL { blocks.appendingPathComponent("\(cid.asV1)") }
    private func pin(_ cid: CID) -> URL { pins.appendingPathComponent("\(cid.asV1)") }

    private func check(_ cancellation: Cancellation?) throws(RemoteError) {
        if cancellation?.isCancelled == true {
            throw RemoteError(.cancelled, "\(address): cancelled")
        }
    }

    func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
        try check(request.cancellation)
        if request.cid.multihash.code == .identity { return request.cid.multihash.digest }
        guard let data = try? Data(contentsOf: file(request.cid)) else {
            throw RemoteError(.notFound, "\(address): there is no block \(request.cid)")
        }
        do throws(MultihashError) {
            try Array(data).withBytes { (raw) throws(MultihashError) in try request.cid.verify(raw)
            }
        } catch {
            throw RemoteError(.wrongBytes, "\(address): the file is not the block \(request.cid)")
        }
        return Array(data)
    }

    func identity(cancellation: Cancellation?) throws(RemoteError) -> RemoteIdentity {
        try check(cancellation)
        return RemoteIdentity(id: id, version: "1")
    }

    func has(_ cid: CID, cancellation: Cancellation?) throws(RemoteError) -> Bool {
        try check(cancellation)
        return cid.multihash.code == .identity
            || FileManager.default.fileExists(atPath: file(cid).path)
    }

    func importBlocks<Failure: Error>(
        cancellation: Cancellation?, _ next: () throws(Failure) -> (cid: CID, bytes: [UInt8])?
    ) throws(RemoteStreamError<Failure>) {
        while true {
            do throws(RemoteError) { try check(cancellation) } catch { throw .remote(error) }
            let found: (cid: CID, bytes: [UInt8])?
            do throws(Failure) { found = try next() } catch { throw .source(error) }
            guard let (cid, bytes) = found else { return }
            guard (try? bytes.withUnsafeBytes({ try cid.verify($0) })) != nil else {
                throw .remote(RemoteError(.refused, "\(address): other bytes than those of \(cid)"))
            }
            guard (try? Data(bytes).write(to: file(cid))) != nil else {
                throw .remote(RemoteError(.failed, "\(address): block \(cid) cannot be written"))
            }
        }
    }

    func pin(_ request: PinRequest) throws(RemoteError) {
        try check(request.cancellation)
        var pending = [request.root]
        var seen: Set<CID> = []
        while let cid = pending.popLast() {
            guard seen.insert(cid).inserted else { continue }
            let bytes = try block(BlockRequest(cid, deadlineMilliseconds: 1_000), memory: nil)
            guard cid.codec == .dagPB else { continue }
            guard let node = try? DAGNode(decoding: bytes) else {
                throw RemoteError(.failed, "\(address): \(cid) is no DAG node")
            }
            pending += node.links.map(\.cid)
        }
        guard (try? Data(request.name.utf8).write(to: pin(request.root))) != nil else {
            throw RemoteError(.failed, "\(address): the pin of \(request.root) cannot be written")
        }
        if let old = request.replacing, old != request.root {
            try? FileManager.default.removeItem(at: pin(old))
        }
    }

    func pins(
        namePrefix: String, cancellation: Cancellation?
    ) throws(RemoteError) -> [RemotePin] {
        try check(cancellation)
        let files = (try? FileManager.default.contentsOfDirectory(atPath: pins.path)) ?? []
        return files.compactMap { file in
            guard let root = try? CID(parsing: file),
                let data = try? Data(contentsOf: pins.appendingPathComponent(file))
            else { return nil }
            let name = String(decoding: data, as: UTF8.self)
            return name.hasPrefix(namePrefix) ? RemotePin(root: root, name: name) : nil
        }
    }

    func unpin(_ root: CID, cancellation: Cancellation?) throws(RemoteError) {
        try check(cancellation)
        do {
            try FileManager.default.removeItem(at: pin(root))
        } catch {
            throw RemoteError(.notFound, "\(address): \(root) is not pinned")
        }
    }

    func pinName(of root: CID, cancellation: Cancellation?) throws(RemoteError) -> String? {
        try check(cancellation)
        return (try? Data(contentsOf: pin(root))).map { String(decoding: $0, as: UTF8.self) }
    }
}
