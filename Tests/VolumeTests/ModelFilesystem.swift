import Base
import Glibc
import MerkleDAG
import Multiformats
import Volume

import struct SystemPackage.Errno

/// Where several errors apply, POSIX leaves open which of them is told.
struct ModelFailure: Error, Equatable {
    let allowed: Set<Errno>

    init(_ allowed: Errno...) { self.allowed = Set(allowed) }
    init(_ allowed: Set<Errno>) { self.allowed = allowed }
}

/// What POSIX and Linux say, on dictionaries and arrays: as simple as can be, and nothing of it
/// shared with the volume.
final class ModelFilesystem {
    /// The roots of snapshots by their names.
    private(set) var snapshots: [String: CID] = [:]
    final class Node {
        let inode: UInt64
        let kind: FileKind
        var mode: UInt32
        var uid: UInt32 = 0
        var gid: UInt32 = 0
        var rdev: UInt64 = 0
        var linkCount: UInt32
        var bytes: [UInt8] = [] { didSet { root = nil } }
        var target: [UInt8] = []
        var attributes: [FileName: [UInt8]] = [:]
        var entries: [FileName: UInt64] = [:]
        var parent: UInt64
        var references: UInt64 = 0
        var handleCount = 0
        /// The DAG of `bytes`, computed when it was asked for.
        var root: DAGRoot?

        init(inode: UInt64, kind: FileKind, mode: UInt32, linkCount: UInt32, parent: UInt64) {
            self.inode = inode
            self.kind = kind
            self.mode = mode
            self.linkCount = linkCount
            self.parent = parent
        }
    }

    struct Handle {
        let number: Int
        let inode: UInt64
        let flags: Int32

        var isReadable: Bool { flags & 3 != O_WRONLY }
        var isWritable: Bool { flags & 3 != O_RDONLY }
        var appends: Bool { flags & O_APPEND != 0 }
    }

    let profile: ImportProfile
    private(set) var nodes: [UInt64: Node] = [:]
    /// The numbers of all nodes in the order of their making.
    private(set) var order: [UInt64] = [1]
    private(set) var handles: [Handle] = []
    private var nextInode: UInt64 = 2
    private var nextHandle = 1

    init(profile: ImportProfile) {
        self.profile = profile
        nodes[1] = Node(inode: 1, kind: .directory, mode: 0o755, linkCount: 2, parent: 1)
        nodes[1]?.uid = UInt32(geteuid())
        nodes[1]?.gid = UInt32(getegid())
    }

    // MARK: Helpers

    private static let stale = Errno(rawValue: ESTALE)

    func node(_ inode: UInt64) throws(ModelFailure) -> Node {
        guard let node = nodes[inode] else { throw ModelFailure(Self.stale) }
        return node
    }

    private func directory(_ inode: UInt64) throws(ModelFailure) -> Node {
        let node = try node(inode)
        guard node.kind == .directory else { throw ModelFailure(.notDirectory) }
        return node
    }

    private func handle(_ number: Int) throws(ModelFailure) -> Handle {
        guard let handle = handles.first(where: { $0.number == number }) else {
            throw ModelFailure(.badFileDescriptor)
        }
        return handle
    }

    func status(of node: Node) -> Status {
        let size: UInt64 =
            switch node.kind {
            case .regular: UInt64(node.bytes.count)
            case .symlink: UInt64(node.target.count)
            case .directory: 4096
            default: 0
            }
        return Status(
            inode: node.inode, kind: node.kind, mode: node.mode, linkCount: node.linkCount,
            uid: node.uid, gid: node.gid, rdev: node.rdev, size: size)
    }

    private func failures(ofNewName name: FileName) -> Set<Errno> {
        let bytes = name.bytes
        if bytes.count > 255 { return [.fileNameTooLong] }
        let isBad =
            bytes.isEmpty || bytes.contains(0) || bytes.contains(UInt8(ascii: "/"))
            || bytes == Array(".".utf8) || bytes == Array("..".utf8)
        return isBad ? [.invalidArgument] : []
    }

