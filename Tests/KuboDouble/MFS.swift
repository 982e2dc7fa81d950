internal import Foundation
internal import MerkleDAG
internal import Multiformats

// The mutable file system, with a real node's habits.
//
// A directory has the links of its node and, besides, the children that were looked at ("cached"),
// which may have changed since. Flushing a node writes what changed in and below it, and then the
// links of all of its ancestors up to the root, which is published. What is changed and not flushed
// reaches nobody but those who look in; a kill loses it.

/// A file or a directory in MFS.
protocol MFSNode: AnyObject {
    var name: [UInt8] { get }
    /// The node in the DAG as it is now, its blocks stored.
    ///
    /// - Parameter isCleaning: whether the cached children are forgotten.
    func node(isCleaning: Bool) throws(Halt) -> MFSLink
    /// Writes what changed here and above, and publishes the root.
    func flush() throws(Halt)
}

struct MFSLink {
    var cid: CID
    var treeSize: UInt64
}

/// The whole of it. For one thread at a time.
final class MFSTree {
    static let unflushedMax = 256

    let blocks: BlockStore
    let profile: ImportProfile
    /// Takes the root whenever it is flushed.
    var publish: (CID) throws(Halt) -> Void = { _ in }
    private var unflushedCount = 0
    private let rootCID: CID
    private var loadedRoot: MFSDirectory?

    init(root: CID, blocks: BlockStore, profile: ImportProfile) {
        self.blocks = blocks
        self.profile = profile
        rootCID = root
    }

    func root() throws(Halt) -> MFSDirectory {
        if let loadedRoot { return loadedRoot }
        let root = try MFSDirectory(loading: rootCID, name: [], parent: nil, tree: self)
        root.cidVersion = profile.cidVersion
        loadedRoot = root
        return root
    }

    static let notFound = Halt.failed("file does not exist")
    static let exists = Halt.failed("file already exists")

    // MARK: Counting what is not flushed

    func countOperation(isFlushing: Bool) throws(Halt) {
        guard !isFlushing else {
            unflushedCount = 0
            return
        }
        guard unflushedCount < Self.unflushedMax else {
            throw .failed(
                "reached limit of \(Self.unflushedMax) unflushed MFS operations. "
                    + "To resolve: 1) run 'ipfs files flush' to persist changes, "
                    + "2) use --flush=true (default), or "
                    + "3) increase Internal.MFSNoFlushLimit in config")
        }
        unflushedCount += 1
    }

    // MARK: Paths

    /// As Go's path.Clean, with the slash at the end kept.
    static func checked(_ path: [UInt8]) throws(Halt) -> [UInt8] {
        guard !path.isEmpty else { throw .failed("paths must not be empty") }
        guard path[0] == slash else { throw .failed("paths must start with a leading slash") }
        var parts: [ArraySlice<UInt8>] = []
        for part in path.split(separator: slash) {
            if part.elementsEqual(".".utf8) { continue }
            if part.elementsEqual("..".utf8) {
                _ = parts.popLast()
            } else {
                parts.append(part)
            }
        }
        var cleaned = [slash] + parts.joined(separator: [slash])
        if path.count > 1, path[path.count - 1] == slash { cleaned.append(slash) }
        return cleaned
    }

    static let slash = UInt8(ascii: "/")

    /// As Go's path.Split: what stands up to the last slash, and behind it.
    static func split(_ path: [UInt8]) -> (directory: [UInt8], name: [UInt8]) {
        let end = path.lastIndex(of: slash).map { $0 + 1 } ?? 0
        return (Array(path[..<end]), Array(path[end...]))
    }

    /// As Go's path.Dir.
    static func parent(_ path: [UInt8]) -> [UInt8] {
        let directory = split(path).directory
        let trimmed = directory.reversed().drop { $0 == slash }.reversed()
        return trimmed.isEmpty ? [slash] : Array(trimmed)
    }

