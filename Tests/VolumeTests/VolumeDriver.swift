import Base
import Glibc
import Multiformats
import Volume

import struct SystemPackage.Errno

/// Runs operations on a volume and gives their answers in the model's words.
///
/// What the kernel does by itself, a stand does for it: with backing files, reads and writes mostly
/// do not come to the volume.
final class VolumeDriver {
    private(set) var volume: Volume
    private(set) var kernel: KernelStand
    private let usesBackingFiles: Bool
    private var handles: [Int: HandleID] = [:]
    private var openFlags: [Int: OpenFlags] = [:]
    private var nextHandle = 1

    init(_ volume: Volume, usesBackingFiles: Bool) throws(Errno) {
        self.volume = volume
        self.usesBackingFiles = usesBackingFiles
        kernel = try KernelStand(volume, usesBackingFiles: usesBackingFiles)
    }

    /// Ends all handles and closes the volume.
    func close() throws(VolumeError) {
        kernel.releaseAll()
        volume.awaitDetaching()
        try volume.close()
    }

    /// Goes on with the same state directory, opened anew.
    func replaceVolume(_ volume: Volume) throws(Errno) {
        self.volume = volume
        kernel = try KernelStand(volume, usesBackingFiles: usesBackingFiles)
        handles = [:]
        openFlags = [:]
        nextHandle = 1
    }

    private func handle(_ number: Int) throws(Errno) -> HandleID {
        guard let handle = handles[number] else { throw .badFileDescriptor }
        return handle
    }

    private func opened(
        _ attributes: Attributes, _ file: OpenedFile, _ flags: OpenFlags
    ) -> Answer {
        kernel.opened(file, attributes.inode, flags)
        handles[nextHandle] = file.handle
        openFlags[nextHandle] = flags
        nextHandle += 1
        return .opened(Status(attributes), handle: nextHandle - 1)
    }

    private func change(
        _ inode: UInt64, _ edit: (inout AttributeChange) -> Void
    ) throws(Errno) -> Attributes {
        var change = AttributeChange()
        edit(&change)
        return try volume.setAttributes(of: Inode(inode), change, handle: nil, caller: root)
    }

