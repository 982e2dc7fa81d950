internal import Base
internal import MerkleDAG
internal import Multiformats

/// DAG nodes that were fetched to know what names lead to, kept until somebody looks into them: so each further level
/// of a tree takes one round trip.
///
/// In two generations, of which the older one is dropped whole: what is there has half of the bytes at least.
final class SeenNodes: Sendable {
    /// Bytes that all of them may take.
    static let bytesMax = 8 << 20
    /// A larger one is fetched again.
    static let nodeBytesMax = 256 << 10
    /// What each takes beside its bytes.
    private static let overheadBytes = 256

    private struct State {
        var newer: [CID: [UInt8]] = [:]
        var older: [CID: [UInt8]] = [:]
        /// Of the newer ones.
        var bytes = 0
    }

    private let state = Monitor(State())

    /// Keeps a node that was compared with its CID.
    func keep(_ cid: CID, _ block: [UInt8]) {
        guard cid.codec == .dagPB, block.count <= Self.nodeBytesMax else { return }
        // Of its own size: what it came in may be larger.
        let bytes = block.withUnsafeBytes { Array($0) }
        let dropped = state.withLock { state -> [CID: [UInt8]] in
            var dropped: [CID: [UInt8]] = [:]
            let size = bytes.count + Self.overheadBytes
            if state.bytes + size > Self.bytesMax / 2 {
                dropped = state.older
                (state.older, state.newer, state.bytes) = (state.newer, [:], 0)
            }
            if state.newer.updateValue(bytes, forKey: cid) == nil { state.bytes += size }
            return dropped
        }
        // Freed without the lock.
        withExtendedLifetime(dropped) {}
    }

    /// Gives a node that is kept, and keeps it no longer: whoever looks into it notes what is in it.
    func take(_ cid: CID) -> [UInt8]? {
        state.withLock { state in
            guard let found = state.newer.removeValue(forKey: cid) else {
                return state.older.removeValue(forKey: cid)
            }
            state.bytes -= found.count + Self.overheadBytes
            return found
        }
    }
}
