internal import Base
internal import InodeManifest
internal import Multiformats
internal import ObjectStore
internal import Remotes

internal import struct SystemPackage.Errno

/// Blocks on their way to the node, many in a request.
///
/// Blocks are planned first and read while the request runs, so that memory holds one at a time.
/// What is complete is noted as published once the node has acknowledged the request that ends it;
/// so after a crash, at most one request is sent again. Not thread safe.
final class Upload {
    private enum Planned {
        case stored(FileBlocks, index: Int)
        case made(CID, [UInt8])
    }

    private enum Complete {
        case object(FileBlocks)
        case directory(Inode, CID)

        func isDone(_ failed: Set<UInt64?>) -> Bool {
            switch self {
            case .object(let blocks): !failed.contains(blocks.object)
            // What is below may be among the failed.
            case .directory: failed.isEmpty
            }
        }
    }

    private let volume: Volume
    private let connection: RemoteConnection
    private let cancellation: Cancellation
    private var planned: [Planned] = []
    private var plannedBytes = 0
    private var plannedCIDs: Set<CID> = []
    private var complete: [Complete] = []
    private var open: [FileBlocks] = []
    /// Contents that turned out to be outdated or damaged, by object.
    private var failed: Set<UInt64?> = []

    /// Whether everything that was added is at the node, or will be with the next `flush`.
    var isWhole: Bool { failed.isEmpty }

    /// Bytes of blocks in one request.
    static let requestBytesMax = 32 << 20
    /// Blocks in one request.
    private static let requestBlocksMax = 4_096

    /// - Parameter cancellation: ends the calls; nil: with the link.
    init(_ volume: Volume, _ connection: RemoteConnection, cancellation: Cancellation? = nil) {
        self.volume = volume
        self.connection = connection
        self.cancellation = cancellation ?? connection.cancellation
    }

    /// Lets go of all objects; must be called once.
    func end() {
        for blocks in open { blocks.end() }
        open = []
    }

    /// Adds the blocks of an object that is not published; nothing where it is not sealed any more.
    func add(object: UInt64) throws(RemoteError) {
        let blocks: FileBlocks
        do throws(Errno) {
            guard let found = try FileBlocks(object, of: volume) else { return }
            blocks = found
        } catch {
            failed.insert(object)
            if error != .resourceTemporarilyUnavailable {
                connection.health.note(problem: "object \(object) cannot be read: \(error)")
            }
            return
        }
        open.append(blocks)
        try add(blocks)
    }

    /// Adds the blocks of a file's content.
    func add(_ blocks: FileBlocks) throws(RemoteError) {
        if let file = blocks.file, let stream = connection.streams.of(file.id) {
            volume.finish(stream, connection, cancellation)
        }
        let mayBeThere = try connection.mayHave(blocks)
        var missing: [(index: Int, cid: CID)] = []
        for index in 0..<blocks.count {
            guard let cid = blocks.cid(at: index), !connection.sentBlocks.contains(cid),
                try !isThere(cid, isLikely: mayBeThere, of: blocks)
            else { continue }
            missing.append((index, cid))
        }
        sendLeaves(missing, of: blocks)
        for (index, cid) in missing {
            try plan(.stored(blocks, index: index), cid, byteCount: blocks.byteCount(at: index))
        }
        complete.append(.object(blocks))
    }

    /// Sends many leaves by several threads, not compared with their hashes; what then still is to be
    /// sent is compared.
    private func sendLeaves(_ missing: [(index: Int, cid: CID)], of blocks: FileBlocks) {
        guard let file = blocks.file else { return }
        var leaves: [LeafStream.Leaf] = []
        for (index, cid) in missing where blocks.isLeaf(at: index) {
            leaves.append(LeafStream.Leaf(index: UInt64(index), cid: cid))
        }
        guard leaves.count >= LeafStream.leavesMin else { return }
        volume.send(leaves, of: file, size: blocks.size, to: connection, cancellation)
    }

