internal import Base
internal import InodeManifest
internal import MerkleDAG
public import Multiformats

internal import struct SystemPackage.Errno

/// What a path leads to, for others.
public enum LiveEntry: Hashable, Sendable {
    /// A sealed file, and its bytes.
    case file(CID, size: UInt64)
    case directory
    case symlink(target: [UInt8])
}

/// A name in a directory, for others.
public struct LiveName: Hashable, Sendable {
    public let name: [UInt8]
    public let isDirectory: Bool
}

extension Volume {
    /// What a path of names from the root on leads to, symlinks not followed; nil for nothing, for what UnixFS cannot hold, and for
    /// uploads. A file that is not sealed is sealed first. Blocks for the disk, for the hashing of that file, and for directories
    /// that are elsewhere.
    ///
    /// - Throws: `unavailable` where somebody has the file open to write.
    public func liveEntry(at path: [[UInt8]]) throws(ServingFailure) -> LiveEntry? {
        guard Self.isServable(path) else { return nil }
        let found = try serve("the entry at a path") { () throws(Errno) in
            try reading { (state) throws(Errno) -> (LiveEntry?, Inode?) in
                guard let record = try liveRecord(at: path, state) else { return (nil, nil) }
                switch record.kind {
                case .regular: return (nil, record.inode)
                case .directory: return (.directory, nil)
                case .symlink: return (.symlink(target: record.target), nil)
                case .fifo, .socket, .characterDevice, .blockDevice: return (nil, nil)
                }
            }
        }
        guard let inode = found.1 else { return found.0 }
        return try liveFile(inode)
    }

    /// The names of a directory in bytewise order, without uploads and what UnixFS cannot hold; nil where there is no directory at
    /// the path. Blocks for the disk, and for a directory that is elsewhere.
    ///
    /// - Throws: `tooLarge` for more than `countMax` names.
    public func liveNames(
        at path: [[UInt8]], countMax: Int
    ) throws(ServingFailure) -> [LiveName]? {
        guard Self.isServable(path) else { return nil }
        let top = try serve("the directory at a path") { () throws(Errno) in
            try reading { (state) throws(Errno) -> Inode? in
                guard let record = try liveRecord(at: path, state), record.kind == .directory
                else { return nil }
                try state.requireEntries(of: record)
                return record.inode
            }
        }
        guard let top else { return nil }
        var names: [LiveName] = []
        var cookie: UInt64 = 0
        while true {
            let part = try serve("the names of \(top)") { () throws(Errno) in
                try livePart(of: top, after: cookie)
            }
            guard let part else { return nil }
            names += part.names
            guard names.count <= countMax else {
                throw .tooLarge(reason: "more than \(countMax) names in one directory")
            }
            guard let next = part.next else { break }
            cookie = next
        }
        return names.sorted { $0.name.lexicographicallyPrecedes($1.name) }
    }

    /// Names of a directory from a cookie on, so many that the manifest's lock is not held for long; nil where it is gone.
    private func livePart(
        of top: Inode, after cookie: UInt64
    ) throws(Errno) -> (names: [LiveName], next: UInt64?)? {
        try reading { (state) throws(Errno) -> (names: [LiveName], next: UInt64?)? in
            guard let record = try state.inode(top), record.linkCount > 0 else { return nil }
            var names: [LiveName] = []
            var (seen, next) = (0, UInt64?.none)
            try state.forEachEntry(of: record, after: cookie) { (name, entry) in
                guard seen < Self.namesPerPart else { return false }
                seen += 1
                next = entry.cookie
                guard Self.isServable(name, in: top) else { return true }
                switch entry.kind {
                case .regular, .symlink:
                    names.append(LiveName(name: name.bytes, isDirectory: false))
                case .directory: names.append(LiveName(name: name.bytes, isDirectory: true))
                case .fifo, .socket, .characterDevice, .blockDevice: break
                }
                return true
            }
            return (names, seen < Self.namesPerPart ? nil : next)
        }
    }

    private static let namesPerPart = 4_096

    /// Whether others may be told of a name.
    private static func isServable(_ name: FileName, in directory: Inode) -> Bool {
        name != uploadsName && !SnapshotView.isTopName(name, in: directory)
    }

    private static func isServable(_ path: [[UInt8]]) -> Bool {
        if let first = path.first, FileName(first) == SnapshotView.topName { return false }
        return path.allSatisfy { isUsable($0) && FileName($0) != uploadsName }
    }

    private func liveRecord(
        at path: [[UInt8]], _ state: ManifestState
    ) throws(Errno) -> InodeRecord? {
        var record = try record(.root, state)
        for name in path {
            guard record.kind == .directory,
                let entry = try state.entry(FileName(name), in: record)
            else { return nil }
            record = try self.record(entry.inode, state)
        }
        return record
    }

    // MARK: Files

    private enum LiveFile {
        case gone
        case sealed(CID, size: UInt64)
        case written
        /// It is said to have a digest, which nobody has compared yet.
        case unverified
        case resting(size: UInt64)
    }

    /// The CID of a file whose bytes can be had by it.
    private func liveFile(_ inode: Inode) throws(ServingFailure) -> LiveEntry? {
        for attempt in 0..<Self.liveAttemptsMax {
            if attempt > 0 { Threads.sleep(milliseconds: 10) }
            do throws(Errno) {
                try syncFromBacking(inode)
                switch try liveState(of: inode) {
                case .gone: return nil
                case .sealed(let cid, let size): return .file(cid, size: size)
                // A close is told of a few milliseconds after it.
                case .written: continue
                case .unverified:
                    try verifyContent(of: inode)
                    continue
                case .resting(let size):
                    let (cid, _) = try seal(inode, attempts: Self.treeAttemptsMax)
                    // What is told is not kept then.
                    if options.isReadOnly { return .file(cid, size: size) }
                }
            } catch {
                guard error != Self.stale else { return nil }
                guard error != .resourceTemporarilyUnavailable else { continue }
                throw .failed(reason: "\(inode): \(FailureCause.words(for: error))")
            }
            // What was sealed just now needs no rest before it is looked at.
            if case .sealed(let cid, let size)? = try? liveState(of: inode) {
                return .file(cid, size: size)
            }
        }
        throw .unavailable(reason: "\(inode) is being written")
    }

    /// How often a file that is being written is looked at, 10 ms apart.
    private static let liveAttemptsMax = 30

    private func liveState(of inode: Inode) throws(Errno) -> LiveFile {
        try reading { (state) throws(Errno) in
            guard let record = try state.inode(inode), record.linkCount > 0 else { return .gone }
            let file = opens(state).files[inode.number]
            let isBacked = file?(state).backing?.isWritable ?? false
            guard let object = try state.object(of: record) else {
                guard !isBacked || record.size == 0 else { return .written }
                let leaf = profile.leaf(UnsafeRawBufferPointer(start: nil, count: 0))
                return .sealed(leaf.cid, size: 0)
            }
            if object.state == .remote, state.grafts.unverified[object.id] != nil {
                return .unverified
            }
            // What was small when it was taken over from a backing file is the object's, and is here whatever comes.
            if object.state != .staging, !isBacked || object.isInline, let cid = object.cid {
                return .sealed(cid, size: object.size)
            }
            return file?(state).hasWriters ?? false ? .written : .resting(size: record.size)
        }
    }
}
