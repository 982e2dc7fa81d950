internal import InodeManifest

extension Volume {
    /// The domains and names that grafts go with, those first that were looked at last. Asks nobody and computes nothing.
    public func graftReferences() -> [String] {
        let grafts = manifest.withLock { Array($0.grafts.all.values) }
        var seen: Set<String> = []
        return grafts.filter { $0.until > 0 }.sorted { ($0.time, $0.name) > ($1.time, $1.name) }
            .map(\.reference).filter { seen.insert($0).inserted }
    }

    /// The names of all grafts. Asks nobody and computes nothing.
    public func graftNames() -> [String] {
        manifest.withLock { $0.grafts.all.keys.sorted() }
    }
}
