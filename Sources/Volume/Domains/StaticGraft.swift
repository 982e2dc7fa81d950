internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats
internal import Remotes

internal import struct SystemPackage.Errno

// A registry that is only files has neither links nor shards: what the stock registry would have made of it is made here
// (`StaticLayout`), and nobody else has the blocks of that. So it is loaded as a whole: it is links alone.

/// What the repositories of a registry that is only files become under one name.
struct StaticGraft: Sendable {
    let directory: Volume.ExpandedEntry
    /// All blocks below it.
    let blocks: [CID: [UInt8]]
    /// By SHA-256 in hexadecimal digits.
    let blobs: [String: StaticRepository.Blob]

    /// Repositories that are translated for one name.
    static let repositoriesMax = 4_096
    /// Bytes of the blocks that are made for one name.
    static let blockBytesMax = 64 << 20
}

/// Blocks that were made here, while they are loaded.
struct MadeBlocks: RemoteBlocks {
    private let blocks: [CID: [UInt8]]

    init(_ blocks: [CID: [UInt8]], base: [CID: [UInt8]] = [:]) {
        self.blocks = blocks.merging(base) { own, _ in own }
    }

    var isEmpty: Bool { blocks.isEmpty }
    var address: String { "this volume" }

    func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
        guard let block = blocks[request.cid] else {
            throw RemoteError(.notFound, "block \(request.cid) was not made here")
        }
        return block
    }
}

/// Names of repositories below one, each with what it was translated to.
private struct RepositoryTree {
    var children: [[UInt8]: RepositoryTree] = [:]
    var own: StaticRepository?

    mutating func add(_ repository: StaticRepository, at path: ArraySlice<[UInt8]>) {
        guard let name = path.first else {
            own = repository
            return
        }
        children[name, default: RepositoryTree()].add(repository, at: path.dropFirst())
    }

    /// Makes the directories above the repositories.
    func build(
        _ profile: ImportProfile, _ blocks: inout [CID: [UInt8]]
    ) throws(DAGReadError) -> (cid: CID, treeSize: UInt64) {
        if children.isEmpty, let own { return (own.root, own.treeSize) }
        var builder = DirectoryBuilder(profile: profile)
        if let own {
            let entries = try DirectoryReader(root: own.root, source: Made(blocks: blocks))
                .entries()
            for entry in entries where children[entry.name] == nil {
                builder.add(name: entry.name, cid: entry.cid, treeSize: entry.treeSize)
            }
        }
        for (name, child) in children {
            let (cid, treeSize) = try child.build(profile, &blocks)
            builder.add(name: name, cid: cid, treeSize: treeSize)
        }
        do {
            var made: [CID: [UInt8]] = [:]
            let root = try builder.finish { cid, block in made[cid] = block }
            blocks.merge(made) { old, _ in old }
            return (root.cid, root.treeSize)
        } catch {
            let origin = own?.root ?? CID.raw(sha256: [])
            throw .unavailable(BlockUnavailable(origin, cause: error))
        }
    }

    private struct Made: BlockSource {
        let blocks: [CID: [UInt8]]

        func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
            guard let block = blocks[cid] else { throw BlockUnavailable(cid) }
            return block
        }
    }
}