    static func text(_ path: [UInt8]) -> String { String(decoding: path, as: UTF8.self) }

    func lookup(_ path: [UInt8]) throws(Halt) -> any MFSNode {
        var current: any MFSNode = try root()
        let parts = path.split(separator: Self.slash)
        for (index, part) in parts.enumerated() {
            guard let directory = current as? MFSDirectory else {
                let walked = parts[...index].joined(separator: [Self.slash])
                throw .failed("cannot access \(Self.text(Array(walked))): Not a directory")
            }
            guard let child = try directory.child(Array(part)) else { throw Self.notFound }
            current = child
        }
        return current
    }

    func directory(_ path: [UInt8]) throws(Halt) -> MFSDirectory {
        guard let directory = try lookup(path) as? MFSDirectory else {
            throw .failed("\(Self.text(path)) is not a directory")
        }
        return directory
    }

    /// - Returns: the node that is there then.
    @discardableResult
    func flush(_ path: [UInt8]) throws(Halt) -> MFSLink {
        let node = try lookup(path)
        try node.flush()
        return try node.node(isCleaning: false)
    }

    /// Whether nothing stands at the path.
    func isMissing(_ path: [UInt8]) throws(Halt) -> Bool {
        do throws(Halt) {
            _ = try lookup(path)
            return false
        } catch .error(let error) {
            guard error.message == "file does not exist" else { throw .error(error) }
            return true
        } catch {
            throw error
        }
    }

    // MARK: Operations

    func makeDirectory(
        _ path: [UInt8], isMakingParents: Bool, isFlushing: Bool, cidVersion: Int
    ) throws(Halt) {
        let parts = path.split(separator: Self.slash).map { Array($0) }
        guard let last = parts.last else {
            guard isMakingParents else {
                throw .failed("cannot create directory '/': Already exists")
            }
            return
        }
        var current = try root()
        for (index, part) in parts.dropLast().enumerated() {
            if let child = try current.child(part) {
                guard let next = child as? MFSDirectory else {
                    let walked = parts[..<index].joined(separator: [Self.slash])
                    throw .failed("\(Self.text(Array(walked))) was not a directory")
                }
                current = next
            } else {
                guard isMakingParents else { throw Self.notFound }
                current = try current.makeChild(part, cidVersion: cidVersion)
            }
        }
        let final: MFSDirectory
        if let child = try current.child(last) {
            guard isMakingParents, let directory = child as? MFSDirectory else {
                throw Self.exists
            }
            final = directory
        } else {
            final = try current.makeChild(last, cidVersion: cidVersion)
        }
        if isFlushing { try final.flush() }
    }

    func put(_ link: MFSLink, at path: [UInt8]) throws(Halt) {
        let (parent, name) = Self.split(path)
        guard !name.isEmpty else { throw .failed("cannot create file with empty name") }
        try directory(parent).addChild(name, link)
    }

    /// `files/mv`. Also what it gets wrong: names are compared where directories should be, so
    /// that between `/a/same/f` and `/b/same/f` the source stays; and a directory moved into itself
    /// is lost.
    func move(_ source: [UInt8], to target: [UInt8]) throws(Halt) {
        let (sourceParent, sourceName) = Self.split(source)
        var (targetParent, targetName) = Self.split(target)
        if targetName.isEmpty {
            (targetParent, targetName) = (target, sourceName)
        }
        var targetDirectory = try directory(targetParent)
        let sourceDirectory = try directory(sourceParent)
        guard let moved = try sourceDirectory.child(sourceName) else { throw Self.notFound }
        let link = try moved.node(isCleaning: false)
        if let there = try targetDirectory.child(targetName) {
            if let directory = there as? MFSDirectory {
                targetDirectory = directory
                targetName = sourceName
            } else {
                try targetDirectory.unlink(targetName)
            }
        }
        try targetDirectory.addChild(targetName, link)
        if sourceDirectory.name == targetDirectory.name, sourceName == targetName { return }
        try sourceDirectory.unlink(sourceName)
    }

