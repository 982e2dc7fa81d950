internal import MerkleDAG
internal import Multiformats
internal import RegistryNames

/// What the directories of one repository of a static registry hold.
struct StaticContents {
    typealias Blob = StaticRepository.Blob

    /// Those with a name of their own, and, once it is known, those of tags.
    private(set) var manifests: [RegistryDigest: Blob] = [:]
    private(set) var blobs: [RegistryDigest: Blob] = [:]
    private(set) var tags: [(name: [UInt8], manifest: Blob)] = []
    /// What tags stand for, by their CID of version 1.
    private(set) var digests: [CID: RegistryDigest] = [:]
    private(set) var passedOver = 0

    init(manifests: [MerkleDAG.DirectoryEntry], blobs: [MerkleDAG.DirectoryEntry]) {
        for entry in manifests {
            if let digest = Self.digest(entry.name) {
                self.manifests[digest] = Self.blob(entry)
            } else if RegistryGrammar.isTag(entry.name) {
                tags.append((entry.name, Self.blob(entry)))
            } else {
                passedOver += 1
            }
        }
        for entry in blobs {
            if let digest = Self.digest(entry.name) {
                self.blobs[digest] = Self.blob(entry)
            } else {
                passedOver += 1
            }
        }
        // Of several digests of one CID all but one are wrong: the least, so that it is always the same.
        for (digest, blob) in self.manifests {
            let known = digests[blob.cid.asV1]
            if known.map({ digest.multihash < $0.multihash }) ?? true {
                digests[blob.cid.asV1] = digest
            }
        }
        // What the CID itself says is no matter of trust.
        for tag in tags where tag.manifest.cid.codec == .raw {
            guard tag.manifest.cid.multihash.isSHA256,
                let digest = RegistryDigest(tag.manifest.cid.multihash)
            else { continue }
            note(tag.manifest, digest)
        }
    }

    /// Reads the manifests whose digest nothing tells.
    ///
    /// - Parameter directory: is named where there are too many of them.
    mutating func readUntold<Source>(
        _ directory: CID, _ reading: StaticReading<Source>, _ bounds: StaticLayoutBounds
    ) throws(DAGReadError) {
        var seen: Set<CID> = []
        let untold = tags.map(\.manifest.cid).filter {
            digests[$0.asV1] == nil && seen.insert($0.asV1).inserted
        }
        guard untold.count <= bounds.manifestsMax else {
            throw DAGReadError(
                directory,
                StaticLayoutFault(
                    reason: "directory \(directory) has more than \(bounds.manifestsMax) tags "
                        + "without an entry of their digest"))
        }
        let sizeMax = bounds.manifestBytesMax
        let read = try sideBySide(untold, threadsMax: bounds.threadsMax) {
            (cid) throws(DAGReadError) in try reading.digest(of: cid, sizeMax: sizeMax)
        }
        for (cid, (digest, size)) in zip(untold, read) {
            note(Blob(cid: cid, size: size), digest)
        }
    }

    /// Takes what a tag stands for, which is sure: an entry of that digest is only somebody's word.
    private mutating func note(_ manifest: Blob, _ digest: RegistryDigest) {
        digests[manifest.cid.asV1] = digest
        manifests[digest] = manifest
    }

    private static func digest(_ name: [UInt8]) -> RegistryDigest? {
        RegistryDigest(parsing: name).flatMap { $0.multihash.isSHA256 ? $0 : nil }
    }

    private static func blob(_ entry: MerkleDAG.DirectoryEntry) -> Blob {
        let isTold =
            entry.cid.codec == .raw && entry.treeSize > 0
            && entry.treeSize <= UInt64(DAGNode.blockSizeMax)
        return Blob(cid: entry.cid, size: isTold ? entry.treeSize : nil)
    }
}
