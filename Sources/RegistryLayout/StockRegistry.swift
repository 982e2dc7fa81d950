package import Base
internal import Glibc
package import RegistryNames
package import Serving

internal import struct SystemPackage.Errno

// The disk of the stock registry (its registry/storage/paths.go), below `docker/registry/v2`, as `Serving/Registry/RegistryTree` has it:
//
// repositories/NAME/_manifests/tags/TAG/{current,index/ALGORITHM/HEX}/link
// repositories/NAME/_manifests/revisions/ALGORITHM/HEX/link
// repositories/NAME/_layers/ALGORITHM/HEX/link
// blobs/ALGORITHM/HEX[0:2]/HEX/data
//
// Validity: a link is the text of a digest, `linkLengthMax` bytes; what a repository has no link to is not in it, although `blobs` may
//           have it: it is another repository's. Whoever may push has chosen all of it, so nothing is followed by a symlink, manifests
//           are `ManifestStore.sizeMax` bytes at most, and their bytes have to have their digests.
// Bounds:   `namesMax` names of one directory, `repositoriesMax` repositories, names as long as the registry has them.

/// What is known of a manifest for good: its digest says what its bytes are.
package struct ManifestFacts: Sendable {
    package var size: UInt64
    package var mediaType: String
    package var references: ManifestReferences
    /// What it refers to, and how it stands in the list of that one's referrers.
    package var subject: RegistryDigest?
    package var referrer: Referrer?
}

/// What manifests are, remembered by whoever looks again. For one thread.
package final class KnownManifests {
    /// Of how many manifests is remembered what they are: each some kilobytes.
    static let countMax = 200_000

    fileprivate var facts: [RegistryDigest: ManifestFacts] = [:]

    package init() {}
}