    /// Like `directory`, for an operation that may have more to complain about.
    private func directory(_ inode: UInt64, _ failures: inout Set<Errno>) -> Node? {
        guard let node = nodes[inode] else {
            failures.insert(Self.stale)
            return nil
        }
        if node.kind != .directory { failures.insert(.notDirectory) }
        return node
    }

    private func refuse(_ failures: Set<Errno>) throws(ModelFailure) {
        if !failures.isEmpty { throw ModelFailure(failures) }
    }

    private func reapIfUnused(_ node: Node) {
        guard node.linkCount == 0, node.handleCount == 0, node.references == 0 else { return }
        nodes[node.inode] = nil
        order.removeAll { $0 == node.inode }
    }

    private func makeNode(
        _ kind: FileKind, mode: UInt32, umask: UInt32, in directory: Node
    ) -> Node {
        let node = Node(
            inode: nextInode, kind: kind, mode: mode & 0o7777 & ~umask,
            linkCount: kind == .directory ? 2 : 1, parent: directory.inode)
        if directory.mode & 0o2000 != 0 {
            node.gid = directory.gid
            if kind == .directory { node.mode |= 0o2000 }
        }
        nextInode += 1
        nodes[node.inode] = node
        order.append(node.inode)
        return node
    }

    private func add(
        _ kind: FileKind, _ name: FileName, in parent: UInt64, mode: UInt32, umask: UInt32 = 0
    ) throws(ModelFailure) -> Node {
        var failures = failures(ofNewName: name)
        let found = directory(parent, &failures)
        if found?.linkCount == 0 { failures.insert(.noSuchFileOrDirectory) }
        if found?.entries[name] != nil { failures.insert(.fileExists) }
        try refuse(failures)
        let directory = try directory(parent)
        let node = makeNode(kind, mode: mode, umask: umask, in: directory)
        directory.entries[name] = node.inode
        if kind == .directory { directory.linkCount += 1 }
        node.references += 1
        return node
    }

    private func addHandle(to node: Node, flags: Int32) -> Int {
        let number = nextHandle
        nextHandle += 1
        handles.append(Handle(number: number, inode: node.inode, flags: flags))
        node.handleCount += 1
        return number
    }

    private func clearSetID(of node: Node) {
        node.mode &= ~UInt32(0o4000)
        if node.mode & 0o010 != 0 { node.mode &= ~UInt32(0o2000) }
    }

    /// All handles and references of the kernel go, as when the volume is closed.
    func dropUsers() {
        handles = []
        for inode in order {
            guard let node = nodes[inode] else { continue }
            node.handleCount = 0
            node.references = 0
            reapIfUnused(node)
        }
        nextHandle = 1
    }

    // MARK: Operations

