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
//
// And where a registry that is only files has it (`registryfs export-static`), below `v2`:
//
// NAME/manifests/TAG, NAME/manifests/sha256:HEX              one file
// NAME/blobs/sha256:HEX
//
// Validity: a tag stands for the digest of its own bytes, which has to be a name beside it. A component of NAME but the first is none of
//           `RegistryFiles.words`. The lists that such a tree has beside these are not read: names tell the same.

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
    let layout: RegistryPlace.Layout
    /// What links say, by their files' content.
    let links: Monitor<Recent<CID, RegistryDigest>>

    // MARK: Names

    /// What a tag stands for.
    func digest(
        ofTag tag: [UInt8], in repository: [[UInt8]]
    ) throws(ServeFault) -> RegistryDigest? {
        guard layout == .stock else { return try digestOfFile(tag, in: repository) }
        return try digest(
            ofLink: tags(of: repository) + [tag, Array("current".utf8), Array("link".utf8)])
    }

    /// What a link says; nil where there is none.
    private func digest(ofLink path: [[UInt8]]) throws(ServeFault) -> RegistryDigest? {
        guard let (cid, size) = try file(at: path), size <= Self.linkLengthMax else { return nil }
        if let known = links.withLock({ $0[cid] }) { return known }
        var text = try bytes(of: cid, size: size)
        while text.last == UInt8(ascii: "\n") { text.removeLast() }
        guard let digest = RegistryDigest(parsing: text) else { return nil }
        links.withLock { $0.note(cid, digest) }
        return digest
    }

    private func digestOfFile(
        _ tag: [UInt8], in repository: [[UInt8]]
    ) throws(ServeFault) -> RegistryDigest? {
        guard let (cid, size) = try file(at: tags(of: repository) + [tag]) else { return nil }
        if cid.codec == .raw, let digest = RegistryDigest(cid.multihash) { return digest }
        if let known = links.withLock({ $0[cid] }) { return known }
        guard size <= ManifestStore.sizeMax else {
            throw .tooLarge(reason: "a manifest of \(size) bytes")
        }
        let digest = RegistryDigest(.sha256(of: try bytes(of: cid, size: size)))
        if let digest { links.withLock { $0.note(cid, digest) } }
        return digest
    }

    /// Whether a tag is one: its directory comes before its link, and may stay behind.
    func hasTag(_ tag: [UInt8], in repository: [[UInt8]]) throws(ServeFault) -> Bool {
        let path = tags(of: repository) + [tag]
        let link = layout == .stock ? [Array("current".utf8), Array("link".utf8)] : []
        return try file(at: path + link) != nil
    }

    /// Whether a repository has a manifest.
    func hasManifest(
        _ digest: RegistryDigest, in repository: [[UInt8]]
    ) throws(ServeFault) -> Bool {
        guard layout == .stock else {
            return try file(at: files("manifests", digest, of: repository)) != nil
        }
        let path = revisions(of: repository, algorithm: digest.algorithm)
        return try file(at: path + [digest.hex, Array("link".utf8)]) != nil
    }

    /// Whether a repository has a blob.
    func hasBlob(_ digest: RegistryDigest, in repository: [[UInt8]]) throws(ServeFault) -> Bool {
        guard layout == .stock else {
            return try file(at: files("blobs", digest, of: repository)) != nil
        }
        return try file(at: blobLink(digest, of: repository)) != nil
    }

    private func blobLink(_ digest: RegistryDigest, of repository: [[UInt8]]) -> [[UInt8]] {
        self.repository(repository) + ["_layers", digest.algorithm].map { Array($0.utf8) }
            + [digest.hex, Array("link".utf8)]
    }

    /// Where the bytes of a digest are; whether somebody may have them is not asked.
    func bytesOf(
        _ digest: RegistryDigest, in repository: [[UInt8]]
    ) throws(ServeFault) -> (cid: CID, size: UInt64)? {
        guard layout == .stock else {
            for name in ["manifests", "blobs"] {
                if let found = try file(at: files(name, digest, of: repository)) { return found }
            }
            return nil
        }
        let own = try file(at: data(of: digest))
        // A blob that was pushed by another digest the stock registry keeps by its SHA-256, which the link says.
        guard own == nil, digest.algorithm != "sha256",
            let kept = try self.digest(ofLink: blobLink(digest, of: repository)), kept != digest
        else { return own }
        return try file(at: data(of: kept))
    }

    private func data(of digest: RegistryDigest) -> [[UInt8]] {
        let hex = digest.hex
        let path = [Array("blobs".utf8), Array(digest.algorithm.utf8)]
        return base + path + [Array(hex[..<2]), hex, Array("data".utf8)]
    }

    /// Whether there is a registry at all.
    func isThere() throws(ServeFault) -> Bool {
        guard layout == .stock else {
            return try file(at: base + [Array("_catalog".utf8)]) != nil
        }
        return try found { () throws(ServeFault) in try tree.entry(at: repositories) } == .directory
    }

    /// Whether there is such a repository.
    func hasRepository(_ repository: [[UInt8]]) throws(ServeFault) -> Bool {
        for name in layout == .stock ? ["_manifests", "_layers"] : ["manifests"] {
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

    var repositories: [[UInt8]] { layout == .stock ? base + [Array("repositories".utf8)] : base }

    func repository(_ name: [[UInt8]]) -> [[UInt8]] { repositories + name }

    func tags(of repository: [[UInt8]]) -> [[UInt8]] {
        let names = layout == .stock ? ["_manifests", "tags"] : ["manifests"]
        return self.repository(repository) + names.map { Array($0.utf8) }
    }

    private func revisions(of repository: [[UInt8]], algorithm: String) -> [[UInt8]] {
        self.repository(repository)
            + ["_manifests", "revisions", algorithm].map { Array($0.utf8) }
    }

    /// The manifests that a repository has, or had; nil where there is no directory of any.
    func manifests(of repository: [[UInt8]]) throws(ServeFault) -> [RegistryDigest]? {
        guard layout == .stock else {
            return try names(at: tags(of: repository))?.compactMap {
                RegistryDigest(parsing: $0.name)
            }
        }
        var digests: [RegistryDigest]?
        for algorithm in RegistryDigest.algorithms {
            let path = revisions(of: repository, algorithm: algorithm)
            guard let names = try names(at: path) else { continue }
            digests =
                (digests ?? [])
                + names.compactMap { RegistryDigest(algorithm: algorithm.utf8, hex: $0.name) }
        }
        return digests
    }

    /// Whether a directory is one of a repository by what is in it.
    func isRepository(_ names: [ServedName]) -> Bool {
        let parts = (layout == .stock ? ["_layers", "_manifests"] : ["manifests"])
            .map { Array($0.utf8) }
        return names.contains { $0.mayBeDirectory && parts.contains($0.name) }
    }

    /// Whether a name may be a component of repositories.
    ///
    /// - Parameter isFirst: whether it is the first component.
    func isComponent(_ name: ServedName, isFirst: Bool) -> Bool {
        guard name.mayBeDirectory, RegistryGrammar.isComponent(name.name) else { return false }
        return layout == .stock || isFirst || !RegistryFiles.words.contains(name.name)
    }

    /// Whether an entry of the directory of tags may be one.
    func isTag(_ name: ServedName) -> Bool {
        (layout == .files || name.mayBeDirectory) && RegistryGrammar.isTag(name.name)
    }

    private func files(
        _ kind: String, _ digest: RegistryDigest, of repository: [[UInt8]]
    ) -> [[UInt8]] {
        self.repository(repository) + [Array(kind.utf8), Array(digest.text.utf8)]
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

/// Where a registry is in a tree, and how it is laid out there.
struct RegistryPlace: Hashable, Sendable {
    enum Layout: Sendable {
        /// As the stock registry's filesystem driver has it.
        case stock
        /// As requests have it.
        case files
    }

    var base: [[UInt8]]
    var layout: Layout
}

/// What a registry that is only files has beside its repositories.
package enum RegistryFiles {
    /// Components that a name cannot have but as its first.
    package static let words = ["manifests", "blobs", "tags", "referrers"].map { Array($0.utf8) }
    /// The directory that has the repositories.
    package static let directory = [Array("v2".utf8)]
}

/// Finds the directories of registries in trees, and remembers where they were.
final class RegistryTrees: Sendable {
    /// Of how many roots is known where the registry lies.
    private static let rootsMax = 256
    /// Of how many links is known what they say: each some 200 bytes.
    private static let linksMax = 4096

    private struct State {
        /// Of the tree as it is now.
        var place: RegistryPlace?
        var places = Recent<CID, RegistryPlace>(countMax: rootsMax)
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
        func registry(_ place: RegistryPlace) -> RegistryTree {
            RegistryTree(
                tree: tree, content: content, scope: scope, base: place.base,
                layout: place.layout, links: links)
        }
        let known = state.withLock { state in root.map { state.places[$0] } ?? state.place }
        if let known { return registry(known) }
        for place in places {
            let found = registry(place)
            guard try found.isThere() else { continue }
            state.withLock { state in
                if let root { state.places.note(root, place) } else { state.place = place }
            }
            return found
        }
        return nil
    }

    /// Looks for the registry of the tree as it is now again: somebody asked for what it does not have, and it may have moved.
    func forgetPlace() {
        state.withLock { $0.place = nil }
    }

    /// Where it is looked for: as the stock registry has it first, for a volume may have trees made of it beside.
    private var places: [RegistryPlace] {
        var places = (directory.isEmpty ? [[]] : [directory, []])
            .map { RegistryPlace(base: $0, layout: .stock) }
        for base in [directory, RegistryFiles.directory, []] {
            let place = RegistryPlace(base: base, layout: .files)
            if !places.contains(place) { places.append(place) }
        }
        return places
    }
}