    func remove(_ path: [UInt8], isRecursive: Bool, isForced: Bool) throws(Halt) {
        guard path != [Self.slash] else { throw .failed("cannot delete root") }
        let trimmed = path.last == Self.slash ? Array(path.dropLast()) : path
        let (parent, name) = Self.split(trimmed)
        if isForced, try isMissing(parent) { return }
        guard let directory = try lookup(parent) as? MFSDirectory else {
            throw .failed("expected *mfs.Directory, didn't get it. This is likely a race condition")
        }
        if isForced {
            guard directory.has(name) else { return }
        } else {
            guard let child = try directory.child(name) else { throw Self.notFound }
            guard isRecursive || !(child is MFSDirectory) else {
                throw .failed("path is a directory, use -r to remove directories")
            }
        }
        try directory.unlink(name)
        try directory.flush()
    }

    // MARK: Blocks

    func block(_ cid: CID) throws(Halt) -> [UInt8] {
        if cid.multihash.code == .identity { return cid.multihash.digest }
        guard let block = blocks.block(cid.multihash) else { throw .missing(cid) }
        return block
    }

    func store(_ cid: CID, _ block: [UInt8]) throws(Halt) {
        try blocks.put(cid.multihash, block)
    }

    /// The link to a node that is here.
    func link(_ cid: CID) throws(Halt) -> MFSLink {
        let block = try block(cid)
        guard cid.codec == .dagPB, let node = try? DAGNode(decoding: block) else {
            return MFSLink(cid: cid, treeSize: UInt64(block.count))
        }
        return MFSLink(cid: cid, treeSize: node.treeSize(blockSize: block.count))
    }
}

/// Blocks that are here; the others are `Halt.missing`.
struct MFSSource: BlockSource {
    let tree: MFSTree

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        do throws(Halt) {
            return try tree.block(cid)
        } catch {
            throw BlockUnavailable(cid, cause: error)
        }
    }
}

final class MFSFile: MFSNode {
    let name: [UInt8]
    private let parent: MFSDirectory
    private(set) var link: MFSLink

    init(_ link: MFSLink, name: [UInt8], parent: MFSDirectory) {
        self.link = link
        self.name = name
        self.parent = parent
    }

    func node(isCleaning: Bool) throws(Halt) -> MFSLink { link }

    func flush() throws(Halt) {
        try parent.update(name, link)
    }

    func replace(with link: MFSLink) throws(Halt) {
        self.link = link
        try flush()
    }

    /// Takes another content without telling anybody.
    func replaceQuietly(with link: MFSLink) { self.link = link }
}

final class MFSDirectory: MFSNode {
    let name: [UInt8]
    /// Nil for the root.
    private let parent: MFSDirectory?
    private let tree: MFSTree
    private var links: [[UInt8]: MFSLink] = [:]
    private var cached: [[UInt8]: any MFSNode] = [:]
    private var metadata: UnixFSMetadata
    /// The node of `links`, if it was made.
    private var made: MFSLink?
    var cidVersion: Int {
        didSet { made = nil }
    }

    init(
        loading cid: CID, name: [UInt8], parent: MFSDirectory?, tree: MFSTree
    ) throws(Halt) {
        self.name = name
        self.parent = parent
        self.tree = tree
        cidVersion = cid.version
        do throws(DAGReadError) {
            let reader = try DirectoryReader(root: cid, source: MFSSource(tree: tree))
            metadata = reader.metadata
            for entry in try reader.entries() {
                links[entry.name] = MFSLink(cid: entry.cid, treeSize: entry.treeSize)
            }
        } catch {
            throw Call.halt(error)
        }
    }