    func apply(_ operation: Operation) throws(ModelFailure) -> Answer {
        switch operation {
        case .lookup(let name, let parent):
            let directory = try directory(parent)
            guard let child = directory.entries[name], let node = nodes[child] else {
                throw ModelFailure(.noSuchFileOrDirectory)
            }
            node.references += 1
            return .status(status(of: node))
        case .forget(let inode, let count):
            if let node = nodes[inode] {
                node.references -= min(node.references, count)
                reapIfUnused(node)
            }
            return .nothing
        case .attributes(let inode):
            return .status(status(of: try node(inode)))
        case .makeNode(let name, let parent, let kind, let mode, let rdev, let umask):
            let node = try add(kind, name, in: parent, mode: mode, umask: umask)
            node.rdev = rdev
            return .status(status(of: node))
        case .makeDirectory(let name, let parent, let mode, let umask):
            return .status(
                status(
                    of: try add(.directory, name, in: parent, mode: mode, umask: umask)))
        case .makeSymlink(let name, let parent, let target):
            let node = try add(.symlink, name, in: parent, mode: 0o777)
            node.target = target
            return .status(status(of: node))
        case .create(let name, let parent, let mode, let flags):
            return try create(name, in: parent, mode: mode, flags: flags)
        case .makeTemporary(let parent, let mode):
            let node = makeNode(.regular, mode: mode, umask: 0, in: try directory(parent))
            node.linkCount = 0
            node.references += 1
            return .opened(status(of: node), handle: addHandle(to: node, flags: O_RDWR))
        case .link(let inode, let name, let parent):
            return try link(inode, as: name, in: parent)
        case .unlink(let name, let parent):
            let directory = try directory(parent)
            guard let child = directory.entries[name], let node = nodes[child] else {
                throw ModelFailure(.noSuchFileOrDirectory)
            }
            if node.kind == .directory { throw ModelFailure(.isDirectory) }
            directory.entries[name] = nil
            node.linkCount -= 1
            reapIfUnused(node)
            return .nothing
        case .removeDirectory(let name, let parent):
            let directory = try directory(parent)
            guard let child = directory.entries[name], let node = nodes[child] else {
                throw ModelFailure(.noSuchFileOrDirectory)
            }
            if node.kind != .directory { throw ModelFailure(.notDirectory) }
            if !node.entries.isEmpty { throw ModelFailure(.directoryNotEmpty) }
            directory.entries[name] = nil
            directory.linkCount -= 1
            node.linkCount = 0
            reapIfUnused(node)
            return .nothing
        case .rename(let name, let from, let newName, let to, let flags):
            return try rename(name, from, newName, to, flags)
        case .open(let inode, let flags):
            return try open(try node(inode), flags: flags)
        case .release(let number):
            let handle = try handle(number)
            handles.removeAll { $0.number == number }
            if let node = nodes[handle.inode] {
                node.handleCount -= 1
                reapIfUnused(node)
            }
            return .nothing
        case .flush(let number), .synchronize(let number, _):
            _ = try handle(number)
            return .nothing
        case .read(let number, let offset, let count):
            let bytes = try node(try handle(number).inode).bytes
            let start = min(Int(clamping: offset), bytes.count)
            return .bytes(Array(bytes[start..<min(bytes.count, start + count)]))
        case .write(let number, let offset, let seed, let count, let clears):
            return try write(number, Int(offset), content(seed: seed, count: count), clears)
        case .truncate(let inode, let size, let clears):
            let node = try node(inode)
            if node.kind == .directory { throw ModelFailure(.isDirectory) }
            if node.kind != .regular { throw ModelFailure(.invalidArgument) }
            resize(node, to: Int(size))
            if clears { clearSetID(of: node) }
            return .status(status(of: node))
        case .setMode(let inode, let mode):
            let node = try node(inode)
            node.mode = mode & 0o7777
            return .status(status(of: node))
        case .setOwner(let inode, let uid, let gid):
            let node = try node(inode)
            node.uid = uid ?? node.uid
            node.gid = gid ?? node.gid
            if node.kind != .directory { clearSetID(of: node) }
            return .status(status(of: node))
        case .setTimes(let inode, let accessed, let modified):
            _ = try node(inode)
            return .times(accessed: accessed, modified: modified)
        case .allocate(let number, let mode, let offset, let length):
            return try allocate(number, mode, Int(offset), Int(length))
        case .copyRange(let source, let from, let destination, let to, let length):
            return try copyRange(source, from, destination, to, length)
        case .seek:
            preconditionFailure("a seek is checked by checkSeek")
        case .synchronizeDirectory(let inode):
            _ = try directory(inode)
            return .nothing
        case .synchronizeAll:
            return .nothing
        case .list(let inode, _):
            return .entries(listing(of: try directory(inode)))
        case .listWithAttributes(let inode):
            let children = listing(of: try directory(inode)).compactMap { nodes[$0.inode] }
            // Each entry counts a reference.
            for child in children { child.references += 1 }
            return .statuses(children.map { status(of: $0) })
        case .readSymlink(let inode):
            let node = try node(inode)
            guard node.kind == .symlink else { throw ModelFailure(.invalidArgument) }
            return .bytes(node.target)
        case .setAttribute(let inode, let name, let value, let flags):
            return try setAttribute(inode, name, value, flags)
        case .getAttribute(let inode, let name):
            guard let value = try node(inode).attributes[name] else {
                throw ModelFailure(Errno(rawValue: ENODATA))
            }
            return .bytes(value)
        case .removeAttribute(let inode, let name):
            var failures = failures(ofAttribute: name)
            if nodes[inode] == nil { failures.insert(Self.stale) }
            try refuse(failures)
            let node = try node(inode)
            guard node.attributes.removeValue(forKey: name) != nil else {
                throw ModelFailure(Errno(rawValue: ENODATA))
            }
            return .nothing
        case .listAttributes(let inode):
            let names = try node(inode).attributes.keys.map(\.bytes)
            return .bytes(
                names.sorted { $0.lexicographicallyPrecedes($1) }.flatMap { $0 + [0] })
        case .cid(let inode):
            guard let dag = dag(of: try node(inode)) else {
                throw ModelFailure(Errno(rawValue: ENODATA))
            }
            return .text(dag.cid.description)
        case .snapshot(let name):
            guard snapshots[name] == nil else { throw ModelFailure(.fileExists) }
            let dag = dag(of: try node(1))
            snapshots[name] = dag?.cid
            return .text("\(dag?.cid as Any)")
        case .deleteSnapshot(let name):
            guard snapshots.removeValue(forKey: name) != nil else {
                throw ModelFailure(.noSuchFileOrDirectory)
            }
            return .nothing
        }
    }

