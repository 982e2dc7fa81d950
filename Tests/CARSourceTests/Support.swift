import Base
import CARSource
import Foundation
import MerkleDAG
import Multiformats
import Remotes

typealias Block = (cid: CID, bytes: [UInt8])

/// A file that goes with its test.
final class TemporaryFile {
    let path = FileManager.default.temporaryDirectory.path + "/car-source-" + UUID().uuidString

    init(_ bytes: [UInt8]) throws {
        try Data(bytes).write(to: URL(fileURLWithPath: path))
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Raw blocks, each of its own bytes.
func rawBlocks(_ count: Int, byteCount: Int = 100) -> [Block] {
    (0..<count).map { number in
        let bytes = Array("block \(number) ".utf8) + [UInt8](repeating: 7, count: byteCount)
        return (CID.raw(sha256: bytes), bytes)
    }
}

/// The forms of an archive.
enum Form: CaseIterable, Sendable {
    case version1
    /// Without an index.
    case version2
    case indexSorted
    case multihashIndexSorted

    /// An archive of these blocks.
    func archive(_ blocks: [Block], roots: [CID] = []) -> [UInt8] {
        var bytes: [UInt8] = []
        func put(_ piece: UnsafeRawBufferPointer, at offset: UInt64) {
            let start = Int(offset)
            if bytes.count < start + piece.count {
                bytes += [UInt8](repeating: 0, count: start + piece.count - bytes.count)
            }
            bytes.replaceSubrange(start..<start + piece.count, with: piece)
        }
        withoutActuallyEscaping(put) { put in
            if self == .version1 {
                var end: UInt64 = 0
                var writer = CARWriter<Never>(roots: roots) { piece in
                    put(piece, end)
                    end += UInt64(piece.count)
                }
                for (cid, block) in blocks { writer.write(cid, block) }
                return
            }
            var writer = CARv2Writer<Never>(roots: roots, sink: put)
            for (cid, block) in blocks { writer.write(cid, block) }
            let codec: Multicodec? =
                switch self {
                case .version1, .version2: nil
                case .indexSorted: .carIndexSorted
                case .multihashIndexSorted: .carMultihashIndexSorted
                }
            writer.finish(indexCodec: codec)
        }
        return bytes
    }
}

extension CARFileRemote {
    func get(_ cid: CID) throws(RemoteError) -> [UInt8] {
        try block(BlockRequest(cid, deadlineMilliseconds: 60_000), memory: nil)
    }
}

/// The error that a call ends with; nil where it does not.
func failure(_ body: () throws(RemoteError) -> Void) -> RemoteError? {
    do throws(RemoteError) {
        try body()
        return nil
    } catch {
        return error
    }
}
