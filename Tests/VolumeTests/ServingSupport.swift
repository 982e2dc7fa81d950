import Base
import Glibc
import MerkleDAG
import Multiformats
import Volume

import struct SystemPackage.Errno

extension LentBytes {
    /// What is lent, wherever it lies.
    func read() throws(Errno) -> [UInt8] {
        switch self {
        case .bytes(let bytes): return bytes
        case .file(let file, let offset, let count):
            var bytes = [UInt8](repeating: 0xee, count: Int(count))
            let done = try bytes.withMutableBytes { (buffer) throws(Errno) in
                try Sys.read(file.raw, at: offset, into: buffer)
            }
            bytes.removeLast(bytes.count - done)
            return bytes
        }
    }

    var isFile: Bool {
        if case .file = self { true } else { false }
    }
}

/// The blocks of a volume as others have them, for readers of DAGs.
struct LentBlocks: BlockSource {
    let volume: Volume
    var scope = ContentScope.tree
    var asksRemote = false

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        do {
            let bytes = try volume.lendBlock(cid, of: scope, asksRemote: asksRemote).read()
            try bytes.withUnsafeBytes { try cid.verify($0) }
            return bytes
        } catch {
            throw BlockUnavailable(cid, cause: error)
        }
    }

    /// The bytes of a file, by its blocks.
    func file(_ cid: CID) throws -> [UInt8] {
        var reader = try FileReader(root: cid, source: self)
        var bytes = [UInt8](repeating: 0xee, count: Int(reader.size))
        let count = try bytes.withUnsafeMutableBytes { try reader.read(into: $0, at: 0) }
        bytes.removeLast(bytes.count - count)
        return bytes
    }
}

extension Volume {
    /// Whether others are given a block that is here.
    func gives(_ cid: CID, of scope: ContentScope = .tree) throws -> Bool {
        do throws(ServingFailure) {
            _ = try lendBlock(cid, of: scope, asksRemote: false)
        } catch {
            guard case .notFound = error else { throw error }
            return false
        }
        return true
    }

    func live(_ path: String...) throws(ServingFailure) -> LiveEntry? {
        try liveEntry(at: path.map { Array($0.utf8) })
    }

    /// The names that others are told of, as they come.
    func liveNames(_ path: String...) throws(ServingFailure) -> [String]? {
        try liveNames(at: path.map { Array($0.utf8) }, countMax: 1_000)?
            .map { String(decoding: $0.name, as: UTF8.self) }
    }

    /// Has what is written from now on served without a checkpoint.
    func beginServing() throws(ServingFailure) {
        let empty = profile.root(of: []).cid
        _ = try hasBlock(empty, of: .tree)
        let missing = CID.raw(sha256: Array("nobody has this".utf8))
        // Takes the checkpoint of this second.
        _ = try hasBlock(missing, of: .tree)
    }
}

/// Whether the disk below the tests has leases (fcntl(2), F_SETLEASE).
let diskHasLeases: Bool = {
    let scratch = ScratchDirectory()
    guard let file = try? Sys.open(scratch.path + "/probe", flags: O_RDWR | O_CREAT) else {
        return false
    }
    return Sys.isSoleUser(of: file.raw)
}()