    private func create(
        _ name: FileName, in parent: UInt64, mode: UInt32, flags: Int32
    ) throws(ModelFailure) -> Answer {
        if let existing = try directory(parent).entries[name], let node = nodes[existing] {
            if flags & O_EXCL != 0 { throw ModelFailure(.fileExists) }
            guard case .opened(_, let handle) = try open(node, flags: flags) else {
                preconditionFailure("open answers so")
            }
            node.references += 1
            return .opened(status(of: node), handle: handle)
        }
        let node = try add(.regular, name, in: parent, mode: mode)
        return .opened(status(of: node), handle: addHandle(to: node, flags: flags))
    }

    private func open(_ node: Node, flags: Int32) throws(ModelFailure) -> Answer {
        switch node.kind {
        case .regular: break
        case .directory: throw ModelFailure(.isDirectory)
        case .symlink: throw ModelFailure(.tooManySymbolicLinkLevels)
        default: throw ModelFailure(.noSuchAddressOrDevice)
        }
        if flags & O_TRUNC != 0 { node.bytes = [] }
        return .opened(status(of: node), handle: addHandle(to: node, flags: flags))
    }

    private func link(
        _ inode: UInt64, as name: FileName, in parent: UInt64
    ) throws(ModelFailure) -> Answer {
        var failures = failures(ofNewName: name)
        let found = directory(parent, &failures)
        if nodes[inode] == nil { failures.insert(Self.stale) }
        if nodes[inode]?.kind == .directory { failures.insert(.notPermitted) }
        if found?.linkCount == 0 { failures.insert(.noSuchFileOrDirectory) }
        if found?.entries[name] != nil { failures.insert(.fileExists) }
        try refuse(failures)
        let node = try node(inode)
        let directory = try directory(parent)
        directory.entries[name] = inode
        node.linkCount += 1
        node.references += 1
        return .status(status(of: node))
    }

    private func isAncestor(_ ancestor: Node, of directory: Node) -> Bool {
        var inode = directory.inode
        while inode != ancestor.inode {
            guard inode != 1, let node = nodes[inode] else { return false }
            inode = node.parent
        }
        return true
    }

