import Base
import Glibc
import RegistryLayout

import struct SystemPackage.Errno

/// What `export-static` does once its arguments are read.
struct StaticRun {
    private let mount: RegistryMount
    private let patterns: [RepositoryPattern]

    init(_ mount: RegistryMount, _ patterns: [RepositoryPattern]) {
        self.mount = mount
        self.patterns = patterns
    }

    /// In the volume, by names alone.
    func link(at path: [String]) throws(Failure) -> StaticReport {
        let registry = try mount.registry()
        let root = OpenDirectory(try mount.place(path, for: StaticTree.topNames))
        let shown = mount.path(of: path)
        var report = try make(registry, in: root, shown, .links).report
        report.cid = "\(try mount.cid(of: path))"
        return report
    }

    /// As plain files, and what servers have to be told of them.
    func write(to directory: String) throws(Failure) -> StaticReport {
        let registry = try mount.registry()
        let path: String
        let root: OpenDirectory
        do throws(Errno) {
            _ = try Sys.makeDirectory(directory, mode: 0o755)
            path = RawText.text(of: try SystemFiles.canonical(RawText.bytes(of: directory)))
            root = OpenDirectory(try Sys.open(path, flags: O_RDONLY | O_DIRECTORY))
        } catch {
            throw Failure("--dir \(RawText.shown(directory)): \(error.reason)")
        }
        let (report, tree) = try make(registry, in: root, path, .copies)
        for (name, text) in try ServerFragments(tree, directory: path).files {
            try Self.write(Array(text.utf8), to: "\(path)/\(name)")
        }
        return report
    }

    private func make(
        _ registry: StockRegistry, in root: OpenDirectory, _ shown: String, _ style: TreeSync.Style
    ) throws(Failure) -> (report: StaticReport, tree: StaticTree) {
        try Self.refuseOthers(in: root, shown)
        let repositories = try contents(of: registry)
        let tree = try Failure.layout { () throws(LayoutError) in try StaticTree(repositories) }
        let changes = try Failure.layout { () throws(LayoutError) in
            let sync = try TreeSync(
                root: root.copy(), from: registry, style, topNames: StaticTree.topNames,
                rank: StaticTree.rank)
            return try sync.run(tree.tree)
        }
        let report = StaticReport(
            directory: RawText.shown(shown), repositories: repositories.map(\.name),
            tags: tree.tagCount, manifests: tree.manifestCount, blobs: tree.blobCount,
            made: changes.made, replaced: changes.replaced, removed: changes.removed,
            kept: changes.kept, copiedBytes: changes.copiedBytes,
            missing: repositories.flatMap(\.faults))
        return (report, tree)
    }

    private func contents(of registry: StockRegistry) throws(Failure) -> [RepositoryContents] {
        let names = try Failure.layout { () throws(LayoutError) in
            try registry.repositories(matching: patterns)
        }
        for pattern in patterns where !names.contains(where: { pattern.matches(name: $0) }) {
            throw Failure("no repository is '\(RawText.shown(pattern.description))'", kind: .absent)
        }
        var bar = ProgressBar("looking")
        var contents: [RepositoryContents] = []
        for name in names {
            bar.update(items: UInt64(contents.count), of: UInt64(names.count))
            let found = try Failure.layout { () throws(LayoutError) in
                try registry.contents(of: name, tagged: patterns)
            }
            contents.append(found)
        }
        for pattern in patterns {
            let isFound = contents.contains { repository in
                pattern.matches(name: repository.name)
                    && (pattern.takesAllTags
                        || repository.tags.contains { pattern.matches(tag: $0.tag) })
            }
            guard isFound else {
                let faults = contents.flatMap(\.faults).first.map { " (\($0))" } ?? ""
                throw Failure(
                    "no tag is '\(RawText.shown(pattern.description))'\(faults)", kind: .absent)
            }
        }
        return contents.filter { !$0.tags.isEmpty || patterns.contains { $0.takesAllTags } }
    }

    /// Refuses a directory whose `v2` was not made here: what is not wanted in it would be removed.
    private static func refuseOthers(in root: OpenDirectory, _ shown: String) throws(Failure) {
        let top = try root.names(in: [])
        let there = (top.contains("v2") ? try root.names(in: ["v2"]) : [])
            .filter { $0 != TreeSync.temporaryName }
        let isOurs = there.contains(StaticTree.mark)
        guard isOurs || there.isEmpty && !top.contains("_redirects") else {
            throw Failure(
                "\(RawText.shown(shown)) has a v2 or a _redirects that is not of an export: choose "
                    + "another place, or remove it")
        }
    }

    /// Writes a file where it is to be another.
    private static func write(_ bytes: [UInt8], to path: String) throws(Failure) {
        let there = try? SystemFiles.read(path, byteCountMax: bytes.count + 1)
        guard there != bytes else { return }
        let file = try AtomicFile(path: RawText.bytes(of: path))
        try bytes.withBytes { (buffer) throws(Failure) in try file.write(buffer) }
        try file.keep()
    }
}

extension OpenDirectory {
    /// Another descriptor of it.
    func copy() throws(LayoutError) -> OwnedDescriptor {
        do throws(Errno) {
            return try Sys.open(".", in: descriptor.raw, flags: O_RDONLY | O_DIRECTORY)
        } catch {
            throw LayoutError("cannot open a directory: \(error.reason)")
        }
    }
}
