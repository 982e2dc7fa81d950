package import Base
internal import Glibc

package import struct SystemPackage.Errno

// The layout below the state directory:
//
//   cache/<id>                some bytes of an object that is at a node; all of it goes at opening
//   objects/<bucket>/<id>     the flat file of one object; <id> is 16 hexadecimal digits, <bucket>
//                             the first 13 of them, so 4,096 objects share a folder and numbers
//                             that were given out one after the other lie together
//
// Validity: a flat file that a row of `object` names holds that object's bytes, from the first to
// the last; nothing else stands in the folders. A file that no row names was made, or was to be
// removed, when the program stopped: it goes at the next opening.

/// The flat files that hold the bytes of objects.
///
/// Which objects there are, and what is in them, the inode manifest knows; this knows files.
package final class ObjectStore: Sendable {
    private let directory: OwnedDescriptor
    private let cache: OwnedDescriptor
    /// Buckets that are known to exist on stable storage.
    private let knownBuckets = Monitor<Set<UInt64>>([])
    /// Flat files that a flush failed of, by number. The kernel tells of pages that could not be written
    /// once, and has them for written from then on (fsync(2), "Errors"): a second flush that goes well
    /// says nothing of them. No more than there are such files.
    private let failedFlushes = Monitor<[UInt64: FailedFlush]>([:])

    /// Whether the disk's filesystem is known to move a file's modification time with the first
    /// store to a clean page of a shared mapping. tmpfs, for one, does not.
    package let tellsStores: Bool

    private static let objectsPerBucketBits: UInt64 = 12

    /// Opens the folder `objects` of a state directory, which is made where it is missing.
    package init(stateDirectory: Int32) throws(Errno) {
        try Sys.makeDirectory("objects", in: stateDirectory)
        directory = try Sys.openTrustedDirectory("objects", in: stateDirectory)
        try Sys.makeDirectory("cache", in: stateDirectory)
        cache = try Sys.openTrustedDirectory("cache", in: stateDirectory)
        try Sys.synchronize(stateDirectory)
        tellsStores = Self.tellingFilesystems.contains(try Sys.filesystemType(of: directory.raw))
    }

    /// ext4, XFS, Btrfs and F2FS, whose page_mkwrite does it (numbers of linux/magic.h).
    private static let tellingFilesystems: Set<UInt64> = [
        0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010,
    ]

    /// Makes the empty flat file of a new object.
    ///
    /// - Throws: EEXIST where the number was used before, ENOSPC, EIO.
    package func create(_ id: UInt64) throws(Errno) -> ObjectFile {
        try makeBucket(of: id)
        let descriptor = try open(
            Self.path(of: id), in: directory, flags: O_RDWR | O_CREAT | O_EXCL)
        return ObjectFile(id: id, descriptor: descriptor, isNew: true)
    }

    /// Sees to it that the folder of a flat file is there, durably.
    private func makeBucket(of id: UInt64) throws(Errno) {
        let bucket = id >> Self.objectsPerBucketBits
        guard !knownBuckets.withLock({ $0.contains(bucket) }) else { return }
        try Sys.makeDirectory(Self.bucketName(of: id), in: directory.raw)
        try Sys.synchronize(directory.raw)
        _ = knownBuckets.withLock { $0.insert(bucket) }
    }

    /// Opens the flat file of an object, for reading or for both.
    package func open(_ id: UInt64, forWriting: Bool) throws(Errno) -> ObjectFile {
        let descriptor = try open(
            Self.path(of: id), in: directory, flags: forWriting ? O_RDWR : O_RDONLY)
        return ObjectFile(id: id, descriptor: descriptor, isNew: false)
    }

    /// Opens an object's flat file for reading and writing, without waiting.
    ///
    /// - Throws: EWOULDBLOCK where a lease is in the way (fcntl(2), F_SETLEASE). The kernel ends it, at the latest after
    ///   /proc/sys/fs/lease-break-time seconds from now, and until then other opens of the file wait.
    package func openWithoutWaiting(_ id: UInt64) throws(Errno) -> ObjectFile {
        let descriptor = try open(
            Self.path(of: id), in: directory, flags: O_RDWR | O_NONBLOCK)
        return ObjectFile(id: id, descriptor: descriptor, isNew: false)
    }

    /// Opens a file so that what is read through its descriptor moves no access time: these reads are
    /// nobody's but the volume's, and would be told as the user's.
    ///
    /// - Throws: ELOOP for a symlink, EPERM for a file that may be somebody else's.
    private func open(
        _ path: String, in directory: borrowing OwnedDescriptor, flags: Int32
    ) throws(Errno) -> OwnedDescriptor {
        let file = try openUntimed(path, in: directory.raw, flags: flags | O_NOFOLLOW)
        guard try Sys.status(of: file.raw).distrust(expecting: .regular) == nil else {
            throw .notPermitted
        }
        return file
    }

    private func openUntimed(
        _ path: String, in directory: Int32, flags: Int32
    ) throws(Errno) -> OwnedDescriptor {
        do throws(Errno) {
            return try Sys.open(path, in: directory, flags: flags | Sys.openNoAccessTime)
        } catch {
            guard error == .notPermitted else { throw error }
            return try Sys.open(path, in: directory, flags: flags)
        }
    }

    /// The blocks of 512 bytes that an object's flat file takes.
    package func blocks(of id: UInt64) throws(Errno) -> UInt64 {
        try Sys.status(of: Self.path(of: id), in: directory.raw).blocks
    }

    /// The size of an object's flat file in bytes; nil where there is no file.
    package func size(of id: UInt64) throws(Errno) -> UInt64? {
        do throws(Errno) {
            return try Sys.status(of: Self.path(of: id), in: directory.raw).size
        } catch {
            guard error == .noSuchFileOrDirectory else { throw error }
            return nil
        }
    }

    /// Removes an object's flat file; nothing happens where there is none.
    package func remove(_ id: UInt64) throws(Errno) {
        try Sys.unlink(Self.path(of: id), in: directory.raw)
        _ = failedFlushes.withLock { $0.removeValue(forKey: id) }
    }

    // MARK: Flushes

    private struct FailedFlush {
        let error: Errno
        /// What could not be made durable is the name, which no new bytes make up for.
        let isOfName: Bool
    }

    /// Why an object's flat file cannot be made durable any more; nil where nothing is known against it.
    package func flushFailure(of id: UInt64) -> Errno? {
        failedFlushes.withLock { $0[id]?.error }
    }

    /// Notes that all bytes that a flush failed of are gone from an object's flat file.
    package func noteEmptied(_ id: UInt64) {
        failedFlushes.withLock { failures in
            if failures[id]?.isOfName == false { failures[id] = nil }
        }
    }

    /// Flushes the bytes of a flat file, unless that failed before.
    fileprivate func flush(_ file: ObjectFile) throws(Errno) {
        if let failure = flushFailure(of: file.id) {
            throw failure.because(
                "object \(file.id): an earlier flush of it failed, and this one could tell of nothing"
            )
        }
        do throws(Errno) {
            try Sys.synchronizeData(file.raw)
        } catch {
            note(FailedFlush(error: error, isOfName: false), of: file.id)
            throw error
        }
    }

    private func note(_ failure: FailedFlush, of id: UInt64) {
        failedFlushes.withLock { $0[id] = failure }
    }

    /// Lets two objects exchange their flat files, durably: what was open of one is the other's then. Of
    /// neither file may a flush have failed.
    package func exchange(_ one: UInt64, _ other: UInt64) throws(Errno) {
        try Sys.exchange(Self.path(of: one), Self.path(of: other), in: directory.raw)
        do throws(Errno) {
            try synchronizeName(of: one)
            try synchronizeName(of: other)
        } catch {
            try? Sys.exchange(Self.path(of: one), Self.path(of: other), in: directory.raw)
            throw error
        }
    }

    /// Makes the names of new flat files durable, by one flush for those of a folder.
    package func synchronizeNames(of files: [ObjectFile]) throws(Errno) {
        let buckets = Dictionary(grouping: files) { $0.id >> Self.objectsPerBucketBits }
        for files in buckets.values {
            do throws(Errno) {
                try synchronizeName(of: files[0].id)
            } catch {
                for file in files { note(FailedFlush(error: error, isOfName: true), of: file.id) }
                throw error
            }
            for file in files { file.noteNameDurable() }
        }
    }

    /// Makes the name of a new flat file durable.
    package func synchronizeName(of id: UInt64) throws(Errno) {
        let bucket = try Sys.open(
            Self.bucketName(of: id), in: directory.raw, flags: O_RDONLY | O_DIRECTORY)
        do throws(Errno) {
            try Sys.synchronize(bucket.raw)
        } catch {
            note(FailedFlush(error: error, isOfName: true), of: id)
            throw error
        }
    }

    // MARK: The cache

    /// Makes the empty file for the bytes of an object that is at a node.
    package func createCached(_ id: UInt64) throws(Errno) -> ObjectFile {
        let descriptor = try open(
            Self.hexadecimal(id, digits: 16), in: cache, flags: O_RDWR | O_CREAT | O_TRUNC)
        noteEmptied(id)
        return ObjectFile(id: id, descriptor: descriptor, isNew: false)
    }

    /// Opens the file of an object in the cache.
    package func openCached(_ id: UInt64) throws(Errno) -> ObjectFile {
        let descriptor = try open(Self.hexadecimal(id, digits: 16), in: cache, flags: O_RDWR)
        return ObjectFile(id: id, descriptor: descriptor, isNew: false)
    }

    /// Makes the file of the cache the object's flat file, durably. The number must have none.
    package func keepCached(_ file: ObjectFile) throws(Errno) {
        try makeBucket(of: file.id)
        try flush(file)
        try Sys.rename(
            Self.hexadecimal(file.id, digits: 16), in: cache.raw, to: Self.path(of: file.id),
            in: directory.raw)
        try synchronizeName(of: file.id)
    }

    /// Opens the file of an object in the cache to read it.
    package func openCachedToRead(_ id: UInt64) throws(Errno) -> ObjectFile {
        let descriptor = try open(Self.hexadecimal(id, digits: 16), in: cache, flags: O_RDONLY)
        return ObjectFile(id: id, descriptor: descriptor, isNew: false)
    }

    /// Removes an object's file from the cache; nothing happens where there is none.
    package func removeCached(_ id: UInt64) throws(Errno) {
        try Sys.unlink(Self.hexadecimal(id, digits: 16), in: cache.raw)
    }

    /// Empties the cache.
    package func emptyCache() throws(Errno) {
        for name in try Sys.names(in: cache.raw, path: ".") { try Sys.unlink(name, in: cache.raw) }
    }

    /// The numbers of all flat files from a number on, in no order. Reads the folders of these
    /// numbers only. Names that are no object's are reported apart.
    package func files(from first: UInt64) throws(Errno) -> (ids: [UInt64], foreign: [String]) {
        var ids: [UInt64] = []
        var foreign: [String] = []
        for bucket in try Sys.names(in: directory.raw, path: ".") {
            guard let number = UInt64(bucket, radix: 16), bucket.utf8.count == 13 else {
                foreign.append(bucket)
                continue
            }
            guard number >= first >> Self.objectsPerBucketBits else { continue }
            for name in try Sys.names(in: directory.raw, path: bucket) {
                guard let id = UInt64(name, radix: 16), Self.path(of: id) == bucket + "/" + name
                else {
                    foreign.append(bucket + "/" + name)
                    continue
                }
                if id >= first { ids.append(id) }
            }
        }
        return (ids, foreign)
    }

    /// The figures of the filesystem that holds the objects.
    package func filesystemStatus() throws(Errno) -> FilesystemStatus {
        try Sys.filesystemStatus(of: directory.raw)
    }

    private static func hexadecimal(_ value: UInt64, digits: Int) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
    }

    private static func bucketName(of id: UInt64) -> String {
        hexadecimal(id >> objectsPerBucketBits, digits: 13)
    }

    private static func path(of id: UInt64) -> String {
        bucketName(of: id) + "/" + hexadecimal(id, digits: 16)
    }
}

/// The open flat file of an object; closed when its last user lets go of it.
package final class ObjectFile: Sendable {
    package let id: UInt64
    private let descriptor: OwnedDescriptor
    /// Whether the name of the file may not be durable yet.
    private let isNameVolatile: Monitor<Bool>

    init(id: UInt64, descriptor: consuming OwnedDescriptor, isNew: Bool) {
        self.id = id
        self.descriptor = descriptor
        isNameVolatile = Monitor(isNew)
    }

    /// The descriptor, valid while this object is referenced.
    package var raw: Int32 { descriptor.raw }

    /// Makes the bytes, and the name of the file, durable. Once that has failed it fails until the file is
    /// emptied: nothing could tell that the bytes of then came to the disk after all.
    package func synchronize(in store: ObjectStore) throws(Errno) {
        try synchronizeBytes(in: store)
        guard isNameVolatile.withLock({ $0 }) else { return }
        try store.synchronizeName(of: id)
        noteNameDurable()
    }

    /// Makes the bytes durable; fails like `synchronize`.
    package func synchronizeBytes(in store: ObjectStore) throws(Errno) {
        try store.flush(self)
    }

    fileprivate func noteNameDurable() {
        isNameVolatile.withLock { $0 = false }
    }
}
