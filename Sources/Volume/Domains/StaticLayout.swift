package import MerkleDAG
package import Multiformats
internal import RegistryNames

// A registry that is only files, as the stock registry's filesystem driver would have written it.
//
// Read:       NAME/manifests/TAG, NAME/manifests/sha256:HEX, NAME/blobs/sha256:HEX, each a file of the bytes.
// Made:       _manifests/tags/TAG/current/link, _manifests/tags/TAG/index/sha256/HEX/link,
//             _manifests/revisions/sha256/HEX/link, _layers/sha256/HEX/link, each the text sha256:HEX without a newline.
// Validity:   NAME is a repository where it has `manifests`. A name in `manifests` or `blobs` that is neither tag nor SHA-256 is
//             passed over; one that no file can have is refused.
// Not looked at: whether the bytes of a digest have it. Whoever reads them must.
// Source:     https://github.com/opencontainers/distribution-spec/blob/main/spec.md#endpoints, and the stock registry's
//             registry/storage/paths.go

/// What it may take to read a static registry. Whoever made it decides how large it is.
package struct StaticLayoutBounds: Sendable {
    /// Entries of all directories that are read.
    package var entriesMax = 200_000
    /// Blocks that are read, each as often as it is asked for.
    package var blocksMax = 1 << 17
    /// Bytes of them.
    package var readBytesMax = 64 << 20
    /// Bytes of the blocks that are made. They are in memory, with some hundred more for each block.
    package var madeBytesMax = 64 << 20
    /// Manifests that are read because nothing else tells their digest.
    package var manifestsMax = 4_096
    /// Bytes of one of them: the bound of the stock registry.
    package var manifestBytesMax: UInt64 = 4 << 20
    /// Directories that are looked into for repositories.
    package var directoriesMax = 1 << 14
    /// Components of a repository's name.
    package var componentsMax = 32
    /// Blocks that are asked for at once.
    package var threadsMax = 8
    /// From the call on. The wait for one block is the source's.
    package var milliseconds: Int64 = 60_000

    package init() {}
}

/// A static registry is not read: a bound was reached, or it has what cannot be.
package struct StaticLayoutFault: Error {
    /// One line; names the block.
    package let reason: String
}

extension DAGReadError {
    init(_ block: CID, _ fault: StaticLayoutFault) {
        self = .unavailable(BlockUnavailable(block, cause: fault))
    }
}

/// One repository of a static registry in the stock registry's layout.
package struct StaticRepository: Sendable {
    /// The bytes of a digest.
    package struct Blob: Hashable, Sendable {
        package var cid: CID
        /// Nil where only reading it tells; of a raw leaf by the word of the link to it.
        package var size: UInt64?

        package init(cid: CID, size: UInt64?) {
            self.cid = cid
            self.size = size
        }
    }

    /// The directory that stands for `repositories/NAME`.
    package var root: CID
    /// The Tsize of a link to it.
    package var treeSize: UInt64
    /// All blocks below `root`.
    package var blocks: [CID: [UInt8]]
    /// By SHA-256 in hexadecimal digits: all manifests and blobs of the repository.
    package var blobs: [String: Blob]
    package var tagCount: Int
    /// Names that are neither a tag nor a digest.
    package var passedOver: Int
}

/// The repositories of a static registry.
package struct StaticRepositories: Sendable {
    /// The components of each name, in bytewise order of the components.
    package var names: [[[UInt8]]]
    /// False where there are more than the bounds allow, or deeper ones.
    package var isComplete: Bool
}

