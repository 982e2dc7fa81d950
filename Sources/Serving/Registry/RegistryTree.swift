internal import Base
internal import MerkleDAG
internal import Multiformats
internal import RegistryNames

// Where the stock registry keeps what it serves (its registry/storage/paths.go), below `docker/registry/v2`:
//
// repositories/NAME/_manifests/tags/TAG/current/link         the text of a digest
// repositories/NAME/_manifests/revisions/sha256/HEX/link     a manifest that the repository has
// repositories/NAME/_layers/sha256/HEX/link                  a blob that the repository has
// blobs/sha256/HEX[0:2]/HEX/data                             the bytes, of all repositories
//
// Validity: what a repository has no link to is not in it, although `blobs` may have the bytes: they are another repository's. A
//           link may lead to bytes that are gone.

/// A registry's directory in a tree.
///
/// What is not found, or is no file or directory where one belongs, is nil. All of it blocks.
struct RegistryTree: Sendable {
    /// The longest file that is read as a link, in bytes.
    private static let linkLengthMax = 256

    let tree: any ServedTree
    let content: any ServedContent
    let scope: BlockScope
    /// The directory itself.
    let base: [[UInt8]]
    /// What links say, by their files' content.
    let links: Monitor<Recent<CID, RegistryDigest>>

    // MARK: Names

    /// What a tag stands for.
    func digest(
        ofTag tag: [UInt8], in repository: [[UInt8]]
    ) throws(ServeFault) -> RegistryDigest? {
        let path = tags(of: repository) + [tag, Array("current".utf8), Array("link".utf8)]
        guard let (cid, size) = try file(at: path), size <= Self.linkLengthMax else { return nil }
        if let known = links.withLock({ $0[cid] }) { return known }
        var text = try bytes(of: cid, size: size)
        while text.last == UInt8(ascii: "\n") { text.removeLast() }
        guard let digest = RegistryDigest(parsing: text) else { return nil }
        links.withLock { $0.note(cid, digest) }
        return digest
    }

    /// Whether a tag is one: its directory comes before its link, and may stay behind.
    func hasTag(_ tag: [UInt8], in repository: [[UInt8]]) throws(ServeFault) -> Bool {
        let path = tags(of: repository) + [tag, Array("current".utf8), Array("link".utf8)]
        return try file(at: path) != nil
    }

    /// Whether a repository has a manifest.
    func hasManifest(
        _ digest: RegistryDigest, in repository: [[UInt8]]
    ) throws(ServeFault) -> Bool {
        let path = revisions(of: repository, algorithm: digest.algorithm)
        return try file(at: path + [digest.hex, Array("link".utf8)]) != nil
    }

    /// Whether a repository has a blob.
    func hasBlob(_ digest: RegistryDigest, in repository: [[UInt8]]) throws(ServeFault) -> Bool {
        let path =
            self.repository(repository) + ["_layers", digest.algorithm].map { Array($0.utf8) }
        return try file(at: path + [digest.hex, Array("link".utf8)]) != nil
    }

    /// Where the bytes of a digest are; whether somebody may have them is not asked.
    func bytesOf(_ digest: RegistryDigest) throws(ServeFault) -> (cid: CID, size: UInt64)? {
        let hex = digest.hex
        let path = [Array("blobs".utf8), Array(digest.algorithm.utf8)]
        return try file(at: base + path + [Array(hex[..<2]), hex, Array("data".utf8)])
    }

    /// Whether there is a registry at all.
    func isThere() throws(ServeFault) -> Bool {
        try found { () throws(ServeFault) in try tree.entry(at: repositories) } == .directory
    }

    /// Whether there is such a repository.
    func hasRepository(_ repository: [[UInt8]]) throws(ServeFault) -> Bool {
        for name in ["_manifests", "_layers"] {
            let path = self.repository(repository) + [Array(name.utf8)]
            if try found({ () throws(ServeFault) in try tree.entry(at: path) }) == .directory {
                return true
            }
        }
        return false
    }

    /// The names of a directory that may be of interest to somebody, in bytewise order; nil where there is none.
    func names(at path: [[UInt8]]) throws(ServeFault) -> [ServedName]? {
        try found { () throws(ServeFault) in try tree.names(at: path) }
    }

