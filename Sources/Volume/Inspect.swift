public import Base
internal import InodeManifest
internal import MerkleDAG
public import Multiformats

public import struct SystemPackage.Errno

/// What the manifest knows of one inode, for people.
public struct InodeReport: Sendable {
    /// One leaf of a file.
    public struct Leaf: Sendable {
        public let cid: CID
        /// Bytes from the start of the file.
        public let offset: UInt64
        /// Bytes.
        public let length: UInt64
    }

    /// Where the bytes of a file lie.
    public enum Placement: Sendable {
        /// No bytes, or none of its own.
        case none
        /// In the manifest.
        case inline
        /// In a flat file of this number.
        case object(UInt64)
        /// At the remote, and as many bytes of it here.
        case remote(cachedBytes: UInt64)
    }

    public internal(set) var attributes: Attributes
    /// What is known without computing; nil while unsealed.
    public let cid: CID?
    /// The Tsize of a link to `cid`.
    public let treeSize: UInt64?
    /// Entries of a directory; nil for all else.
    public let childCount: UInt64?
    public let placement: Placement
    /// Whether the content is immutable and its CID known.
    public let isSealed: Bool
    /// Whether the node has all blocks of it; nil where the volume has never had one.
    public let isPublished: Bool?
    /// The files that share the bytes, this one among them.
    public let sharers: UInt32
    /// The leaves in order, cut at the number that was asked for.
    public let leaves: [Leaf]
    /// All leaves.
    public let leafCount: UInt64
    /// The target of a symlink.
    public let target: [UInt8]?
}

/// Figures of a running volume.
public struct VolumeStatus: Sendable {
    public let uuid: String
    public let profileName: String
    public let files: UInt64
    public let directories: UInt64
    /// Bytes of all files as they read, each inode once.
    public let bytes: UInt64
    public let objects: UInt64
    public let inlineObjects: UInt64
    /// Objects whose bytes are at the node.
    public let remoteObjects: UInt64
    /// Bytes of all objects that are here, each once.
    public let objectBytes: UInt64
    /// Bytes that sharing identical content saved.
    public let sharedBytes: UInt64
    /// Files whose content is newer than any CID.
    public let unsealedFiles: UInt64
    public let unsealedBytes: UInt64
    /// The CID of the whole tree, where it is current.
    public let rootCID: CID?
    /// Changes that are not durable yet.
    public let uncommittedChanges: Int
    /// Why the newest commit failed; nil while all is well.
    public let commitFailure: Errno?
}

extension Volume {
    /// What is known of an inode; seals nothing. Costs a commit, and a read of the leaf index.
    ///
    /// - Parameter leafCountMax: how many leaves to list.
    public func report(
        of inode: Inode, leafCountMax: Int = 10_000
    ) throws(Errno) -> InodeReport {
        if inode.isOfView { return try view.report(of: inode, leafCountMax: leafCountMax, self) }
        try syncFromBacking(inode)
        try manifest.checkpoint()
        var (report, known) = try reading { (state) throws(Errno) in
            let record = try record(inode, state)
            var childCount: UInt64?
            if record.kind == .directory {
                var count: UInt64 = 0
                try state.forEachEntry(of: record, after: 0) { _, _ in
                    count += 1
                    return true
                }
                childCount = count
            }
            let object = try state.object(of: record)
            var cid = object?.cid ?? record.cid
            var treeSize = object?.cid != nil ? object?.treeSize : record.treeSize
            if record.kind == .regular, object == nil {
                let leaf = profile.leaf(UnsafeRawBufferPointer(start: nil, count: 0))
                (cid, treeSize) = (leaf.cid, leaf.treeSize)
            } else if record.kind == .symlink {
                // What is told can be had.
                noteSymlink(record, state)
                let root = profile.symlink(target: record.target).root
                (cid, treeSize) = (root.cid, root.treeSize)
            }
            var placement = InodeReport.Placement.none
            if let object {
                if object.state == .remote {
                    placement = .remote(
                        cachedBytes: remotes(state).files[object.id]?.presentBytes ?? 0)
                } else {
                    placement = object.isInline ? .inline : .object(object.id)
                }
            }
            var isPublished: Bool?
            if state.published != nil {
                isPublished = object.map { state.isPublished($0) } ?? state.isPublished(record)
            }
            let leafCount =
                record.kind == .regular && cid != nil ? leafCount(ofSize: record.size) : 0
            let known = knownAttributes(of: record, state)
            let report = InodeReport(
                attributes: known.attributes, cid: cid,
                treeSize: cid == nil ? nil : treeSize, childCount: childCount,
                placement: placement, isSealed: cid != nil, isPublished: isPublished,
                sharers: object?.holderCount ?? 1,
                leaves: leafCount == 0
                    ? []
                    : try leaves(
                        size: record.size, object: object, cid: cid,
                        count: min(leafCount, UInt64(leafCountMax)), state),
                leafCount: leafCount,
                target: record.kind == .symlink ? record.target : nil)
            return (report, known)
        }
        report.attributes = try attributes(known)
        return report
    }

    /// The leaves of a file, one of none among them.
    func leafCount(ofSize size: UInt64) -> UInt64 {
        // A size may come from outside, and is whatever it is: nothing is added to it.
        let (whole, rest) = size.quotientAndRemainder(dividingBy: UInt64(profile.chunkSize))
        return max(1, whole + (rest == 0 ? 0 : 1))
    }

    /// The first leaves of a file's object.
    func leaves(
        size: UInt64, object: ObjectRecord?, cid: CID?, count: UInt64, _ state: ManifestState
    ) throws(Errno) -> [InodeReport.Leaf] {
        guard let cid else { return [] }
        let chunk = UInt64(profile.chunkSize)
        guard let object, size > chunk else {
            return [InodeReport.Leaf(cid: cid, offset: 0, length: size)]
        }
        return try state.rows.leafMultihashes(of: object.id, limit: count).enumerated().compactMap {
            (index, bytes) in
            guard let cid = leafCID(bytes) else { return nil }
            let offset = UInt64(index) * chunk
            return InodeReport.Leaf(
                cid: cid, offset: offset, length: min(chunk, size - offset))
        }
    }

    /// The figures of the volume; those of a moment ago where something holds up newer ones. Reads
    /// every object's row: cheap for thousands, a moment for millions.
    public func status() throws(Errno) -> VolumeStatus {
        let changeCount = manifest.withLock { $0.changeCount }
        refreshFigures()
        return try reading { (state) throws(Errno) in
            let totals = try state.rows.totals()
            let root = try state.inode(.root)
            return VolumeStatus(
                uuid: manifest.uuid, profileName: manifest.profileName, files: totals.files,
                directories: totals.directories, bytes: totals.bytes, objects: totals.objects,
                inlineObjects: totals.inlineObjects, remoteObjects: totals.remoteObjects,
                objectBytes: totals.objectBytes,
                sharedBytes: totals.sharedBytes, unsealedFiles: totals.stagingObjects,
                unsealedBytes: totals.stagingBytes, rootCID: root?.cid,
                uncommittedChanges: changeCount, commitFailure: state.commitFailure)
        }
    }

    /// Has the rows say what is so now. Waits for a moment at most, whatever that has to wait for.
    func refreshFigures() {
        clock.figures.run { [self] in
            syncAllFromBacking(passesBusy: true)
            // A full disk is told by the figures.
            try? manifest.checkpoint()
        }
    }
}
