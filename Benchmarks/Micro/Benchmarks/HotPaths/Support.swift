import Base
import Foundation
import Glibc
import Logging
import MerkleDAG
import Multiformats
import Volume

/// A file of bytes that are made up while it is read, and cost less than hashing them.
final class SyntheticFile {
    private var left: Int
    private var counter: UInt64 = 0

    init(byteCount: Int) {
        left = byteCount
    }

    func read(_ buffer: UnsafeMutableRawBufferPointer) -> Int {
        let count = min(left, buffer.count)
        let words = buffer.bindMemory(to: UInt64.self)
        for index in words.indices {
            counter &+= 0x9E37_79B9_7F4A_7C15
            words[index] = counter
        }
        left -= count
        return count
    }
}

/// Blocks in memory.
final class Blocks: BlockSource {
    private var blocks: [CID: [UInt8]] = [:]

    func add(_ cid: CID, _ block: [UInt8]) {
        blocks[cid] = block
    }

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        guard let block = blocks[cid] else { throw BlockUnavailable(cid) }
        return block
    }
}

/// A new volume on the disk of /var/tmp, which nothing is sealed on unasked.
final class TemporaryVolume {
    let volume: Volume
    private let path: String
    private let caller = Caller(uid: 0, gid: 0, pid: 1, umask: 0o022)

    init() throws {
        var template = Array("/var/tmp/registryfs-micro.XXXXXX".utf8CString)
        path = template.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress, let made = mkdtemp(base) else { return "" }
            return String(cString: made)
        }
        guard !path.isEmpty else { throw TemporaryVolumeError.directory(errno) }
        var options = VolumeOptions()
        options.sealThreads = 0
        // Only the commits that are asked for.
        options.commitIntervalMilliseconds = 3_600_000
        volume = try Volume.open(
            stateDirectory: path, options: options,
            log: Logger(label: "benchmark") { _ in SwiftLogNoOpLogHandler() })
    }

    /// Makes a file with the 71 bytes of a registry's `link`, as the kernel would ask for it.
    func createFile(_ name: FileName) throws {
        let (attributes, opened) = try volume.create(
            name, in: .root, mode: 0o644, flags: OpenFlags(rawValue: O_WRONLY | O_CREAT),
            caller: caller)
        let content: [UInt8] = Array("sha256:".utf8) + Array(repeating: 0x30, count: 64)
        let written = try content.withUnsafeBytes { bytes in
            try volume.write(opened.handle, at: 0, bytes, clearSetID: false)
        }
        guard written == content.count else { throw TemporaryVolumeError.shortWrite }
        try volume.flush(opened.handle)
        volume.release(opened.handle)
        volume.forget(attributes.inode, count: 1)
    }

    @discardableResult
    func createFiles(_ count: Int) throws -> [FileName] {
        let names = (0..<count).map { FileName("file\($0)") }
        for name in names { try createFile(name) }
        return names
    }

    /// Closes the volume and removes it.
    func close() throws {
        try volume.close()
        try FileManager.default.removeItem(atPath: path)
    }
}

enum TemporaryVolumeError: Error {
    case directory(Int32)
    case shortWrite
}
