internal import Base
package import RegistryNames
internal import Serving

// What is to be made of a repository: tags, and what they reach.
//
// Reached:   a manifest of a tag that is wanted; what an index of these lists; what refers to one of these, by its `subject` or by a tag
//            that is made of the digest (`sha256-HEX` of OCI's fall-back, `sha256-HEX.sig`, `.att`, `.sbom` of cosign); and so on. Of blobs:
//            what a reached manifest names.
// Validity:  only what the repository itself has links to. What is reached and not here is told, and left out.

/// What one repository gives.
package struct RepositoryContents: Sendable {
    package let name: String
    package fileprivate(set) var tags: [(tag: String, digest: RegistryDigest)] = []
    package fileprivate(set) var manifests: [RegistryDigest: ManifestFacts] = [:]
    package fileprivate(set) var blobs: Set<RegistryDigest> = []
    /// What is not here, or not as it should be: a line each, `faultsMax` at most.
    package fileprivate(set) var faults: [String] = []

    static let faultsMax = 20

    fileprivate init(_ name: String) { self.name = name }

    /// What refers to a manifest, by the digest of the latter; sorted.
    var referrers: [RegistryDigest: [Referrer]] {
        var found: [RegistryDigest: [Referrer]] = [:]
        for facts in manifests.values {
            guard let subject = facts.subject, let referrer = facts.referrer else { continue }
            found[subject, default: []].append(referrer)
        }
        return found.mapValues { $0.sorted { $0.digest.text < $1.digest.text } }
    }

    fileprivate mutating func note(_ fault: String) {
        if faults.count < Self.faultsMax {
            faults.append("\(name): \(fault)")
        } else if faults.count == Self.faultsMax {
            faults.append("\(name): and more that is not here")
        }
    }
}

extension StockRegistry {
    /// What some tags of a repository reach.
    package func contents(
        of repository: String, tagged patterns: [RepositoryPattern]
    ) throws(LayoutError) -> RepositoryContents {
        let ours = patterns.filter { $0.matches(name: repository) }
        let takesAll = ours.contains { $0.takesAllTags }
        let tags = try self.tags(of: repository) { tag in
            takesAll || RepositoryWalk.subject(ofTag: tag) != nil
                || ours.contains { $0.matches(tag: tag) }
        }
        var walk = RepositoryWalk(self, repository)
        for (tag, digest) in tags
        where takesAll || ours.contains(where: { $0.matches(tag: tag) }) {
            try walk.take(tag: tag, digest)
        }
        if !takesAll { walk.waiting = tags }
        try walk.followReferrers(revisions: try revisions(of: repository))
        return walk.finished()
    }

    /// All that a repository has: every manifest of it and what they reach.
    package func wholeContents(of repository: String) throws(LayoutError) -> RepositoryContents {
        var walk = RepositoryWalk(self, repository)
        for digest in try revisions(of: repository) {
            guard try hasRevision(digest, in: repository) else { continue }
            try walk.take(manifest: digest, isListed: false)
        }
        for (tag, digest) in try tags(of: repository, { _ in true }) {
            try walk.take(tag: tag, digest)
        }
        return walk.finished()
    }
}

/// Finds out what is reached. Nothing recurses, and nothing is looked at twice.
private struct RepositoryWalk {
    private let registry: StockRegistry
    private var contents: RepositoryContents
    private var seen: Set<RegistryDigest> = []
    private var taken: Set<String> = []
    /// The manifests that are taken, in their order.
    private var order: [RegistryDigest] = []
    /// Tags that are taken once what they refer to is reached.
    var waiting: [(tag: String, digest: RegistryDigest)] = []

    init(_ registry: StockRegistry, _ repository: String) {
        self.registry = registry
        contents = RepositoryContents(repository)
    }

    mutating func take(tag: String, _ digest: RegistryDigest) throws(LayoutError) {
        guard taken.insert(tag).inserted else { return }
        try take(manifest: digest, isListed: false)
        guard contents.manifests[digest] != nil else {
            return contents.note("the tag \(tag) is left out: \(digest.text) is not here")
        }
        contents.tags.append((tag, digest))
    }

    /// - Parameter isListed: whether an index lists it, which need not have all that it lists.
    mutating func take(manifest first: RegistryDigest, isListed: Bool) throws(LayoutError) {
        var pending = [(digest: first, isListed: isListed)]
        while let (digest, isListed) = pending.popLast() {
            guard seen.insert(digest).inserted else { continue }
            guard try registry.hasRevision(digest, in: contents.name) else {
                // An index may list what is no manifest.
                if isListed { try take(blob: digest) }
                continue
            }
            let facts: ManifestFacts?
            do throws(LayoutError) {
                facts = try registry.manifest(digest)
            } catch {
                contents.note("\(error), and is left out")
                continue
            }
            guard let facts else {
                contents.note("\(digest.text) is not here")
                continue
            }
            contents.manifests[digest] = facts
            order.append(digest)
            for blob in facts.references.blobs {
                try take(blob: blob, mayBeElsewhere: facts.references.foreign.contains(blob))
            }
            pending += facts.references.manifests.map { ($0, true) }
        }
    }

    private mutating func take(
        blob digest: RegistryDigest, mayBeElsewhere: Bool = false
    ) throws(LayoutError) {
        guard !contents.blobs.contains(digest) else { return }
        guard try registry.hasLayer(digest, in: contents.name),
            try registry.bytes(of: digest) != nil
        else {
            if !mayBeElsewhere { contents.note("\(digest.text) is not here") }
            return
        }
        contents.blobs.insert(digest)
    }

    /// Takes what refers to what is taken, until there is no more.
    mutating func followReferrers(revisions: [RegistryDigest]) throws(LayoutError) {
        var bySubject: [RegistryDigest: [RegistryDigest]] = [:]
        for digest in revisions where !seen.contains(digest) {
            // What cannot be read refers to nothing that is known; where it is reached, it is told.
            guard try registry.hasRevision(digest, in: contents.name),
                let facts = try? registry.manifest(digest), let subject = facts.subject
            else { continue }
            bySubject[subject, default: []].append(digest)
        }
        var byTag: [String: [(tag: String, digest: RegistryDigest)]] = [:]
        for entry in waiting {
            guard let subject = Self.subject(ofTag: entry.tag) else { continue }
            byTag[subject, default: []].append(entry)
        }
        // What is taken meanwhile is looked at as well.
        var next = 0
        while next < order.count {
            let digest = order[next]
            next += 1
            for referrer in bySubject.removeValue(forKey: digest) ?? [] {
                try take(manifest: referrer, isListed: false)
            }
            for (tag, target) in byTag.removeValue(forKey: Self.tagStem(of: digest)) ?? [] {
                try take(tag: tag, target)
            }
        }
    }

    /// What a tag begins with that refers to a digest (OCI distribution specification 1.1, "Referrers Tag Schema").
    static func tagStem(of digest: RegistryDigest) -> String {
        "\(digest.algorithm)-\(digest.hexText.prefix(64))"
    }

    /// The stem of such a tag; nil for any other.
    static func subject(ofTag tag: String) -> String? {
        let stem = tag.prefix { $0 != "." }
        let isStem = RegistryDigest.algorithms.contains { algorithm in
            stem.hasPrefix("\(algorithm)-") && stem.utf8.count == algorithm.utf8.count + 65
        }
        return isStem ? String(stem) : nil
    }

    func finished() -> RepositoryContents {
        var contents = contents
        contents.tags.sort { $0.tag.utf8.lexicographicallyPrecedes($1.tag.utf8) }
        return contents
    }
}
