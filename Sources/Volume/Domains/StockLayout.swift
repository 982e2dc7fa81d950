internal import MerkleDAG
internal import Multiformats
internal import RegistryNames

/// Makes a directory of the stock registry for one repository, and keeps its blocks.
struct StockLayout {
    private typealias Entry = (name: [UInt8], root: DAGRoot)

    private let profile: ImportProfile
    private let bytesMax: Int
    /// Is named in errors.
    private let origin: CID
    private var blocks: [CID: [UInt8]] = [:]
    private var bytes = 0
    /// Directories that hold the link of a digest and nothing else.
    private var links: [RegistryDigest: DAGRoot] = [:]
    /// Directories of tags, which depend on nothing but the digest.
    private var tags: [RegistryDigest: DAGRoot] = [:]

    private init(profile: ImportProfile, bytesMax: Int, origin: CID) {
        self.profile = profile
        self.bytesMax = bytesMax
        self.origin = origin
    }

    /// - Precondition: the digest of each tag is known.
    static func make(
        of contents: StaticContents, in origin: CID, profile: ImportProfile, bytesMax: Int
    ) throws(DAGReadError) -> StaticRepository {
        var layout = StockLayout(profile: profile, bytesMax: bytesMax, origin: origin)
        var tags: [Entry] = []
        for tag in contents.tags {
            guard let digest = contents.digests[tag.manifest.cid.asV1] else {
                preconditionFailure("a tag whose digest nobody looked for")
            }
            tags.append((tag.name, try layout.tag(digest)))
        }
        let revisions = try layout.linked(contents.manifests.keys)
        let manifests = try layout.directory([
            (name("revisions"), revisions), (name("tags"), try layout.directory(tags)),
        ])
        let layers = try layout.linked(contents.blobs.keys)
        let root = try layout.directory([
            (name("_layers"), layers), (name("_manifests"), manifests),
        ])
        var blobs: [String: StaticRepository.Blob] = [:]
        for (digest, blob) in contents.blobs.merging(contents.manifests, uniquingKeysWith: { $1 }) {
            blobs[String(decoding: digest.hex, as: UTF8.self)] = blob
        }
        return StaticRepository(
            root: root.cid, treeSize: root.treeSize, blocks: layout.blocks, blobs: blobs,
            tagCount: tags.count, passedOver: contents.passedOver)
    }

    private static func name(_ text: String) -> [UInt8] { Array(text.utf8) }

    /// `sha256/HEX/link` for each digest.
    private mutating func linked(
        _ digests: some Collection<RegistryDigest>
    ) throws(DAGReadError) -> DAGRoot {
        var entries: [Entry] = []
        entries.reserveCapacity(digests.count)
        for digest in digests { entries.append((digest.hex, try link(digest))) }
        return try directory([(Self.name("sha256"), try directory(entries))])
    }

    /// `current/link` and `index/sha256/HEX/link`.
    private mutating func tag(_ digest: RegistryDigest) throws(DAGReadError) -> DAGRoot {
        if let known = tags[digest] { return known }
        let made = try directory([
            (Self.name("current"), try link(digest)),
            (Self.name("index"), try linked(CollectionOfOne(digest))),
        ])
        tags[digest] = made
        return made
    }

    /// The directory of a file `link`.
    private mutating func link(_ digest: RegistryDigest) throws(DAGReadError) -> DAGRoot {
        if let known = links[digest] { return known }
        let made = try directory([(Self.name("link"), try file(Array(digest.text.utf8)))])
        links[digest] = made
        return made
    }

    private mutating func file(_ content: [UInt8]) throws(DAGReadError) -> DAGRoot {
        var builder = BalancedDAGBuilder(profile: profile)
        for start in stride(from: 0, to: content.count, by: profile.chunkSize) {
            let chunk = Array(content[start..<min(content.count, start + profile.chunkSize)])
            let leaf = chunk.withUnsafeBytes { profile.leaf($0) }
            try keep(leaf.cid, chunk.withUnsafeBytes { profile.leafBlock($0) })
            try builder.append(leaf) { (cid, block) throws(DAGReadError) in try keep(cid, block) }
        }
        return try builder.finish { (cid, block) throws(DAGReadError) in try keep(cid, block) }
    }

    private mutating func directory(_ entries: [Entry]) throws(DAGReadError) -> DAGRoot {
        var builder = DirectoryBuilder(profile: profile, entryCountHint: entries.count)
        for entry in entries {
            builder.add(name: entry.name, cid: entry.root.cid, treeSize: entry.root.treeSize)
        }
        do throws(DirectoryBuildError<DAGReadError>) {
            return try builder.finish { (cid, block) throws(DAGReadError) in try keep(cid, block) }
        } catch {
            switch error {
            case .sink(let failure): throw failure
            case .duplicateName(let name): throw .duplicateName(origin, name)
            case .blockTooLarge(let byteCount):
                throw .malformed(origin, .blockTooLarge(byteCount: byteCount))
            case .emptyName, .namesTooLong, .hashCollision:
                throw refusal("has names that no directory can hold together")
            }
        }
    }

    private mutating func keep(_ cid: CID, _ block: [UInt8]) throws(DAGReadError) {
        guard blocks.updateValue(block, forKey: cid) == nil else { return }
        bytes += block.count
        guard bytes <= bytesMax else {
            throw refusal("takes more than \(bytesMax) bytes of directories and links")
        }
    }

    private func refusal(_ reason: String) -> DAGReadError {
        DAGReadError(origin, StaticLayoutFault(reason: "directory \(origin) \(reason)"))
    }
}
