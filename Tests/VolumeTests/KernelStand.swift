import Base
import Glibc
import Testing
import Volume

import struct SystemPackage.Errno

/// Backing files as the kernel keeps them: by descriptors of its own, under numbers that are never
/// used twice.
final class FakeRegistry: BackingRegistry {
    private struct State {
        var files: [Int32: Int32] = [:]
        var last: Int32 = 0
        var refusal: Errno?
    }

    private let state = Monitor(State())

    deinit {
        for file in state.withLock({ $0.files.values }) { close(file) }
    }

    /// Registrations that were not ended.
    var count: Int { state.withLock { $0.files.count } }

    /// What `register` fails with from now on.
    func refuse(with error: Errno?) { state.withLock { $0.refusal = error } }

    func register(_ descriptor: Int32) throws(Errno) -> BackingID {
        try state.withLock { (state) throws(Errno) in
            if let refusal = state.refusal { throw refusal }
            // The same open file description, as the kernel holds it: it counts as no user more.
            let own = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
            guard own >= 0 else { throw Errno(rawValue: errno) }
            state.last += 1
            state.files[state.last] = own
            return BackingID(state.last)
        }
    }

    /// The stand remembers no attributes.
    func attributesMayChange(of inode: Inode) {}

    func unregister(_ id: BackingID) {
        if let file = state.withLock({ $0.files.removeValue(forKey: id.number) }) { close(file) }
    }

    /// Opens the file of a registration anew, with the flags that the caller's open(2) had.
    func open(_ id: BackingID, flags: Int32) throws(Errno) -> OwnedDescriptor {
        try state.withLock { (state) throws(Errno) in
            guard let file = state.files[id.number] else { throw .noSuchFileOrDirectory }
            // Source: fuse_passthrough_open in fs/fuse/passthrough.c.
            let kept = flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC)
            let descriptor = Glibc.open("/proc/self/fd/\(file)", kept | O_CLOEXEC)
            guard descriptor >= 0 else { throw Errno(rawValue: errno) }
            return OwnedDescriptor(descriptor)
        }
    }
}

/// What the kernel does between its callers and a volume: it reads and writes backing files
/// itself, keeps pages of the other files, and refuses opens that do not go together.
///
/// Source: fs/fuse/iomode.c.
final class KernelStand {
    private final class File {
        let inode: Inode
        let flags: OpenFlags
        /// The kernel's own open backing file; nil where reads and writes are requests.
        let own: Descriptor?
        let isCached: Bool

        init(_ inode: Inode, _ flags: OpenFlags, _ own: Descriptor?, isCached: Bool) {
            self.inode = inode
            self.flags = flags
            self.own = own
            self.isCached = isCached
        }
    }

    private final class Descriptor {
        private let owned: OwnedDescriptor
        var raw: Int32 { owned.raw }

        init(_ owned: consuming OwnedDescriptor) { self.owned = owned }
    }

    private struct Uses {
        var cached = 0
        var backed = 0
        var id: BackingID?
    }

    private static let pageSize: UInt64 = 4096

    let registry: FakeRegistry?
    private let volume: Volume
    private var files: [UInt64: File] = [:]
    private var uses: [UInt64: Uses] = [:]
    /// Pages by number, for each inode.
    private var pages: [UInt64: [UInt64: [UInt8]]] = [:]
    /// What the kernel would have refused, or would have answered wrongly.
    private(set) var violation: String?
    /// Reads and writes that did not go to the volume.
    private(set) var passedCount = 0

    init(_ volume: Volume, usesBackingFiles: Bool) throws(Errno) {
        self.volume = volume
        registry = usesBackingFiles ? FakeRegistry() : nil
        if let registry { try volume.useBackingFiles(registry) }
    }

    private func note(_ what: String) {
        if violation == nil { violation = what }
    }

