internal import Foundation
internal import MerkleDAG
public import Multiformats

/// Content that is put into a node without its RPC.
extension DoubleNode {
    /// Why an archive is not taken.
    public struct BadArchive: Error {
        public var path: String
    }

    /// Stores a block, whatever its bytes are.
    public func addBlock(_ cid: CID, _ bytes: [UInt8]) throws {
        try blocks.put(cid.multihash, bytes)
    }

    /// Stores all blocks of a CAR, which is read through.
    ///
    /// - Returns: its roots.
    public func addArchive(_ path: String) throws -> [CID] {
        guard let file = FileHandle(forReadingAtPath: path) else { throw BadArchive(path: path) }
        var reader = try CARReader { buffer in
            guard let piece = try file.read(upToCount: buffer.count) else { return 0 }
            buffer.copyBytes(from: piece)
            return piece.count
        }
        while let section = try reader.next() {
            guard section.cid.multihash.code != .identity else { continue }
            try addBlock(section.cid, section.block)
        }
        return reader.roots
    }
}