    private func rename(
        _ name: FileName, _ fromInode: UInt64, _ newName: FileName, _ toInode: UInt64,
        _ flags: UInt32
    ) throws(ModelFailure) -> Answer {
        let isNoReplace = flags & 1 != 0
        let isExchange = flags & 2 != 0
        let leavesWhiteout = flags & 4 != 0
        var failures = failures(ofNewName: name).union(failures(ofNewName: newName))
        if isExchange && (isNoReplace || leavesWhiteout) { failures.insert(.invalidArgument) }
        guard let from = directory(fromInode, &failures), let to = directory(toInode, &failures)
        else { throw ModelFailure(failures) }
        if to.linkCount == 0 { failures.insert(.noSuchFileOrDirectory) }
        let moved = from.entries[name].flatMap { nodes[$0] }
        let replaced = to.entries[newName].flatMap { nodes[$0] }
        if moved == nil { failures.insert(.noSuchFileOrDirectory) }
        if isExchange && replaced == nil { failures.insert(.noSuchFileOrDirectory) }
        if isNoReplace && replaced != nil { failures.insert(.fileExists) }
        if let moved, moved.kind == .directory, isAncestor(moved, of: to) {
            failures.insert(.invalidArgument)
        }
        if let moved, let replaced, moved !== replaced {
            if isExchange {
                if replaced.kind == .directory, isAncestor(replaced, of: from) {
                    failures.insert(.invalidArgument)
                }
            } else {
                if replaced.kind == .directory, moved.kind != .directory {
                    failures.insert(.isDirectory)
                }
                if replaced.kind != .directory, moved.kind == .directory {
                    failures.insert(.notDirectory)
                }
                if !replaced.entries.isEmpty { failures.insert(.directoryNotEmpty) }
            }
        }
        try refuse(failures)
        guard let moved else { preconditionFailure("refused above") }
        if moved === replaced { return .nothing }
        if isExchange, let replaced {
            from.entries[name] = replaced.inode
            to.entries[newName] = moved.inode
            place(replaced, from: to, in: from)
            place(moved, from: from, in: to)
            return .nothing
        }
        if leavesWhiteout {
            from.entries[name] = makeNode(.characterDevice, mode: 0, umask: 0, in: from).inode
        } else {
            from.entries[name] = nil
        }
        to.entries[newName] = moved.inode
        place(moved, from: from, in: to)
        if let replaced {
            if replaced.kind == .directory {
                to.linkCount -= 1
                replaced.linkCount = 0
            } else {
                replaced.linkCount -= 1
            }
            reapIfUnused(replaced)
        }
        return .nothing
    }

    private func place(_ node: Node, from: Node, in to: Node) {
        guard node.kind == .directory else { return }
        from.linkCount -= 1
        to.linkCount += 1
        node.parent = to.inode
    }

    private func resize(_ node: Node, to size: Int) {
        if size <= node.bytes.count {
            node.bytes.removeLast(node.bytes.count - size)
        } else {
            node.bytes += [UInt8](repeating: 0, count: size - node.bytes.count)
        }
    }

    private func write(
        _ number: Int, _ offset: Int, _ bytes: [UInt8], _ clears: Bool
    ) throws(ModelFailure) -> Answer {
        let handle = try handle(number)
        guard handle.isWritable else { throw ModelFailure(.badFileDescriptor) }
        guard !bytes.isEmpty else { return .count(0) }
        let node = try node(handle.inode)
        let offset = handle.appends ? node.bytes.count : offset
        if node.bytes.count < offset + bytes.count { resize(node, to: offset + bytes.count) }
        node.bytes.replaceSubrange(offset..<offset + bytes.count, with: bytes)
        if clears { clearSetID(of: node) }
        return .count(UInt64(bytes.count))
    }

    private func allocate(
        _ number: Int, _ mode: Int32, _ offset: Int, _ length: Int
    ) throws(ModelFailure) -> Answer {
        let handle = try handle(number)
        var failures: Set<Errno> = []
        if !handle.isWritable { failures.insert(.badFileDescriptor) }
        if length == 0 { failures.insert(.invalidArgument) }
        let isPunch = mode & 2 != 0
        let isZero = mode & 16 != 0
        let keepsSize = mode & 1 != 0
        if mode & ~(1 | 2 | 16) != 0 || (isPunch && (!keepsSize || isZero)) {
            failures.insert(Errno(rawValue: EOPNOTSUPP))
        }
        try refuse(failures)
        let node = try node(handle.inode)
        let end = offset + length
        if !keepsSize, node.bytes.count < end { resize(node, to: end) }
        let stop = min(end, node.bytes.count)
        if isPunch || isZero, offset < stop {
            node.bytes.replaceSubrange(
                offset..<stop, with: [UInt8](repeating: 0, count: stop - offset))
        }
        return .nothing
    }

