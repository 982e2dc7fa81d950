internal import RegistryNames

// The registry that a domain gives, below /domains/DOMAIN: the stock registry's own layout (`StockRegistry`) with some repositories alone:
//
// docker/registry/v2/repositories/NAME/…     links of what is here; never _uploads
// docker/registry/v2/blobs/…                 the bytes that they reach
//
// Validity: nothing else stands there.

extension WantedTree {
    /// The registry of a domain.
    package static func ofDomain(
        _ repositories: [RepositoryContents], in registry: StockRegistry
    ) throws(LayoutError) -> WantedTree {
        let tree = WantedTree()
        let base = ["docker", "registry", "v2"]
        func put(blob digest: RegistryDigest) throws(LayoutError) {
            let hex = digest.hexText
            try tree.put(
                .blob(digest),
                at: base + ["blobs", digest.algorithm, String(hex.prefix(2)), hex, "data"])
        }
        for repository in repositories {
            let root =
                base + ["repositories"] + repository.name.split(separator: "/").map(String.init)
            func link(_ digest: RegistryDigest, _ path: [String]) throws(LayoutError) {
                try tree.put(.text(Array(digest.text.utf8)), at: root + path + ["link"])
            }
            for digest in repository.manifests.keys {
                try put(blob: digest)
                try link(digest, ["_manifests", "revisions", digest.algorithm, digest.hexText])
            }
            for digest in repository.blobs {
                try put(blob: digest)
                try link(digest, ["_layers", digest.algorithm, digest.hexText])
            }
            for (tag, digest) in repository.tags {
                try link(digest, ["_manifests", "tags", tag, "current"])
                // The registry deletes a tag by what it ever stood for.
                for old in try registry.history(ofTag: tag, in: repository.name) + [digest]
                where repository.manifests[old] != nil {
                    try link(
                        old, ["_manifests", "tags", tag, "index", old.algorithm, old.hexText])
                }
            }
        }
        return tree
    }

    /// When a path of such a tree is made.
    package static func rankInDomain(_ path: [String]) -> MakingRank {
        if path.dropFirst(3).first == "blobs" { return .blobs }
        guard let part = path.firstIndex(of: "_manifests") else { return .manifests }
        return path.dropFirst(part + 1).first == "tags" ? .tags : .manifests
    }
}