    private init(name: [UInt8], parent: MFSDirectory, tree: MFSTree, cidVersion: Int) {
        self.name = name
        self.parent = parent
        self.tree = tree
        self.cidVersion = cidVersion
        metadata = .none
    }

    func has(_ name: [UInt8]) -> Bool { links[name] != nil || cached[name] != nil }

    var names: [[UInt8]] { links.keys.sorted { $0.lexicographicallyPrecedes($1) } }

    func child(_ name: [UInt8]) throws(Halt) -> (any MFSNode)? {
        if let child = cached[name] { return child }
        guard let link = links[name] else { return nil }
        let entry: UnixFSEntry
        do throws(DAGReadError) {
            entry = try MFSSource(tree: tree).unixfsEntry(link.cid)
        } catch {
            throw Call.halt(error)
        }
        let child: any MFSNode
        switch entry {
        case .directory:
            let directory = try MFSDirectory(
                loading: link.cid, name: name, parent: self, tree: tree)
            // Until it changes, whatever made it and however its node is laid out.
            directory.made = link
            child = directory
        case .file, .symlink:
            child = MFSFile(link, name: name, parent: self)
        }
        cached[name] = child
        return child
    }

    func addChild(_ name: [UInt8], _ link: MFSLink) throws(Halt) {
        // A child that is not here is no child, as far as a node cares.
        guard !has(name) else { throw .failed("directory already has entry by that name") }
        links[name] = link
        made = nil
    }

    func makeChild(_ name: [UInt8], cidVersion: Int) throws(Halt) -> MFSDirectory {
        let child = MFSDirectory(name: name, parent: self, tree: tree, cidVersion: cidVersion)
        links[name] = try child.node(isCleaning: false)
        cached[name] = child
        made = nil
        return child
    }

    func unlink(_ name: [UInt8]) throws(Halt) {
        cached[name] = nil
        guard links.removeValue(forKey: name) != nil else { throw MFSTree.notFound }
        made = nil
    }

    func node(isCleaning: Bool) throws(Halt) -> MFSLink {
        for (name, child) in cached {
            let link = try child.node(isCleaning: false)
            if links[name]?.cid != link.cid { made = nil }
            links[name] = link
        }
        if isCleaning { cached = [:] }
        return try makeNode()
    }

    private func makeNode() throws(Halt) -> MFSLink {
        if let made, tree.blocks.contains(made.cid.multihash) { return made }
        let profile = tree.profile
        var builder = DirectoryBuilder(
            profile: ImportProfile(
                chunkSize: profile.chunkSize, fileLinksMax: profile.fileLinksMax,
                rawLeaves: profile.rawLeaves, cidVersion: cidVersion,
                hamtFanout: profile.hamtFanout, directoryThreshold: profile.directoryThreshold,
                directoryEstimation: profile.directoryEstimation,
                directoryLinksMax: profile.directoryLinksMax),
            metadata: metadata, entryCountHint: links.count)
        for (name, link) in links {
            builder.add(name: name, cid: link.cid, treeSize: link.treeSize)
        }
        do {
            let root = try builder.finish { (cid, block) throws(Halt) in
                try tree.store(cid, block)
            }
            let link = MFSLink(cid: root.cid, treeSize: root.treeSize)
            made = link
            return link
        } catch {
            if case .sink(let halt) = error { throw halt }
            throw .failed("\(error)")
        }
    }

    func flush() throws(Halt) {
        let link = try node(isCleaning: true)
        try passOn(link)
    }

    /// A child has another node now.
    func update(_ name: [UInt8], _ link: MFSLink) throws(Halt) {
        links[name] = link
        made = nil
        try passOn(try makeNode())
    }

    private func passOn(_ link: MFSLink) throws(Halt) {
        if let parent {
            try parent.update(name, link)
        } else {
            try tree.publish(link.cid)
        }
    }

    func setMetadata(_ change: (inout UnixFSMetadata) -> Void) {
        change(&metadata)
        made = nil
    }
}
