import Base
import Glibc
import MerkleDAG
import Multiformats
import Remotes
import Synchronization
import Testing
import Volume

import struct SystemPackage.Errno

/// The snapshots that a volume shows, as a test wants them.
final class ShownSnapshots: Sendable {
    private let list = Monitor<[Snapshot]>([])
    private let count = Atomic<UInt64>(0)

    init(in volume: Volume) {
        volume.showSnapshots { [self] in list.withLock { $0.map { $0 } } }
    }

    /// Shows a root; with no root, the tree as it is.
    @discardableResult
    func add(
        _ name: String, of volume: Volume, root: CID? = nil, at time: Int64 = 1_000_000_000
    ) throws -> Snapshot {
        let number = count.add(1, ordering: .relaxed).newValue
        let root = try root ?? volume.cid(of: .root)
        let snapshot = Snapshot(
            number: number, name: name, root: root, treeSize: 100, createdAt: time)
        list.withLock { $0.append(snapshot) }
        return snapshot
    }

    func remove(_ name: String) { list.withLock { $0.removeAll { $0.name == name } } }
}

/// A volume as somebody who has blocks, for another one.
final class VolumeSource: RemoteBlocks {
    /// Of the volume, where that is its own.
    private let directory: ScratchDirectory?
    let volume: Volume
    private let isAway = Atomic<Bool>(false)
    private let asked = Atomic<Int>(0)

    init(_ volume: Volume) {
        self.volume = volume
        directory = nil
    }

    /// One with a volume of its own.
    init() throws {
        let directory = ScratchDirectory()
        volume = try openVolume(directory, stillOptions)
        self.directory = directory
    }

    var address: String { "a volume" }

    func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
        asked.add(1, ordering: .relaxed)
        guard !isAway.load(ordering: .relaxed), let found = try? volume.block(request.cid) else {
            throw RemoteError(.notFound, "\(address): there is no block \(request.cid)")
        }
        return found
    }

    func goAway() { isAway.store(true, ordering: .relaxed) }

    /// How many blocks were asked for since the last call.
    func takeCount() -> Int { asked.exchange(0, ordering: .relaxed) }
}

/// What stands at a path.
enum Shown: Equatable {
    case directory
    case file([UInt8])
    case symlink([UInt8])
    case other
}

extension Volume {
    /// All below a directory, by the paths' bytes, as a program finds it: by listings and lookups, whose references are
    /// given back.
    func everything(below inode: Inode) throws(Errno) -> [[UInt8]: Shown] {
        var found: [[UInt8]: Shown] = [:]
        for entry in try entries(of: inode, portion: 7) {
            let attributes = try lookup(entry.name, in: inode)
            defer { forget(attributes.inode, count: 1) }
            #expect(attributes.kind == entry.kind)
            switch attributes.kind {
            case .directory:
                found[entry.name.bytes] = .directory
                for (path, shown) in try everything(below: attributes.inode) {
                    found[entry.name.bytes + [0x2f] + path] = shown
                }
            case .symlink:
                let target = try readSymlink(attributes.inode)
                #expect(attributes.size == UInt64(target.count))
                found[entry.name.bytes] = .symlink(target)
            case .fifo, .socket, .characterDevice, .blockDevice: found[entry.name.bytes] = .other
            case .regular:
                found[entry.name.bytes] = .file(try contents(of: attributes.inode))
            }
        }
        return found
    }

    /// A tree with every kind of file that a snapshot can hold.
    func fillForSnapshot(large: [UInt8]) throws(Errno) {
        let inner = try makeDirectory("inner")
        try makeFile("large", in: inner, large)
        try makeFile("inline", in: inner, [1, 2, 3])
        try makeFile("empty", in: inner, [])
        try makeFile(FileName([0xff, 0xfe, 0x0a]), in: inner, [4])
        _ = try makeSymlink("link", in: inner, target: [0x2e, 0x2f, 0xff], caller: root)
        _ = try makeDirectory("hollow", in: inner)
        let deep = try makeDirectory("deep", in: inner)
        try makeFile("flat", in: deep, content(seed: 3, count: 40_000))
        // UnixFS has no fifo.
        _ = try makeNode(
            "fifo", in: inner, kind: .fifo, mode: 0o600, rdev: 0, caller: root)
    }

    func view(_ names: FileName...) throws(Errno) -> Inode {
        try resolve(path: [".registryfs", "snapshots"] + names)
    }
}