    /// Whether the node has a block of a file of several blocks, by what is known here or by its word.
    private func isThere(
        _ cid: CID, isLikely: Bool, of blocks: FileBlocks
    ) throws(RemoteError) -> Bool {
        guard blocks.count > 1 else { return false }
        if isLikely { return try connection.store.has(cid, cancellation: cancellation) }
        return volume.isPublished(cid)
    }

    /// Adds a block that is no part of an object.
    func add(_ cid: CID, _ bytes: [UInt8]) throws(RemoteError) {
        try plan(.made(cid, bytes), cid, byteCount: bytes.count)
    }

    /// Notes that with what was added until now a directory and all below it are complete.
    func completes(_ directory: Inode, _ cid: CID) {
        complete.append(.directory(directory, cid))
    }

    private func plan(_ block: Planned, _ cid: CID, byteCount: Int) throws(RemoteError) {
        guard !connection.sentBlocks.contains(cid), plannedCIDs.insert(cid).inserted else { return }
        planned.append(block)
        plannedBytes += byteCount
        if plannedBytes >= Self.requestBytesMax || planned.count >= Self.requestBlocksMax {
            try flush()
        }
    }

    /// Sends what is planned and waits for the node's answer.
    func flush() throws(RemoteError) {
        if !planned.isEmpty { try send() }
        let done = complete.filter { $0.isDone(failed) }
        volume.manifest.withLock { state in
            for item in done {
                switch item {
                case .object(let blocks):
                    guard let object = blocks.object,
                        let record = try? state.object(object), record.state == .sealed,
                        record.cid == blocks.root
                    else { continue }
                    state.notePublished(record)
                    if !record.isInline {
                        connection.fetcher.cache.withLock {
                            $0.add(object: record.id, size: record.size)
                        }
                    }
                case .directory(let inode, let cid):
                    guard let record = try? state.inode(inode), record.cid == cid else { continue }
                    state.notePublished(record)
                }
            }
        }
        for case .object(let blocks) in complete {
            blocks.end()
            open.removeAll { $0 === blocks }
        }
        complete = []
        volume.keepChangesBounded()
    }

    private func send() throws(RemoteError) {
        defer {
            planned = []
            plannedBytes = 0
            plannedCIDs = []
        }
        var index = 0
        var bytes = 0
        var sent: [CID] = []
        // A request without any block is refused.
        guard let first = nextBlock(&index) else { return }
        var held: (cid: CID, bytes: [UInt8])? = first
        do throws(RemoteStreamError<Never>) {
            try connection.store.importBlocks(cancellation: cancellation) { () throws(Never) in
                var next = held
                held = nil
                if next == nil { next = nextBlock(&index) }
                guard let next else { return nil }
                bytes += next.bytes.count
                sent.append(next.cid)
                return next
            }
        } catch {
            switch error {
            case .remote(let error): throw error
            }
        }
        connection.noteSent(sent, bytes: bytes)
    }

    private func nextBlock(_ index: inout Int) -> (cid: CID, bytes: [UInt8])? {
        while index < planned.count {
            defer { index += 1 }
            switch planned[index] {
            case .made(let cid, let bytes): return (cid, bytes)
            case .stored(let blocks, let number):
                guard !failed.contains(blocks.object), let cid = blocks.cid(at: number) else {
                    continue
                }
                do throws(FileBlocks.Interruption) {
                    return (cid, try blocks.block(at: number))
                } catch {
                    failed.insert(blocks.object)
                    note(error, blocks, cid)
                }
            }
        }
        return nil
    }

    private func note(_ error: FileBlocks.Interruption, _ blocks: FileBlocks, _ cid: CID) {
        switch error {
        case .outdated: break
        case .damaged:
            connection.health.note(
                problem: "\(blocks): block \(cid) is damaged: run registryfs check")
        case .failed(let errno):
            connection.health.note(problem: "\(blocks): block \(cid) cannot be read: \(errno)")
        }
    }
}