    var repositories: [[UInt8]] { base + [Array("repositories".utf8)] }

    func repository(_ name: [[UInt8]]) -> [[UInt8]] { repositories + name }

    func tags(of repository: [[UInt8]]) -> [[UInt8]] {
        self.repository(repository) + [Array("_manifests".utf8), Array("tags".utf8)]
    }

    func revisions(of repository: [[UInt8]], algorithm: String) -> [[UInt8]] {
        self.repository(repository)
            + ["_manifests", "revisions", algorithm].map { Array($0.utf8) }
    }

    // MARK: Bytes

    /// All bytes of a file.
    ///
    /// - Precondition: the size is one that memory has room for.
    func bytes(of cid: CID, size: UInt64) throws(ServeFault) -> [UInt8] {
        if let whole = try content.wholeFile(cid, scope: scope) {
            guard whole.count == size else { throw .damaged(cid) }
            return try whole.read()
        }
        let bytes = try ServedBlocks.reading { (faults) throws(DAGReadError) in
            let blocks = ServedBlocks(content, scope: scope, reach: .everywhere, faults: faults)
            var reader = try FileReader(root: cid, source: blocks)
            var bytes: [UInt8] = []
            // The size is asked of the root's block once more: it is what somebody else wrote.
            guard reader.size == size else { return bytes }
            bytes.reserveCapacity(Int(size))
            while let leaf = try reader.leaf(at: UInt64(bytes.count)), !leaf.fileRange.isEmpty {
                bytes += leaf.block[leaf.contentRange]
            }
            return bytes
        }
        guard bytes.count == size else { throw .damaged(cid) }
        return bytes
    }

    private func file(at path: [[UInt8]]) throws(ServeFault) -> (cid: CID, size: UInt64)? {
        guard
            case .file(let cid, let size) = try found({ () throws(ServeFault) in
                try tree.entry(at: path)
            })
        else { return nil }
        return (cid, size)
    }

    /// Makes nil of what is not there, and of what is no UnixFS: whoever made the tree may have put anything at a name.
    private func found<Result>(
        _ look: () throws(ServeFault) -> Result?
    ) throws(ServeFault) -> Result? {
        do throws(ServeFault) {
            return try look()
        } catch .notFound {
            return nil
        } catch .unsuitable {
            return nil
        } catch {
            throw error
        }
    }
}

/// Finds the directories of registries in trees, and remembers where they were.
final class RegistryTrees: Sendable {
    /// Of how many roots is known where the registry lies.
    private static let rootsMax = 256
    /// Of how many links is known what they say: each some 200 bytes.
    private static let linksMax = 4096

    private struct State {
        /// Of the tree as it is now.
        var base: [[UInt8]]?
        var bases = Recent<CID, [[UInt8]]>(countMax: rootsMax)
    }

    private let content: any ServedContent
    private let scope: BlockScope
    private let directory: [[UInt8]]
    private let state = Monitor(State())
    private let links = Monitor(Recent<CID, RegistryDigest>(countMax: linksMax))

    init(content: any ServedContent, scope: BlockScope, directory: [[UInt8]]) {
        self.content = content
        self.scope = scope
        self.directory = directory
    }

    /// The registry in a tree; nil where there is none.
    ///
    /// - Parameter root: nil for the tree as it is now.
    func registry(root: CID?) throws(ServeFault) -> RegistryTree? {
        let tree: any ServedTree =
            root.map { DAGTree(root: $0, in: content, scope: scope) } ?? content.tree
        func registry(_ base: [[UInt8]]) -> RegistryTree {
            RegistryTree(tree: tree, content: content, scope: scope, base: base, links: links)
        }
        let known = state.withLock { state in root.map { state.bases[$0] } ?? state.base }
        if let known { return registry(known) }
        for base in directory.isEmpty ? [[]] : [directory, []] {
            let found = registry(base)
            guard try found.isThere() else { continue }
            state.withLock { state in
                if let root { state.bases.note(root, base) } else { state.base = base }
            }
            return found
        }
        return nil
    }

    /// Looks for the registry of the tree as it is now again: somebody asked for what it does not have, and it may have moved.
    func forgetBase() {
        state.withLock { $0.base = nil }
    }
}
