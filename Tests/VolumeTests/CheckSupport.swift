import Base
import Checking
import Foundation
import GRDB
import Glibc
import Logging
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// A state directory with one of everything in it, to be damaged and checked.
final class CheckedDirectory {
    let path: String

    /// Makes a volume with one of everything, sealed, with the CIDs of all directories, closed.
    init(profile: ImportProfile = .unixfsV1_2025) throws {
        path = NSTemporaryDirectory() + "registryfs-check-" + UUID().uuidString
        let volume = try open(profile: profile)
        try Self.fill(volume)
        _ = try volume.cid(of: .root)
        try volume.close()
    }

    /// An empty directory without a volume.
    init(empty: Void) {
        path = NSTemporaryDirectory() + "registryfs-check-" + UUID().uuidString
        mkdir(path, 0o700)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }

    func open(
        profile: ImportProfile? = nil, sealThreads: Int = 0, isReadOnly: Bool = false
    ) throws -> Volume {
        var options = VolumeOptions()
        options.profile = profile
        options.sealThreads = sealThreads
        options.isReadOnly = isReadOnly
        // Nothing is committed that the test does not ask for.
        options.commitIntervalMilliseconds = 3_600_000
        return try Volume.open(
            stateDirectory: path, options: options,
            log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    func check(repair: Bool = false) throws -> CheckReport {
        try Check.run(stateDirectory: path, repair: repair) { done, total in
            #expect(done <= total)
        }
    }

    /// Runs SQL on the manifest, past the volume.
    func damage(_ sql: String) throws {
        let database = try DatabaseQueue(path: path + "/manifest.sqlite")
        try database.inDatabase { db in
            try db.execute(sql: sql)
            #expect(db.totalChangesCount > 0, "the damage changed nothing")
        }
        try database.close()
    }

    func integer(_ sql: String) throws -> Int64 {
        let database = try DatabaseQueue(path: path + "/manifest.sqlite")
        let value = try database.inDatabase { db in try Int64.fetchOne(db, sql: sql) }
        try database.close()
        return try #require(value)
    }

    /// The path of the flat file of the file with a name.
    func flatFile(_ name: String) throws -> String {
        let object = try integer("SELECT object FROM inode WHERE id = \(inode(name))")
        let digits = String(object, radix: 16)
        let padded = String(repeating: "0", count: 16 - digits.count) + digits
        return path + "/objects/" + padded.prefix(13) + "/" + padded
    }

    /// Turns one byte of a file around.
    func flip(_ path: String, at offset: Int) throws {
        let descriptor = Glibc.open(path, O_RDWR)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        var byte: UInt8 = 0
        #expect(pread(descriptor, &byte, 1, off_t(offset)) == 1)
        byte = ~byte
        #expect(pwrite(descriptor, &byte, 1, off_t(offset)) == 1)
    }

    /// The bytes of every file, but for the lock and SQLite's scratch file.
    func contents() throws -> [String: Data] {
        var contents: [String: Data] = [:]
        let places = try #require(FileManager.default.subpaths(atPath: path))
        for place in places where place != "lock" && !place.hasSuffix("-shm") {
            contents[place] = FileManager.default.contents(atPath: path + "/" + place) ?? Data()
        }
        return contents
    }

    /// The chunks of both profiles divide it into several leaves, the last one short.
    static let largeSize = 3 << 20 + 5

    static func fill(_ volume: Volume) throws {
        try volume.put("small", Array("sha256:e3b0c44298fc".utf8))
        // Committed and sealed, so that its twin comes to share its object.
        _ = try volume.cid(of: volume.resolve(path: [FileName("small")]))
        try volume.synchronizeAll()
        try volume.put("twin", Array("sha256:e3b0c44298fc".utf8))
        try volume.put("empty", [])
        try volume.put("flat", pattern(1, count: 100_000))
        try volume.put("large", pattern(2, count: largeSize))
        let directory = try volume.put(directory: "dir")
        let deep = try volume.put(directory: "deep", in: directory)
        let deeper = try volume.put(directory: "deeper", in: deep)
        let hard = try volume.put("hard", in: deeper, pattern(3, count: 300))
        _ = try volume.link(hard, as: FileName("hard2"), in: .root)
        _ = try volume.link(hard, as: FileName("hard3"), in: .root)
        _ = try volume.makeSymlink(
            FileName("link"), in: directory, target: Array("../small".utf8), caller: .tester)
        _ = try volume.makeNode(
            FileName("fifo"), in: directory, kind: .fifo, mode: 0o600, rdev: 0, caller: .tester)
        try volume.setExtendedAttribute(
            FileName("user.colour"), of: hard, to: Array("green".utf8), flags: 0,
            clearSetGID: false, caller: .tester)
        _ = try volume.put(directory: "sub", in: directory)
        _ = try volume.put(directory: "other")
    }
}

/// The inode that a name of `CheckedDirectory` stands for, as SQL.
func inode(_ name: String) -> String {
    "(SELECT inode FROM entry WHERE name = CAST('\(name)' AS BLOB) ORDER BY cookie LIMIT 1)"
}

/// The object of a file, as SQL.
func object(_ name: String) -> String {
    "(SELECT object FROM inode WHERE id = \(inode(name)))"
}

/// A blob with its first byte replaced, as SQL.
func damaged(_ column: String) -> String {
    "CAST(CASE substr(\(column), 1, 1) WHEN x'00' THEN x'01' ELSE x'00' END "
        + "|| substr(\(column), 2) AS BLOB)"
}

/// The multihash of nothing in particular, as SQL.
let strangeMultihash = "CAST(x'1220' || zeroblob(32) AS BLOB)"

/// Takes references to DAG nodes away, and the nodes that nothing else refers to, as SQL.
func dropNodes(_ condition: String) -> String {
    "DELETE FROM dag_reference WHERE \(condition); "
        + "DELETE FROM dag_node WHERE multihash NOT IN (SELECT multihash FROM dag_reference)"
}

/// The DAG nodes that somebody needs, as SQL.
func nodes(_ condition: String) -> String {
    "multihash IN (SELECT multihash FROM dag_reference WHERE \(condition))"
}

/// A Kubo node that the volume publishes to, as SQL.
let remoteRow = "INSERT INTO remote VALUES (1, 1, 'peer', '/x', 1, NULL, 0, NULL, 0)"

/// A name as SQL.
func name(_ name: String) -> String { "CAST('\(name)' AS BLOB)" }

/// Bytes that do not repeat within a leaf.
func pattern(_ seed: UInt64, count: Int) -> [UInt8] {
    var state = seed
    return (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(truncatingIfNeeded: state >> 56)
    }
}

extension Caller {
    fileprivate static let tester = Caller(uid: 0, gid: 0, pid: 1, umask: 0o022)
}

extension Volume {
    @discardableResult
    func put(
        _ name: String, in parent: Inode = .root, _ bytes: [UInt8]
    ) throws(Errno) -> Inode {
        let (attributes, file) = try create(
            FileName(name), in: parent, mode: 0o644, flags: OpenFlags(rawValue: O_RDWR),
            caller: .tester)
        defer { release(file.handle) }
        try put(bytes, to: file.handle, at: 0)
        return attributes.inode
    }

    func put(_ bytes: [UInt8], to handle: HandleID, at offset: UInt64) throws(Errno) {
        try bytes.withBytes { (content) throws(Errno) in
            _ = try write(handle, at: offset, content, clearSetID: false)
        }
    }

    func put(directory name: String, in parent: Inode = .root) throws(Errno) -> Inode {
        try makeDirectory(FileName(name), in: parent, mode: 0o755, caller: .tester).inode
    }

    func bytes(of inode: Inode) throws(Errno) -> [UInt8] {
        let file = try open(inode, flags: OpenFlags(rawValue: O_RDONLY), caller: .tester)
        defer { release(file.handle) }
        var bytes = [UInt8](repeating: 0, count: Int(try attributes(of: inode).size))
        let count = try bytes.withMutableBytes { (buffer) throws(Errno) in
            try read(file.handle, at: 0, into: buffer)
        }
        #expect(count == bytes.count)
        return bytes
    }

    func openForWriting(_ inode: Inode) throws(Errno) -> HandleID {
        try open(inode, flags: OpenFlags(rawValue: O_RDWR), caller: .tester).handle
    }
}