extension Volume {
    /// What the repositories below a name of a static registry become, or where there are none all that it has. Blocks for
    /// the network.
    private func staticGraft(
        _ name: String, in v2: CID, _ source: GraftBlocks
    ) throws(GraftFailure) -> StaticGraft? {
        let layout = StaticLayout(source: source, profile: profile)
        do throws(DAGReadError) {
            let found = try layout.repositories(in: v2)
            let first = Array(name.utf8)
            let own = found.names.filter { $0.first == first }
            // A domain whose registry has names of its own: they are below the domain here.
            let names = own.isEmpty && name.contains(".") ? found.names : own
            guard !names.isEmpty else { return nil }
            guard names.count <= StaticGraft.repositoriesMax else {
                throw DAGReadError.tooMany(limit: StaticGraft.repositoriesMax)
            }
            var tree = RepositoryTree()
            var blocks: [CID: [UInt8]] = [:]
            var blobs: [String: StaticRepository.Blob] = [:]
            var bytes = 0
            for repository in names {
                let made = try layout.translate(repository: repository, in: v2)
                bytes += made.blocks.values.reduce(0) { $0 + $1.count }
                guard bytes <= StaticGraft.blockBytesMax else {
                    throw DAGReadError.tooMany(limit: StaticGraft.blockBytesMax)
                }
                blocks.merge(made.blocks) { old, _ in old }
                blobs.merge(made.blobs) { old, _ in old }
                tree.add(made, at: own.isEmpty ? repository[...] : repository.dropFirst())
            }
            let (cid, treeSize) = try tree.build(profile, &blocks)
            domains.note(blobs, of: name, in: v2)
            return StaticGraft(
                directory: ExpandedEntry(
                    name: FileName(name), cid: cid, treeSize: treeSize,
                    entry: .directory(isSharded: false, metadata: .none)),
                blocks: blocks, blobs: blobs)
        } catch {
            throw source.failure(error, "the static registry \(v2)")
        }
    }

    func staticDirectory(
        _ name: String, in v2: CID, _ source: GraftBlocks
    ) throws(GraftFailure) -> GraftedDirectory? {
        try staticGraft(name, in: v2, source).map {
            GraftedDirectory(entry: $0.directory, blocks: $0.blocks)
        }
    }

    /// First components of the names in a static registry.
    func staticNames(in v2: CID, _ source: GraftBlocks) throws(GraftFailure) -> [String] {
        do throws(DAGReadError) {
            let found = try StaticLayout(source: source, profile: profile).repositories(in: v2)
            var names: [String] = []
            for name in found.names {
                guard let first = name.first, let text = String(validating: first, as: UTF8.self),
                    text != names.last
                else { continue }
                names.append(text)
            }
            return names
        } catch {
            throw source.failure(error, "the static registry \(v2)")
        }
    }

    /// Where a static registry has the bytes of a digest, or of some digest that begins so; nil where it has none.
    func staticBlob(
        _ digits: [UInt8], in v2: CID, of graft: StoredGraft, _ source: GraftBlocks
    ) throws(GraftFailure) -> BlobLink? {
        var blobs = domains.staticBlobs(of: graft.name, in: v2)
        if blobs == nil { blobs = try staticGraft(graft.name, in: v2, source)?.blobs }
        let text = String(decoding: digits, as: UTF8.self)
        let found =
            digits.count > 2 ? blobs?[text] : blobs?.first { $0.key.hasPrefix(text) }?.value
        guard let found else { return nil }
        var treeSize = found.size ?? 0
        if digits.count > 2, found.cid.codec == .dagPB {
            do throws(DAGReadError) {
                treeSize = Self.treeSize(of: found.cid, try source.verifiedBlock(found.cid))
            } catch {
                throw source.failure(error, "blob \(found.cid)")
            }
        }
        return BlobLink(cid: found.cid, treeSize: treeSize)
    }

    /// The blocks of the directory that a static graft was taken as, made again; none where its tree is not to be had.
    func staticBase(
        of graft: StoredGraft, _ source: GraftBlocks
    ) -> [CID: [UInt8]] {
        guard graft.layout == .files else { return [:] }
        do throws(GraftFailure) {
            let root = DomainRoot(cid: graft.root, path: graft.path)
            let tree = try GraftTree.find(root, for: graft.reference, source)
            guard tree.layout == .files else { return [:] }
            return try staticGraft(graft.name, in: tree.repositories, source)?.blocks ?? [:]
        } catch {
            log.notice(
                "graft \(graftWords(graft.name)): what its domain removed stays: \(error.words)")
            return [:]
        }
    }

    /// Loads what was made here and nobody else has.
    func loadMade(_ found: GraftedDirectory, in repositories: Inode) throws(Errno) {
        guard !found.blocks.isEmpty else { return }
        _ = try fetchTree(try child(found.entry.name, of: repositories)) { _ in true }
    }
}
