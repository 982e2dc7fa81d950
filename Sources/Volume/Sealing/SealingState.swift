internal import Base
internal import InodeManifest
internal import MerkleDAG

/// What is known of files beside what is sealed.
final class SealingState {
    /// How many seals of an inode are under way.
    var underWay: [UInt64: Int] = [:]
    /// What was hashed of files that had a writer, by inode.
    var hashed: [UInt64: HashedFile] = [:]
    private static let hashedMax = 32
    /// Sealed files whose content another object has, too, found while they had a backing file.
    var missedDuplicates: Set<UInt64> = []

    /// Keeps what was found of a file that cannot be sealed yet.
    func noteHashed(_ inode: Inode, _ file: HashedFile) {
        // Any other one goes: its file is then hashed again, and nothing worse.
        if hashed.count >= Self.hashedMax, let other = hashed.keys.first { hashed[other] = nil }
        hashed[inode.number] = file
    }
}

/// The DAG of a flat file as it was at a modification time.
struct HashedFile: Sendable {
    let object: UInt64
    let size: UInt64
    let modified: Timestamp
    let result: SealResult
}