    /// Takes notice of an open that was answered.
    func opened(_ file: OpenedFile, _ inode: Inode, _ flags: OpenFlags) {
        var own: Descriptor?
        var isCached = false
        if flags.truncates { pages[inode.number] = nil }
        switch file.access {
        case .volume(let keepsPages):
            isCached = true
            if !keepsPages { pages[inode.number] = nil }
            uses[inode.number, default: Uses()].cached += 1
            if uses[inode.number]?.backed ?? 0 > 0 {
                note("\(inode) is opened without its backing file")
            }
        case .backingFile(let id, let byRequest):
            do throws(Errno) {
                guard let registry else { throw .invalidArgument }
                let opened = try registry.open(id, flags: flags.rawValue)
                if !byRequest { own = Descriptor(opened) }
            } catch {
                note("\(inode): backing file \(id.number) cannot be opened: \(error)")
            }
            var now = uses[inode.number, default: Uses()]
            if now.cached > 0 { note("\(inode) is opened with a backing file, and was without") }
            if now.backed > 0, now.id != id { note("\(inode) is opened with another backing file") }
            now.backed += 1
            now.id = id
            uses[inode.number] = now
        }
        files[file.handle.number] = File(inode, flags, own, isCached: isCached)
    }

    func release(_ handle: HandleID) {
        if let file = files.removeValue(forKey: handle.number) {
            let number = file.inode.number
            if file.isCached {
                uses[number]?.cached -= 1
            } else {
                uses[number]?.backed -= 1
            }
            if let now = uses[number], now.cached + now.backed == 0 { uses[number] = nil }
        }
        volume.release(handle)
    }

    /// The number of the backing file of an open file; nil where it is served by requests.
    func backing(of handle: HandleID) -> Int32? {
        guard let file = files[handle.number], !file.isCached else { return nil }
        return uses[file.inode.number]?.id?.number
    }

    /// Maps the backing file of an open file, shared, as mmap(2) of the open file does.
    func map(_ handle: HandleID, count: Int) throws(Errno) -> SharedMapping {
        guard let own = files[handle.number]?.own else { throw .invalidArgument }
        guard
            let base = mmap(
                nil, count, PROT_READ | PROT_WRITE, MAP_SHARED, own.raw, 0), base != MAP_FAILED
        else { throw Errno(rawValue: errno) }
        return SharedMapping(UnsafeMutableRawBufferPointer(start: base, count: count))
    }

    /// Opens a file.
    func open(_ inode: Inode, _ flags: OpenFlags) throws(Errno) -> HandleID {
        let opened = try volume.open(inode, flags: flags, caller: root)
        self.opened(opened, inode, flags)
        return opened.handle
    }

    /// Makes a file and opens it.
    func create(
        _ name: FileName, mode: UInt32 = 0o644, _ flags: OpenFlags = .both
    ) throws(Errno) -> (Inode, HandleID) {
        let (attributes, opened) = try volume.create(
            name, in: .root, mode: mode, flags: flags, caller: root)
        self.opened(opened, attributes.inode, flags)
        return (attributes.inode, opened.handle)
    }

    /// Makes a file with some content, and closes it.
    @discardableResult
    func makeFile(_ name: FileName, _ bytes: [UInt8]) throws(Errno) -> Inode {
        let (inode, handle) = try create(name)
        try write(handle, at: 0, bytes)
        release(handle)
        return inode
    }

    @discardableResult
    func write(_ handle: HandleID, at offset: UInt64, _ bytes: [UInt8]) throws(Errno) -> Int {
        try write(handle, at: offset, bytes, clearSetID: false)
    }

    /// Ends all files, as when their processes end.
    func releaseAll() {
        for number in files.keys.sorted() { release(HandleID(number)) }
    }

    func read(_ handle: HandleID, at offset: UInt64, count: Int) throws(Errno) -> [UInt8] {
        guard let file = files[handle.number] else {
            return try volume.read(handle, at: offset, count: count)
        }
        if let own = file.own, file.flags.isReadable {
            passedCount += 1
            var bytes = [UInt8](repeating: 0xee, count: count)
            let done = try bytes.withMutableBytes { (buffer) throws(Errno) in
                try Sys.read(own.raw, at: offset, into: buffer)
            }
            bytes.removeLast(count - done)
            return bytes
        }
        guard file.isCached else { return try volume.read(handle, at: offset, count: count) }
        return try readPages(handle, file.inode, at: offset, count: count)
    }

