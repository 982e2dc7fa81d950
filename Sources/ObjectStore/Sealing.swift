internal import Base
package import InodeManifest
package import MerkleDAG
internal import Multiformats

package import struct SystemPackage.Errno

/// Why sealing stopped without a result.
package enum SealInterruption: Error, Sendable {
    /// The content changed meanwhile, or the caller has no use for the result any more.
    case outdated
    /// The flat file is shorter than the content is said to be.
    case truncated
    case failed(Errno)
}

extension SealResult {
    /// Computes the DAG of content that lies in memory.
    package static func sealing(_ bytes: [UInt8], profile: ImportProfile) -> SealResult {
        var sealing = Sealing(profile: profile)
        bytes.withUnsafeBytes { content in
            var start = 0
            repeat {
                let end = min(content.count, start + profile.chunkSize)
                sealing.add(UnsafeRawBufferPointer(rebasing: content[start..<end]))
                start = end
            } while start < content.count
        }
        return sealing.finish()
    }

    /// Computes the DAG of a flat file. Reads the file once; keeps one chunk and the interior
    /// nodes in memory.
    ///
    /// - Parameter isWanted: asked before each chunk; false ends the work with `outdated`.
    package static func sealing(
        _ file: ObjectFile, size: UInt64, profile: ImportProfile, isWanted: () -> Bool
    ) throws(SealInterruption) -> SealResult {
        var sealing = Sealing(profile: profile)
        let buffer = OwnedBuffer(byteCount: profile.chunkSize)
        var offset: UInt64 = 0
        repeat {
            guard isWanted() else { throw .outdated }
            let wanted = Int(min(UInt64(profile.chunkSize), size - offset))
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<wanted])
            let count: Int
            do throws(Errno) {
                count = try Sys.read(file.raw, at: offset, into: part)
            } catch {
                throw .failed(error)
            }
            guard count == wanted else { throw .truncated }
            sealing.add(UnsafeRawBufferPointer(part))
            offset += UInt64(wanted)
        } while offset < size
        return sealing.finish()
    }
}

/// One pass over some content: its leaves and the nodes above them.
private struct Sealing {
    private let profile: ImportProfile
    private var builder: BalancedDAGBuilder
    private var leaves: [[UInt8]] = []
    private var nodes: [StoredNode] = []

    init(profile: ImportProfile) {
        self.profile = profile
        builder = BalancedDAGBuilder(profile: profile)
    }

    mutating func add(_ chunk: UnsafeRawBufferPointer) {
        let leaf = profile.leaf(chunk)
        leaves.append(leaf.cid.multihash.bytes)
        builder.append(leaf) { cid, block in
            nodes.append(StoredNode(multihash: cid.multihash.bytes, bytes: block))
        }
    }

    mutating func finish() -> SealResult {
        let root = builder.finish { cid, block in
            nodes.append(StoredNode(multihash: cid.multihash.bytes, bytes: block))
        }
        // The only leaf is the root, and is found by the object's CID.
        return SealResult(
            cid: root.cid, treeSize: root.treeSize, leaves: leaves.count > 1 ? leaves : [],
            nodes: nodes)
    }
}