    func apply(_ operation: Operation) throws(Errno) -> Answer {
        switch operation {
        case .lookup(let name, let parent):
            return .status(Status(try volume.lookup(name, in: Inode(parent))))
        case .forget(let inode, let count):
            kernel.evict(Inode(inode))
            volume.forget(Inode(inode), count: count)
            return .nothing
        case .attributes(let inode):
            return .status(Status(try volume.attributes(of: Inode(inode))))
        case .makeNode(let name, let parent, let kind, let mode, let rdev, let umask):
            return .status(
                Status(
                    try volume.makeNode(
                        name, in: Inode(parent), kind: kind, mode: mode, rdev: rdev,
                        caller: Caller(uid: 0, gid: 0, pid: getpid(), umask: umask))))
        case .makeDirectory(let name, let parent, let mode, let umask):
            return .status(
                Status(
                    try volume.makeDirectory(
                        name, in: Inode(parent), mode: mode,
                        caller: Caller(uid: 0, gid: 0, pid: getpid(), umask: umask))))
        case .makeSymlink(let name, let parent, let target):
            return .status(
                Status(
                    try volume.makeSymlink(
                        name, in: Inode(parent), target: target, caller: root)))
        case .create(let name, let parent, let mode, let flags):
            let (attributes, file) = try volume.create(
                name, in: Inode(parent), mode: mode, flags: OpenFlags(rawValue: flags),
                caller: root)
            return opened(attributes, file, OpenFlags(rawValue: flags))
        case .makeTemporary(let parent, let mode):
            let (attributes, file) = try volume.makeTemporary(
                in: Inode(parent), mode: mode, flags: .both, caller: root)
            return opened(attributes, file, .both)
        case .link(let inode, let name, let parent):
            return .status(
                Status(try volume.link(Inode(inode), as: name, in: Inode(parent))))
        case .unlink(let name, let parent):
            try volume.unlink(name, in: Inode(parent))
            return .nothing
        case .removeDirectory(let name, let parent):
            try volume.removeDirectory(name, in: Inode(parent))
            return .nothing
        case .rename(let name, let from, let newName, let to, let flags):
            try volume.rename(
                name, in: Inode(from), to: newName, in: Inode(to),
                flags: RenameFlags(rawValue: flags), caller: root)
            return .nothing
        case .open(let inode, let flags):
            let file = try volume.open(
                Inode(inode), flags: OpenFlags(rawValue: flags), caller: root)
            return opened(
                try volume.attributes(of: Inode(inode)), file, OpenFlags(rawValue: flags))
        case .release(let number):
            kernel.release(try handle(number))
            handles[number] = nil
            return .nothing
        case .flush(let number):
            try volume.flush(handle(number))
            return .nothing
        case .read(let number, let offset, let count):
            return .bytes(try kernel.read(handle(number), at: offset, count: count))
        case .write(let number, let offset, let seed, let count, let clears):
            return .count(
                UInt64(
                    try kernel.write(
                        handle(number), at: offset, content(seed: seed, count: count),
                        clearSetID: clears)))
        case .truncate(let inode, let size, let clears):
            kernel.forget(Inode(inode), from: size)
            return .status(
                Status(
                    try change(inode) { change in
                        change.size = size
                        change.clearSetID = clears
                    }))
        case .setMode(let inode, let mode):
            return .status(Status(try change(inode) { $0.mode = mode }))
        case .setOwner(let inode, let uid, let gid):
            return .status(
                Status(
                    try change(inode) { change in
                        change.uid = uid
                        change.gid = gid
                    }))
        case .setTimes(let inode, let accessed, let modified):
            let attributes = try change(inode) { change in
                change.accessed = .at(Timestamp(nanoseconds: accessed))
                change.modified = .at(Timestamp(nanoseconds: modified))
            }
            return .times(
                accessed: attributes.accessed.nanoseconds,
                modified: attributes.modified.nanoseconds)
        case .allocate(let number, let mode, let offset, let length):
            let handle = try handle(number)
            kernel.forget(handle, offset, length)
            try volume.allocate(handle, mode: mode, offset: offset, length: length)
            return .nothing
        case .copyRange(let source, let from, let destination, let to, let length):
            let (source, target) = (try handle(source), try handle(destination))
            // copy_file_range(2): EBADF for O_APPEND; the kernel does not ask.
            if openFlags[destination]?.appends == true { throw .badFileDescriptor }
            let count = try volume.copyRange(
                from: source, at: from, to: target, at: to, length: length)
            kernel.forget(target, to, count)
            return .count(count)
        case .seek(let number, let offset, let whence):
            return .count(try volume.seek(handle(number), from: offset, whence: whence))
        case .synchronize(let number, let dataOnly):
            try volume.synchronize(handle(number), dataOnly: dataOnly)
            return .nothing
        case .synchronizeDirectory(let inode):
            try volume.synchronizeDirectory(Inode(inode))
            return .nothing
        case .synchronizeAll:
            try volume.synchronizeAll()
            return .nothing
        case .list(let inode, let portion):
            return .entries(try listing(of: Inode(inode), portion: portion))
        case .listWithAttributes(let inode):
            var children: [(FileName, Status)] = []
            var open: [FileName] = []
            try volume.readDirectoryPlus(Inode(inode), from: 0) { entry, attributes in
                if let attributes {
                    children.append((entry.name, Status(attributes)))
                } else if ![".", ".."].contains(entry.name.description) {
                    open.append(entry.name)
                }
                return true
            }
            // As the kernel does.
            for name in open {
                children.append((name, Status(try volume.lookup(name, in: Inode(inode)))))
            }
            return .statuses(
                children.sorted { $0.0.bytes.lexicographicallyPrecedes($1.0.bytes) }.map(\.1))
        case .readSymlink(let inode):
            return .bytes(try volume.readSymlink(Inode(inode)))
        case .setAttribute(let inode, let name, let value, let flags):
            try volume.setExtendedAttribute(
                name, of: Inode(inode), to: value, flags: flags, clearSetGID: false, caller: root)
            return .nothing
        case .getAttribute(let inode, let name):
            return .bytes(try volume.extendedAttribute(name, of: Inode(inode)))
        case .removeAttribute(let inode, let name):
            try volume.removeExtendedAttribute(name, of: Inode(inode))
            return .nothing
        case .listAttributes(let inode):
            return .bytes(try volume.extendedAttributeNames(of: Inode(inode)))
        case .cid(let inode):
            return .text(try volume.cid(of: Inode(inode)).description)
        case .snapshot(let name):
            let made: Snapshot
            do throws(VolumeError) {
                made = try volume.createSnapshot(named: name)
            } catch {
                throw Self.errno(error, else: .fileExists)
            }
            return .text("\(made.root as CID? as Any)")
        case .deleteSnapshot(let name):
            do throws(VolumeError) {
                try volume.deleteSnapshot(named: name)
            } catch {
                throw Self.errno(error, else: .noSuchFileOrDirectory)
            }
            return .nothing
        }
    }

    private static func errno(_ error: VolumeError, else other: Errno) -> Errno {
        if case .operation(_, let errno) = error { errno } else { other }
    }

    func listing(of inode: Inode, portion: Int) throws(Errno) -> [Listed] {
        try volume.entries(of: inode, portion: portion)
            .sorted { $0.name.bytes.lexicographicallyPrecedes($1.name.bytes) }
    }
}

extension Status {
    init(_ attributes: Attributes) {
        self.init(
            inode: attributes.inode.number, kind: attributes.kind, mode: attributes.mode,
            linkCount: attributes.linkCount, uid: attributes.uid, gid: attributes.gid,
            rdev: attributes.rdev, size: attributes.size)
    }
}