/// A stock registry's directory. Blocks; for one thread.
package final class StockRegistry {
    static let linkLengthMax = 256
    static let namesMax = 1_000_000
    package static let repositoriesMax = 100_000

    private let base: OwnedDescriptor
    private let known: KnownManifests

    /// - Parameters:
    ///   - base: the directory that has `repositories` and `blobs`.
    ///   - known: what was read before.
    package init(base: consuming OwnedDescriptor, known: KnownManifests = KnownManifests()) {
        self.base = base
        self.known = known
    }

    // MARK: Repositories

    /// The repositories that one of the patterns names, sorted.
    ///
    /// - Throws: where a pattern names none, or there are too many.
    package func repositories(
        matching patterns: [RepositoryPattern]
    ) throws(LayoutError) -> [String] {
        if known.facts.count > KnownManifests.countMax { known.facts = [:] }
        let isWalked = patterns.contains { $0.exactName == nil }
        let all = isWalked ? try walk() : []
        var found: Set<String> = []
        for pattern in patterns {
            if let name = pattern.exactName {
                if try isRepository(name) { found.insert(name) }
            } else {
                found.formUnion(all.filter { pattern.matches(name: $0) })
            }
        }
        guard found.count <= Self.repositoriesMax else {
            throw LayoutError("more than \(Self.repositoriesMax) repositories: name fewer")
        }
        return found.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    private func isRepository(_ name: String) throws(LayoutError) -> Bool {
        try directories(of: "repositories/\(name)")?.contains("_manifests") ?? false
    }

    private func walk() throws(LayoutError) -> [String] {
        var found: [String] = []
        var pending = [""]
        while let prefix = pending.popLast() {
            let path = prefix.isEmpty ? "repositories" : "repositories/\(prefix)"
            guard let names = try directories(of: path) else { continue }
            if !prefix.isEmpty, names.contains("_manifests") { found.append(prefix) }
            for name in names where RegistryGrammar.isComponent(Array(name.utf8)) {
                let whole = prefix.isEmpty ? name : "\(prefix)/\(name)"
                guard whole.utf8.count <= RegistryGrammar.nameLengthMax else { continue }
                pending.append(whole)
            }
            guard found.count <= Self.repositoriesMax, pending.count <= Self.namesMax else {
                throw LayoutError(
                    "more than \(Self.repositoriesMax) repositories, or too many directories of them"
                )
            }
        }
        return found
    }

    // MARK: What a repository has

    /// The tags of a repository, and what each stands for; sorted. Without those that are none, or lead to no digest.
    ///
    /// - Parameter isWanted: which ones are looked at.
    func tags(
        of repository: String, _ isWanted: (String) -> Bool
    ) throws(LayoutError) -> [(tag: String, digest: RegistryDigest)] {
        let path = "repositories/\(repository)/_manifests/tags"
        var tags: [(tag: String, digest: RegistryDigest)] = []
        for name in try directories(of: path) ?? []
        where RegistryGrammar.isTag(Array(name.utf8)) && isWanted(name) {
            guard let digest = try link("\(path)/\(name)/current/link") else { continue }
            tags.append((name, digest))
        }
        return tags.sorted { $0.tag.utf8.lexicographicallyPrecedes($1.tag.utf8) }
    }

    /// What a tag stands for, and stood for.
    func history(
        ofTag tag: String, in repository: String
    ) throws(LayoutError) -> [RegistryDigest] {
        try digests(
            "repositories/\(repository)/_manifests/tags/\(tag)/index", isLinked: { _ in true })
    }

    /// The manifests that a repository has, or had: the directory of one that was deleted stays, and its link goes.
    func revisions(of repository: String) throws(LayoutError) -> [RegistryDigest] {
        try digests("repositories/\(repository)/_manifests/revisions", isLinked: { _ in true })
    }

    func hasRevision(_ digest: RegistryDigest, in repository: String) throws(LayoutError) -> Bool {
        try isLinked("repositories/\(repository)/_manifests/revisions", digest)
    }

    /// Whether a repository has a blob.
    func hasLayer(_ digest: RegistryDigest, in repository: String) throws(LayoutError) -> Bool {
        try isLinked("repositories/\(repository)/_layers", digest)
    }

    private func isLinked(
        _ path: String, _ digest: RegistryDigest
    ) throws(LayoutError) -> Bool {
        let file = "\(path)/\(digest.algorithm)/\(digest.hexText)/link"
        return try open(file, flags: Sys.pathOnly).map { (file) throws(LayoutError) in
            try Self.identity(of: file.descriptor, "a link").kind == .regular
        } ?? false
    }

    private func digests(
        _ path: String, isLinked: (RegistryDigest) -> Bool
    ) throws(LayoutError) -> [RegistryDigest] {
        var digests: [RegistryDigest] = []
        for algorithm in RegistryDigest.algorithms {
            for name in try directories(of: "\(path)/\(algorithm)") ?? [] {
                guard let digest = RegistryDigest(algorithm: algorithm.utf8, hex: name.utf8),
                    isLinked(digest)
                else { continue }
                digests.append(digest)
            }
        }
        return digests.sorted { $0.text < $1.text }
    }

    // MARK: Bytes

    /// The file with the bytes of a digest; whether somebody may have them is not asked. Nil where they are not here.
    func bytes(
        of digest: RegistryDigest, flags: Int32 = Sys.pathOnly
    ) throws(LayoutError) -> OpenBlob? {
        let hex = digest.hexText
        let path = "blobs/\(digest.algorithm)/\(hex.prefix(2))/\(hex)/data"
        guard let file = try open(path, flags: flags) else { return nil }
        let identity = try Self.identity(of: file.descriptor, digest.text)
        guard identity.kind == .regular else { return nil }
        return OpenBlob(file, identity)
    }

    /// What a manifest is; nil where its bytes are not here.
    ///
    /// - Throws: where it has other bytes than its digest's, or too many.
    func manifest(_ digest: RegistryDigest) throws(LayoutError) -> ManifestFacts? {
        if let facts = known.facts[digest] { return facts }
        guard let blob = try bytes(of: digest, flags: O_RDONLY | O_NONBLOCK) else { return nil }
        let size = blob.identity.size
        guard size <= ManifestStore.sizeMax else {
            throw LayoutError("\(digest.text) has \(size) bytes, more than a manifest may have")
        }
        let bytes = try blob.read(digest.text)
        guard digest.matches(bytes) else {
            throw LayoutError("\(digest.text) has other bytes than its digest's")
        }
        let referrer = Referrer.of(bytes, digest: digest)
        let found = ManifestFacts(
            size: size, mediaType: ManifestType.of(ManifestFields(bytes)),
            references: ManifestReferences(bytes), subject: referrer?.subject,
            referrer: referrer?.referrer)
        known.facts[digest] = found
        return found
    }

    // MARK: Files

    private func link(_ path: String) throws(LayoutError) -> RegistryDigest? {
        guard let file = try open(path, flags: O_RDONLY | O_NONBLOCK) else { return nil }
        let identity = try Self.identity(of: file.descriptor, path)
        guard identity.kind == .regular, identity.size <= UInt64(Self.linkLengthMax) else {
            return nil
        }
        var text = try OpenBlob(file, identity).read(path)
        while text.last == UInt8(ascii: "\n") { text.removeLast() }
        return RegistryDigest(parsing: text)
    }

    /// The names of directories in a directory; nil where there is none.
    private func directories(of path: String) throws(LayoutError) -> [String]? {
        guard let directory = try open(path, flags: O_RDONLY | O_DIRECTORY) else { return nil }
        do throws(Errno) {
            return try Sys.entries(in: directory.descriptor.raw, countMax: Self.namesMax)
                .compactMap { entry in
                    guard entry.kind == .directory || entry.kind == nil else { return nil }
                    return String(validating: entry.name, as: UTF8.self)
                }
        } catch {
            throw LayoutError("cannot list \(path)", error)
        }
    }

    private func open(_ path: String, flags: Int32) throws(LayoutError) -> OpenFile? {
        do throws(Errno) {
            return OpenFile(try Sys.open(beneath: base.raw, path, flags: flags))
        } catch .noSuchFileOrDirectory, .notDirectory, .tooManySymbolicLinkLevels {
            return nil
        } catch {
            throw LayoutError("cannot open \(path) of the registry", error)
        }
    }

    private static func identity(
        of file: borrowing OwnedDescriptor, _ what: String
    ) throws(LayoutError) -> FileIdentity {
        do throws(Errno) {
            return try Sys.identity(of: file.raw)
        } catch {
            throw LayoutError("cannot look at \(what)", error)
        }
    }
}

/// An open file that can be handed around.
final class OpenFile {
    let descriptor: OwnedDescriptor

    init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
}

/// The open file of a blob.
struct OpenBlob {
    let file: OpenFile
    let identity: FileIdentity

    init(_ file: OpenFile, _ identity: FileIdentity) {
        self.file = file
        self.identity = identity
    }

    var descriptor: Int32 { file.descriptor.raw }

    /// All bytes of a file that memory has room for.
    func read(_ what: String) throws(LayoutError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Int(identity.size))
        let count: Int
        do throws(Errno) {
            count = try bytes.withMutableBytes { (buffer) throws(Errno) in
                try Sys.read(descriptor, at: 0, into: buffer)
            }
        } catch {
            throw LayoutError("cannot read \(what)", error)
        }
        bytes.removeLast(bytes.count - count)
        return bytes
    }
}

extension RegistryDigest {
    var hexText: String { String(decoding: hex, as: UTF8.self) }
}