/// Reads a registry that is only files, one repository at a time.
///
/// The same tree gives the same blocks. Blocks the calling thread for as long as the source does, and asks the source on several
/// threads.
package struct StaticLayout<Source: BlockSource & Sendable>: Sendable {
    private let source: Source
    private let profile: ImportProfile
    private let bounds: StaticLayoutBounds

    /// - Parameter profile: by which the directories and links are made.
    package init(
        source: Source, profile: ImportProfile, bounds: StaticLayoutBounds = StaticLayoutBounds()
    ) {
        self.source = source
        self.profile = profile
        self.bounds = bounds
    }

    /// Makes of one repository what the stock registry would have of it.
    ///
    /// Reads its directories `manifests` and `blobs`, and a manifest only where its digest is told neither by an entry of the same CID nor
    /// by the CID itself.
    ///
    /// - Parameters:
    ///   - repository: the components of its name.
    ///   - v2: the directory that all repositories are in.
    /// - Throws: `noSuchEntry` where there is no such repository; `unavailable`, with the reason as its cause, where a bound is
    ///   reached, or a name is one that no file can have.
    package func translate(
        repository: [[UInt8]], in v2: CID
    ) throws(DAGReadError) -> StaticRepository {
        guard RegistryGrammar.isName(repository), repository.count <= bounds.componentsMax else {
            throw .noSuchEntry(v2, name: Array(repository.joined(separator: [UInt8(ascii: "/")])))
        }
        let reading = StaticReading(source, bounds)
        let directory = try reading.resolve(repository, from: v2)
        let top = try DirectoryReader(root: directory, source: reading)
        guard let manifests = try top.entry(StaticNames.manifests) else {
            throw .noSuchEntry(directory, name: StaticNames.manifests)
        }
        let lists = [manifests] + (try top.entry(StaticNames.blobs).map { [$0] } ?? [])
        let entries = try sideBySide(lists.map(\.cid), threadsMax: bounds.threadsMax) {
            (cid) throws(DAGReadError) in try reading.entries(of: cid)
        }
        var contents = StaticContents(manifests: entries[0], blobs: entries.dropFirst().first ?? [])
        try contents.readUntold(manifests.cid, reading, bounds)
        return try StockLayout.make(
            of: contents, in: directory, profile: profile, bytesMax: bounds.madeBytesMax)
    }

    /// Lists the repositories of a static registry. Reads each directory that may lead to one, but not what is in repositories.
    ///
    /// What is below a directory that cannot be read for its content is left out.
    package func repositories(in v2: CID) throws(DAGReadError) -> StaticRepositories {
        let reading = StaticReading(source, bounds)
        var found = StaticRepositories(names: [], isComplete: true)
        var level: [(name: [[UInt8]], cid: CID)] = [([], v2)]
        var directories = 0
        while !level.isEmpty {
            if directories + level.count > bounds.directoriesMax {
                level.removeSubrange((bounds.directoriesMax - directories)...)
                found.isComplete = false
            }
            directories += level.count
            let isTop = level.first?.name.isEmpty ?? false
            let read = try sideBySide(level.map(\.cid), threadsMax: bounds.threadsMax) {
                (cid) throws(DAGReadError) -> [MerkleDAG.DirectoryEntry]? in
                do throws(DAGReadError) {
                    return try reading.entries(of: cid, refusesNames: false)
                } catch {
                    guard error.isOfContent, !isTop else { throw error }
                    return nil
                }
            }
            var next: [(name: [[UInt8]], cid: CID)] = []
            for (place, entries) in zip(level, read) {
                guard let entries else { continue }
                let isRepository = !isTop && entries.contains { $0.name == StaticNames.manifests }
                if isRepository { found.names.append(place.name) }
                let inner = entries.filter { entry in
                    entry.cid.codec != .raw && RegistryGrammar.isComponent(entry.name)
                        && !(isRepository && StaticNames.all.contains(entry.name))
                }
                let names = inner.map { (name: place.name + [$0.name], cid: $0.cid) }
                    .filter { RegistryGrammar.isName($0.name) }
                    .sorted { $0.name.lexicographicallyPrecedes($1.name, by: precedes) }
                guard place.name.count < bounds.componentsMax else {
                    found.isComplete = found.isComplete && names.isEmpty
                    continue
                }
                next += names
            }
            level = next
        }
        found.names.sort { $0.lexicographicallyPrecedes($1, by: precedes) }
        return found
    }
}

private func precedes(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    left.lexicographicallyPrecedes(right)
}

/// What a repository's directory has beside the repositories below it.
enum StaticNames {
    static let manifests = Array("manifests".utf8)
    static let blobs = Array("blobs".utf8)
    static let all = [manifests, blobs] + ["tags", "referrers"].map { Array($0.utf8) }
}