    /// Reads whole pages, and compares them with those that are kept.
    private func readPages(
        _ handle: HandleID, _ inode: Inode, at offset: UInt64, count: Int
    ) throws(Errno) -> [UInt8] {
        let start = offset / Self.pageSize * Self.pageSize
        let lead = Int(offset - start)
        let size = Int(Self.pageSize)
        let whole = (lead + count + size - 1) / size * size
        let bytes = try volume.read(handle, at: start, count: whole)
        var place = 0
        while place < bytes.count {
            let page = Array(bytes[place..<min(bytes.count, place + size)])
            let number = start / Self.pageSize + UInt64(place / size)
            if let kept = pages[inode.number]?[number], !zip(kept, page).allSatisfy({ $0 == $1 }) {
                note("\(inode): page \(number) that may be kept holds other bytes than the file")
            }
            pages[inode.number, default: [:]][number] = page
            place += size
        }
        guard lead < bytes.count else { return [] }
        return Array(bytes[lead..<min(bytes.count, lead + count)])
    }

    func write(
        _ handle: HandleID, at offset: UInt64, _ bytes: [UInt8], clearSetID: Bool
    ) throws(Errno) -> Int {
        let file = files[handle.number]
        // Who writes to a file with set-id bits here, may keep them.
        let hasSetID = try file.map { (file) throws(Errno) in
            try volume.attributes(of: file.inode).mode & 0o6000 != 0
        }
        if let file, let own = file.own, !clearSetID, hasSetID == false {
            guard file.flags.isWritable else { throw .badFileDescriptor }
            passedCount += 1
            // With O_APPEND pwrite(2) appends on Linux, whatever the offset is.
            let count = bytes.withUnsafeBytes {
                pwrite(own.raw, $0.baseAddress, $0.count, off_t(clamping: offset))
            }
            guard count >= 0 else { throw Errno(rawValue: errno) }
            guard count == bytes.count else { throw .ioError }
            return count
        }
        var place = offset
        if let file, file.flags.appends {
            place = try volume.attributes(of: file.inode).size
        }
        if let file { forget(place, UInt64(bytes.count), of: file.inode) }
        return try bytes.withBytes { (bytes) throws(Errno) in
            try volume.write(handle, at: place, bytes, clearSetID: clearSetID)
        }
    }

    /// Drops pages whose bytes a request changes.
    private func forget(_ offset: UInt64, _ length: UInt64, of inode: Inode) {
        let first = offset / Self.pageSize
        let last = offset.addingReportingOverflow(length).partialValue / Self.pageSize
        pages[inode.number] = pages[inode.number]?.filter { $0.key < first || $0.key > last }
    }

    /// Drops what a change of a handle's bytes by request makes invalid.
    func forget(_ handle: HandleID, _ offset: UInt64, _ length: UInt64) {
        if let file = files[handle.number] { forget(offset, length, of: file.inode) }
    }

    /// Drops the pages that a change of size makes invalid: those behind it, and the one at it.
    func forget(_ inode: Inode, from size: UInt64) {
        pages[inode.number] = pages[inode.number]?.filter { ($0.key + 1) * Self.pageSize <= size }
    }

    /// Drops what was kept of an inode that the kernel forgets.
    func evict(_ inode: Inode) { pages[inode.number] = nil }
}

extension Volume {
    /// Waits until no backing file of a closed file is in use: a process that is just being started
    /// has a copy of every descriptor for a moment.
    func awaitDetaching() {
        let isOver = eventually(everyMilliseconds: 1) {
            detachMappedAfterClose()
            return mappedFileCount == 0
        }
        #expect(isOver, "backing files of closed files are in use")
    }
}

/// A shared mapping of a file, which lasts until it is ended.
final class SharedMapping {
    let bytes: UnsafeMutableRawBufferPointer

    init(_ bytes: UnsafeMutableRawBufferPointer) { self.bytes = bytes }

    func end() { munmap(bytes.baseAddress, bytes.count) }
}

extension OpenFlags {
    var appends: Bool { rawValue & O_APPEND != 0 }
}
