package import Base
internal import Glibc
internal import RegistryNames
internal import Serving

internal import struct SystemPackage.Errno

// Makes a directory what a tree says, by what differs alone.
//
// Order:    what stands in the way of a directory is removed; then files are made by their rank, then those that are too many are removed
//           against it, then directories that are empty. So whoever reads meanwhile finds what a tag leads to, in the old tree or the new.
// Files:    appear whole: by link(2), or by rename(2) of `temporaryName`, of which nothing stays but by a crash, until the next time.
// Same:     of bytes that a digest names: the registry's own file (by links), or one of that length (by copies, where a digest is the name).
// Validity: nothing below the directory is followed by a symlink; depth up to `depthMax`, names of one directory up to `namesMax`.
// Lock:     one at a time works at a directory (flock(2)).

/// What was done.
package struct TreeChanges: Sendable, Hashable {
    package var made = 0
    package var replaced = 0
    package var removed = 0
    package var kept = 0
    package var copiedBytes: UInt64 = 0

    package init() {}

    /// Whether the tree is as it was.
    package var isEmpty: Bool { made + replaced + removed == 0 }
}

/// Brings a directory to a tree. Blocks; for one thread.
package struct TreeSync: ~Copyable {
    /// How bytes come to their names.
    package enum Style: Sendable {
        /// Each is one more name of the registry's file: in one filesystem.
        case links
        /// Each is copied once, and what has the same digest is a name of the copy.
        case copies
    }

    static let depthMax = 200
    static let namesMax = 2_000_000
    /// What a crash may leave.
    package static let temporaryName = ".registryfs-new"

    private let root: OpenFile
    private let registry: StockRegistry
    private let style: Style
    private let rank: ([String]) -> MakingRank
    private let topNames: [String]

    private var changes = TreeChanges()
    private var sources: [RegistryDigest: FileIdentity] = [:]
    /// Where a copy of a digest is.
    private var copies: [RegistryDigest: [String]] = [:]

    private struct Making {
        var path: [String]
        var file: WantedFile
        var replaces: Bool
    }

    private var makings: [MakingRank: [Making]] = [:]
    private var removals: [MakingRank: [[String]]] = [:]
    private var obstacles: [[String]] = []
    private var emptied: [[String]] = []

    /// - Parameters:
    ///   - root: the directory.
    ///   - topNames: the names in it that are the tree's; others are left alone.
    ///   - rank: when a path is made.
    /// - Throws: where another process works at it.
    package init(
        root: consuming OwnedDescriptor, from registry: StockRegistry, _ style: Style,
        topNames: [String], rank: @escaping ([String]) -> MakingRank
    ) throws(LayoutError) {
        self.root = OpenFile(root)
        self.registry = registry
        self.style = style
        self.topNames = topNames
        self.rank = rank
        do throws(Errno) {
            guard try Sys.lockExclusively(self.root.descriptor.raw) else {
                throw Errno.resourceBusy
            }
        } catch {
            guard error != .resourceBusy else {
                throw LayoutError("another registryfs works at this tree: wait until it is done")
            }
            throw LayoutError("cannot lock the tree", error)
        }
    }

    /// Makes the directory the tree.
    package consuming func run(_ wanted: WantedTree) throws(LayoutError) -> TreeChanges {
        do throws(Errno) {
            try compare(wanted, with: root, at: [])
            for path in obstacles { try removeWhole(path) }
            for rank in MakingRank.allCases {
                // Bytes are on the disk before a tag leads to them.
                if rank == .tags, style == .copies, makings[.tags] != nil {
                    try Sys.synchronizeFilesystem(of: root.descriptor.raw)
                }
                try make(makings[rank] ?? [])
            }
            for rank in MakingRank.allCases.reversed() {
                for path in removals[rank] ?? [] { try removeFile(path) }
            }
            for path in emptied { try removeDirectory(path) }
        } catch {
            throw Self.error(error, style)
        }
        return changes
    }

    private static func error(_ error: Errno, _ style: Style) -> LayoutError {
        let cause = FailureCause.take().map { " (\($0))" } ?? ""
        switch (error, style) {
        case (.improperLink, .links):
            return LayoutError("the tree and the registry are not in one filesystem\(cause)")
        case (.notPermitted, _), (.permissionDenied, _):
            return LayoutError("the tree cannot be made: \(error)\(cause): run this as root")
        case (.readOnlyFileSystem, _):
            return LayoutError("the tree cannot be made: the filesystem is read-only\(cause)")
        default:
            return LayoutError("the tree cannot be made: \(error)\(cause)")
        }
    }

    // MARK: What differs

    private mutating func compare(
        _ wanted: WantedTree, with directory: OpenFile?, at path: [String]
    ) throws(Errno) {
        guard path.count <= Self.depthMax else { throw .argListTooLong }
        var there: [String: FileKind] = [:]
        if let directory {
            for (name, kind) in try names(of: directory, at: path) {
                there[name] = kind
                if wanted.entries[name] != nil { continue }
                guard !path.isEmpty || topNames.contains(name) else { continue }
                try collect(path + [name], kind, in: directory)
            }
        }
        for (name, entry) in wanted.entries.sorted(by: { $0.key < $1.key }) {
            let place = path + [name]
            let kind = there[name]
            switch entry {
            case .directory(let below):
                guard kind != .directory else {
                    try compare(below, with: try subdirectory(name, of: directory), at: place)
                    continue
                }
                if kind != nil { obstacles.append(place) }
                try compare(below, with: nil, at: place)
            case .file(let file):
                if kind == .directory { obstacles.append(place) }
                if kind == .regular, let directory, try isSame(file, name, in: directory) {
                    changes.kept += 1
                    if case .blob(let digest) = file, copies[digest] == nil {
                        copies[digest] = place
                    }
                    continue
                }
                let making = Making(
                    path: place, file: file, replaces: kind != nil && kind != .directory)
                makings[rank(place), default: []].append(making)
            }
        }
    }

    private func names(
        of directory: OpenFile, at path: [String]
    ) throws(Errno) -> [(name: String, kind: FileKind)] {
        var names: [(name: String, kind: FileKind)] = []
        for entry in try Sys.entries(in: directory.descriptor.raw, countMax: Self.namesMax) {
            guard let name = String(validating: entry.name, as: UTF8.self) else {
                guard !path.isEmpty else { continue }
                FailureCause.note("\(path.joined(separator: "/")) has a name that is no text")
                throw .illegalByteSequence
            }
            var kind = entry.kind
            if kind == nil {
                let file = try Sys.open(
                    name, in: directory.descriptor.raw, flags: Sys.pathOnly | O_NOFOLLOW)
                kind = try Sys.identity(of: file.raw).kind
            }
            names.append((name, kind ?? .socket))
        }
        return names
    }

    private func subdirectory(
        _ name: String, of directory: OpenFile?
    ) throws(Errno) -> OpenFile? {
        guard let directory else { return nil }
        return OpenFile(
            try Sys.open(
                name, in: directory.descriptor.raw, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW))
    }

    /// Notes what is there and not wanted.
    private mutating func collect(
        _ path: [String], _ kind: FileKind, in directory: OpenFile
    ) throws(Errno) {
        guard kind == .directory else {
            removals[rank(path), default: []].append(path)
            return
        }
        guard path.count <= Self.depthMax, let name = path.last,
            let below = try subdirectory(name, of: directory)
        else { throw .argListTooLong }
        for (name, kind) in try names(of: below, at: path) {
            guard name != "_uploads" else {
                FailureCause.note("a registry works in \(path.joined(separator: "/"))")
                throw .resourceBusy
            }
            try collect(path + [name], kind, in: below)
        }
        emptied.append(path)
    }

    private mutating func isSame(
        _ file: WantedFile, _ name: String, in directory: OpenFile
    ) throws(Errno) -> Bool {
        switch file {
        case .text(let bytes):
            let there = try Sys.open(
                name, in: directory.descriptor.raw, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            let identity = try Sys.identity(of: there.raw)
            guard identity.kind == .regular, identity.size == UInt64(bytes.count) else {
                return false
            }
            return try Self.read(OpenFile(there), count: bytes.count) == bytes
        case .blob(let digest):
            let identity = try identity(of: name, in: directory)
            guard let source = try source(of: digest) else { return true }
            guard style == .copies else { return source.isSame(as: identity) }
            guard identity.size == source.size else { return false }
            guard name != digest.text, name != "data" else { return true }
            if let twin = try? self.identity(of: digest.text, in: directory) {
                return twin.isSame(as: identity)
            }
            guard identity.size <= ManifestStore.sizeMax else { return false }
            let there = try Sys.open(
                name, in: directory.descriptor.raw, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            return digest.matches(try Self.read(OpenFile(there), count: Int(identity.size)))
        }
    }

    private func identity(of name: String, in directory: OpenFile) throws(Errno) -> FileIdentity {
        let file = try Sys.open(
            name, in: directory.descriptor.raw, flags: Sys.pathOnly | O_NOFOLLOW)
        return try Sys.identity(of: file.raw)
    }

    /// The registry's file; nil where it has gone meanwhile.
    private mutating func source(of digest: RegistryDigest) throws(Errno) -> FileIdentity? {
        if let known = sources[digest] { return known }
        let found = try blob(digest)?.identity
        sources[digest] = found
        return found
    }

    private func blob(
        _ digest: RegistryDigest, flags: Int32 = Sys.pathOnly
    ) throws(Errno) -> OpenBlob? {
        do throws(LayoutError) {
            return try registry.bytes(of: digest, flags: flags)
        } catch {
            FailureCause.note(error.description)
            throw .ioError
        }
    }

    private static func read(_ file: OpenFile, count: Int) throws(Errno) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let read = try bytes.withMutableBytes { (buffer) throws(Errno) in
            try Sys.read(file.descriptor.raw, at: 0, into: buffer)
        }
        return read == count ? bytes : []
    }

    // MARK: Making

    private mutating func make(_ makings: [Making]) throws(Errno) {
        var directory: (path: [String], file: OpenFile)?
        for making in makings {
            let above = making.path.dropLast()
            if directory?.path != Array(above) {
                directory = (Array(above), try self.directory(Array(above)))
            }
            guard let open = directory?.file else { continue }
            guard try make(making, in: open) else { continue }
            if making.replaces { changes.replaced += 1 } else { changes.made += 1 }
        }
    }

    /// - Returns: whether it was made; what has gone from the registry meanwhile is not.
    private mutating func make(_ making: Making, in directory: OpenFile) throws(Errno) -> Bool {
        let name = making.path[making.path.count - 1]
        let raw = directory.descriptor.raw
        switch making.file {
        case .text(let bytes):
            let file = try temporary(in: raw)
            try bytes.withBytes { (bytes) throws(Errno) in
                try Sys.write(file.raw, at: 0, bytes)
            }
            try Sys.rename(Self.temporaryName, in: raw, to: name, in: raw)
        case .blob(let digest):
            switch style {
            case .links:
                guard let blob = try blob(digest) else { return false }
                try link(blob.descriptor, to: name, in: raw, replaces: making.replaces)
            case .copies:
                guard try copy(digest, to: name, in: raw, making) else { return false }
            }
        }
        return true
    }

    private func link(
        _ file: Int32, to name: String, in directory: Int32, replaces: Bool
    ) throws(Errno) {
        if !replaces {
            do throws(Errno) {
                return try Sys.link(file, to: name, in: directory)
            } catch .fileExists {
                // It came meanwhile, and is replaced.
            } catch {
                throw error
            }
        }
        _ = try Sys.unlink(Self.temporaryName, in: directory)
        try Sys.link(file, to: Self.temporaryName, in: directory)
        try Sys.rename(Self.temporaryName, in: directory, to: name, in: directory)
        // Of two names of one file rename(2) keeps both.
        _ = try Sys.unlink(Self.temporaryName, in: directory)
    }

    private mutating func copy(
        _ digest: RegistryDigest, to name: String, in directory: Int32, _ making: Making
    ) throws(Errno) -> Bool {
        if let place = copies[digest], try linkCopy(at: place, to: name, in: directory, making) {
            return true
        }
        guard let blob = try blob(digest, flags: O_RDONLY | O_NONBLOCK) else { return false }
        let file = try temporary(in: directory)
        let size = blob.identity.size
        let count = try Sys.copy(
            from: blob.descriptor, at: 0, to: file.raw, at: 0, length: size)
        guard count == size else {
            FailureCause.note("\(digest.text) ends after \(count) of \(size) bytes")
            throw .ioError
        }
        try Sys.rename(Self.temporaryName, in: directory, to: name, in: directory)
        changes.copiedBytes += size
        copies[digest] = making.path
        return true
    }

    /// Gives a copy one more name; false where the filesystem cannot, or will not do so as often.
    private func linkCopy(
        at place: [String], to name: String, in directory: Int32, _ making: Making
    ) throws(Errno) -> Bool {
        do throws(Errno) {
            let file = try Sys.open(
                beneath: root.descriptor.raw, place.joined(separator: "/"), flags: Sys.pathOnly)
            try link(file.raw, to: name, in: directory, replaces: making.replaces)
            return true
        } catch .notPermitted, .tooManyLinks, .notSupported, .noSuchFileOrDirectory, .noFunction {
            return false
        } catch {
            throw error
        }
    }

    private func temporary(in directory: Int32) throws(Errno) -> OwnedDescriptor {
        _ = try Sys.unlink(Self.temporaryName, in: directory)
        return try Sys.open(
            Self.temporaryName, in: directory, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
            mode: 0o644)
    }

    /// Opens a directory of the tree; what is missing of it is made.
    private func directory(_ path: [String]) throws(Errno) -> OpenFile {
        var directory = root
        for name in path {
            let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW
            do throws(Errno) {
                directory = OpenFile(
                    try Sys.open(name, in: directory.descriptor.raw, flags: flags))
            } catch .noSuchFileOrDirectory {
                _ = try Sys.makeDirectory(name, in: directory.descriptor.raw, mode: 0o755)
                directory = OpenFile(
                    try Sys.open(name, in: directory.descriptor.raw, flags: flags))
            } catch {
                FailureCause.note(path.joined(separator: "/"))
                throw error
            }
        }
        return directory
    }

    // MARK: Removing

    private mutating func removeFile(_ path: [String]) throws(Errno) {
        let directory = try directory(Array(path.dropLast()))
        if try Sys.unlink(path[path.count - 1], in: directory.descriptor.raw) {
            changes.removed += 1
        }
    }

    private func removeDirectory(_ path: [String]) throws(Errno) {
        let directory = try directory(Array(path.dropLast()))
        try Sys.removeDirectory(path[path.count - 1], in: directory.descriptor.raw)
    }

    /// Removes what stands where something else is to be.
    private mutating func removeWhole(_ path: [String]) throws(Errno) {
        let above = try directory(Array(path.dropLast()))
        let name = path[path.count - 1]
        guard try identity(of: name, in: above).kind == .directory else {
            return try removeFile(path)
        }
        guard let directory = try subdirectory(name, of: above) else { return }
        for (name, _) in try names(of: directory, at: path) { try removeWhole(path + [name]) }
        try removeDirectory(path)
    }
}