    private func copyRange(
        _ source: Int, _ from: UInt64, _ destination: Int, _ to: UInt64, _ length: UInt64
    ) throws(ModelFailure) -> Answer {
        let reading = try handle(source)
        let writing = try handle(destination)
        guard reading.isReadable, writing.isWritable, !writing.appends else {
            throw ModelFailure(.badFileDescriptor)
        }
        let bytes = try node(reading.inode).bytes
        guard from < bytes.count else { return .count(0) }
        let start = Int(from)
        let count = Int(min(length, UInt64(bytes.count - start)))
        let place = Int(to)
        if reading.inode == writing.inode, start < place + count, place < start + count {
            throw ModelFailure(.invalidArgument)
        }
        return try write(destination, place, Array(bytes[start..<start + count]), false)
    }

    /// Whether an answer to SEEK_DATA or SEEK_HOLE is right: holes may be told as data, but data
    /// never as a hole.
    func checkSeek(
        _ number: Int, from offset: UInt64, whence: Int32, _ answer: Result<UInt64, Errno>
    ) -> Bool {
        guard let handle = handles.first(where: { $0.number == number }),
            let bytes = nodes[handle.inode]?.bytes
        else { return answer == .failure(.badFileDescriptor) }
        let isData = whence == SEEK_DATA
        switch answer {
        case .failure(let error):
            guard error == .noSuchAddressOrDevice else { return false }
            return offset >= bytes.count
                || isData && bytes[Int(offset)...].allSatisfy { $0 == 0 }
        case .success(let found):
            guard found >= offset, offset < bytes.count, found <= bytes.count else { return false }
            if isData {
                return found < bytes.count && bytes[Int(offset)..<Int(found)].allSatisfy { $0 == 0 }
            }
            // What is told as data until the hole may be anything; the hole is zeros at its start.
            return found == bytes.count || bytes[Int(found)] == 0
        }
    }

    func listing(of directory: Node) -> [Listed] {
        directory.entries
            .compactMap { name, inode in
                nodes[inode].map { Listed(name: name, inode: inode, kind: $0.kind) }
            }
            .sorted { $0.name.bytes.lexicographicallyPrecedes($1.name.bytes) }
    }

    private func failures(ofAttribute name: FileName) -> Set<Errno> {
        let text = name.description
        if text == "ipfs.cid" || text == "user.ipfs.cid" { return [.notPermitted] }
        if name.bytes.count > 255 { return [Errno(rawValue: ERANGE)] }
        let isKept = ["user.", "trusted.", "security."].contains { text.hasPrefix($0) }
        return isKept ? [] : [Errno(rawValue: EOPNOTSUPP)]
    }

    private func setAttribute(
        _ inode: UInt64, _ name: FileName, _ value: [UInt8], _ flags: Int32
    ) throws(ModelFailure) -> Answer {
        var failures = failures(ofAttribute: name)
        if value.count > 65_536 { failures.insert(Errno(rawValue: E2BIG)) }
        if nodes[inode] == nil { failures.insert(Self.stale) }
        try refuse(failures)
        let node = try node(inode)
        if flags & 1 != 0, node.attributes[name] != nil { throw ModelFailure(.fileExists) }
        if flags & 2 != 0, node.attributes[name] == nil {
            throw ModelFailure(Errno(rawValue: ENODATA))
        }
        node.attributes[name] = value
        return .nothing
    }

    /// The DAG of a node; nil for what UnixFS does not know.
    func dag(of node: Node) -> DAGRoot? {
        switch node.kind {
        case .regular:
            let root = node.root ?? profile.root(of: node.bytes)
            node.root = root
            return root
        case .symlink:
            return profile.symlink(target: node.target).root
        case .directory:
            var builder = DirectoryBuilder(profile: profile)
            for (name, inode) in node.entries {
                guard let child = nodes[inode], let root = dag(of: child) else { continue }
                builder.add(name: name.bytes, cid: root.cid, treeSize: root.treeSize)
            }
            return try? builder.finish { (_, _) throws(Never) in }
        default:
            return nil
        }
    }
}
