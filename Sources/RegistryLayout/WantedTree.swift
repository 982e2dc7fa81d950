package import RegistryNames

// What a directory is to be: the names below it, and which comes before which.
//
// Rank: a reader that sees a name finds all that it leads to. So what has a lower rank is made first, and removed last: what says whose tree
//       it is, bytes that digests name, then manifests and links, then tags, then lists.

/// When a name is made.
package enum MakingRank: Int, Sendable, CaseIterable {
    case mark, blobs, manifests, tags, lists
}

/// What a name is to be.
package enum WantedFile: Sendable, Hashable {
    /// The bytes of a digest, as the registry has them.
    case blob(RegistryDigest)
    /// Other bytes.
    case text([UInt8])
}

/// A directory as it is to be.
package final class WantedTree {
    package enum Entry {
        case directory(WantedTree)
        case file(WantedFile)
    }

    package private(set) var entries: [String: Entry] = [:]

    package init() {}

    /// Puts a file at a path, and the directories above it.
    ///
    /// - Throws: where a directory is to be a file as well.
    package func put(_ file: WantedFile, at path: [String]) throws(LayoutError) {
        var directory = self
        for name in path.dropLast() {
            switch directory.entries[name] {
            case .directory(let next): directory = next
            case .file: throw Self.conflict(path)
            case nil:
                let next = WantedTree()
                directory.entries[name] = .directory(next)
                directory = next
            }
        }
        guard let name = path.last else { return }
        switch directory.entries[name] {
        case nil: directory.entries[name] = .file(file)
        case .file(let other) where other == file: break
        case .file, .directory: throw Self.conflict(path)
        }
    }

    private static func conflict(_ path: [String]) -> LayoutError {
        LayoutError(
            "\(path.joined(separator: "/")) would be two things: leave one of the repositories out")
    }

    /// The file at a path; nil where there is none.
    package func file(at path: [String]) -> WantedFile? {
        var directory = self
        for name in path.dropLast() {
            guard case .directory(let next) = directory.entries[name] else { return nil }
            directory = next
        }
        guard let name = path.last, case .file(let file) = directory.entries[name] else {
            return nil
        }
        return file
    }

    /// All files, by their paths; sorted.
    package var paths: [String] {
        var found: [String] = []
        for (name, entry) in entries {
            switch entry {
            case .file: found.append(name)
            case .directory(let below): found += below.paths.map { "\(name)/\($0)" }
            }
        }
        return found.sorted()
    }
}
