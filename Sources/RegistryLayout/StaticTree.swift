internal import Multiformats
internal import RegistryNames
internal import Serving

// A registry that is only files, for any web server (OCI distribution specification 1.1, the endpoints of pulling):
//
// v2/index.html                           what /v2/ answers: `{}`
// v2/NAME/manifests/TAG                   a manifest
// v2/NAME/manifests/ALGORITHM:HEX         the same, by its digest
// v2/NAME/blobs/ALGORITHM:HEX
// v2/NAME/tags/list                       {"name":NAME,"tags":[…]}
// v2/NAME/referrers/ALGORITHM:HEX         an index of what refers to a manifest, where something does
// v2/NAME/manifests/sha256-HEX            the same, for clients that ask by a tag; the repository's own tag of that name comes first
// v2/_catalog                             {"repositories":[…]}
// v2/_404.json, _redirects                what a gateway answers that has nothing at a path
//
// Validity: no component of NAME but the first is `manifests`, `blobs`, `tags` or `referrers`, and the first is not `index.html`: a file
//           server could not tell them from these.
// Types:    JSON of manifests says its own type, and a server has to be told (docs/STATIC.md).

/// A path of a static registry whose type a server has to be told.
package struct StaticType: Sendable, Hashable {
    /// From `/v2/` on.
    package var path: String
    package var mediaType: String
    /// The text of the digest.
    package var digest: String
}

/// A static registry: its files, and what each manifest is.
package struct StaticTree {
    package let tree: WantedTree
    /// Sorted by path.
    package let types: [StaticType]
    package private(set) var tagCount = 0
    package private(set) var manifestCount = 0
    package private(set) var blobCount = 0

    /// The names at the top that are of it.
    package static let topNames = ["v2", "_redirects"]
    /// The file that is made first, and says that `v2` is of this kind.
    package static let mark = "index.html"

    package static let notFound = Array(
        #"{"errors":[{"code":"NAME_UNKNOWN","message":"not in this registry, which is only files"}]}"#
            .utf8)

    package init(_ repositories: [RepositoryContents]) throws(LayoutError) {
        let tree = WantedTree()
        var types: [StaticType] = []
        for repository in repositories {
            let root = ["v2"] + (try Self.components(of: repository.name))
            for (digest, facts) in repository.manifests {
                try tree.put(.blob(digest), at: root + ["manifests", digest.text])
                types.append(Self.type(repository, digest.text, digest, facts.mediaType))
            }
            for digest in repository.blobs {
                try tree.put(.blob(digest), at: root + ["blobs", digest.text])
            }
            for (tag, digest) in repository.tags {
                try tree.put(.blob(digest), at: root + ["manifests", tag])
                let type = repository.manifests[digest]?.mediaType ?? ManifestType.index
                types.append(Self.type(repository, tag, digest, type))
            }
            var tags = repository.tags.map(\.tag)
            try Self.putReferrers(of: repository, at: root, in: tree, &tags, &types)
            tags.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            let list = JSONText.object([
                ("name", .string(repository.name)), ("tags", .list(tags.map(JSONText.string))),
            ])
            try tree.put(.text(list.bytes), at: root + ["tags", "list"])
            tagCount += tags.count
            manifestCount += repository.manifests.count
            blobCount += repository.blobs.count
        }
        let names = repositories.map(\.name).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        let catalog = JSONText.object([("repositories", .list(names.map(JSONText.string)))])
        try tree.put(.text(Array("{}".utf8)), at: ["v2", Self.mark])
        try tree.put(.text(catalog.bytes), at: ["v2", "_catalog"])
        try tree.put(.text(Self.notFound), at: ["v2", "_404.json"])
        try tree.put(.text(Array("/v2/* /v2/_404.json 404\n".utf8)), at: ["_redirects"])
        self.tree = tree
        self.types = types.sorted { $0.path < $1.path }
    }

    private static func putReferrers(
        of repository: RepositoryContents, at root: [String], in tree: WantedTree,
        _ tags: inout [String], _ types: inout [StaticType]
    ) throws(LayoutError) {
        let own = Set(tags)
        for (subject, referrers) in repository.referrers {
            let index = JSONText.object([
                ("schemaVersion", .number(2)), ("mediaType", .string(ManifestType.index)),
                ("manifests", .list(referrers.map { .encoded($0.descriptor) })),
            ]).bytes
            // Longer than a client reads.
            guard index.count <= ManifestStore.sizeMax else { continue }
            try tree.put(.text(index), at: root + ["referrers", subject.text])
            let tag = "\(subject.algorithm)-\(subject.hexText.prefix(64))"
            guard !own.contains(tag) else { continue }
            let digest = try digest(of: index)
            let place = root + ["manifests", digest.text]
            // Somebody may have pushed the same list without a tag.
            let file = tree.file(at: place) ?? .text(index)
            if tree.file(at: place) == nil {
                try tree.put(file, at: place)
                types.append(type(repository, digest.text, digest, ManifestType.index))
            }
            try tree.put(file, at: root + ["manifests", tag])
            tags.append(tag)
            types.append(type(repository, tag, digest, ManifestType.index))
        }
    }

    private static func digest(of bytes: [UInt8]) throws(LayoutError) -> RegistryDigest {
        var hasher = SHA256Hasher()
        bytes.withUnsafeBytes { hasher.update($0) }
        let hex = hasher.finalize().withDigest { digest in
            digest.map { byte in
                let text = String(byte, radix: 16)
                return byte < 16 ? "0" + text : text
            }.joined()
        }
        guard let digest = RegistryDigest(parsing: Array("sha256:\(hex)".utf8)) else {
            throw LayoutError("a SHA-256 is no digest")
        }
        return digest
    }

    private static func type(
        _ repository: RepositoryContents, _ name: String, _ digest: RegistryDigest, _ type: String
    ) -> StaticType {
        StaticType(
            path: "/v2/\(repository.name)/manifests/\(name)", mediaType: type, digest: digest.text)
    }

    private static func components(of name: String) throws(LayoutError) -> [String] {
        let components = name.split(separator: "/").map(String.init)
        let word = components.dropFirst().first { RegistryFiles.words.contains(Array($0.utf8)) }
        if let word {
            throw LayoutError(
                "\(name) cannot be files: a file server could not tell its part '\(word)' from that of a "
                    + "registry: leave it out")
        }
        guard components.first != mark else {
            throw LayoutError(
                "\(name) cannot be files: /v2/\(mark) is what /v2/ answers: leave it out")
        }
        return components
    }

    /// When a path of such a tree is made.
    package static func rank(_ path: [String]) -> MakingRank {
        guard path.count >= 3 else { return path.last == mark ? .mark : .lists }
        switch path[path.count - 2] {
        case "blobs": return .blobs
        case "manifests": return path[path.count - 1].contains(":") ? .manifests : .tags
        default: return .lists
        }
    }
}
