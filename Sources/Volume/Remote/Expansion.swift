internal import Base
internal import InodeManifest
internal import Logging
public import MerkleDAG
public import Multiformats

/// What it may take to look into one directory of others. Whoever writes it decides how large it is,
/// and any user of the mount has it looked into.
public struct ExpansionBounds: Sendable {
    /// Its entries.
    public var entriesMax = 1 << 19
    /// Bytes of its own nodes; they are in memory until its entries are known.
    public var nodeBytesMax = 64 << 20
    /// Bytes of the root blocks of what its entries lead to, each block once.
    public var childBytesMax = 2 << 30
    /// Bytes of the targets of its symlinks, each as often as it is linked: the manifest keeps them so.
    public var targetBytesMax = 64 << 20
    /// Milliseconds, however many blocks the node gives within them.
    public var milliseconds = 300_000

    /// Beyond one of these an expansion is a large one.
    static let smallEntriesMax = 8_192
    static let smallNodeBytesMax = 512 << 10
    /// Large expansions that run at once; others wait for their turn.
    static let largeMax = 1
    /// Threads of one expansion that ask for blocks, and those of all of them beside the first of each.
    static let threadsMax = 16
    static let helpersMax = 64

    public init() {}
}

/// A bound of `ExpansionBounds` was reached.
struct ExpansionLimit: Error {
    let reason: String
}

/// The expansions of a volume that are under way.
final class Expansions: Sendable {
    private struct State {
        var large = 0
        var helpers = 0
    }

    private let state = Monitor(State(), rank: .expansions)

    /// Waits for the turn of a large expansion; false where it does not come in time.
    func beginLarge(until deadline: Int64, isCancelled: () -> Bool) -> Bool {
        state.withLock { state in
            while state.large >= ExpansionBounds.largeMax {
                let left = deadline - MonotonicClock.milliseconds
                guard left > 0, !isCancelled() else { return false }
                self.state.wait(&state, milliseconds: Int(min(left, 100)))
            }
            state.large += 1
            return true
        }
    }

    func endLarge() {
        state.withLock { $0.large -= 1 }
        state.wakeAll()
    }

    /// Takes a place for a helping thread; false where all are taken.
    func beginHelper() -> Bool {
        state.withLock { state in
            guard state.helpers < ExpansionBounds.helpersMax else { return false }
            state.helpers += 1
            return true
        }
    }

    func endHelper() { state.withLock { $0.helpers -= 1 } }
}

/// One look into a directory of others, within its bounds.
final class Expansion: Sendable {
    typealias Link = MerkleDAG.DirectoryEntry

    private struct State {
        var isLarge = false
        var nodeBytes = 0
        var childBytes = 0
        var nodes: [StoredNode] = []
    }

    /// Gives the block of a CID, within so many milliseconds.
    typealias Fetch = @Sendable (CID, Int) throws(BlockUnavailable) -> [UInt8]

    private let others: Expansions
    private let bounds: ExpansionBounds
    private let log: Logger
    private let isCancelled: @Sendable () -> Bool
    private let fetch: Fetch
    private let seen: SeenNodes?
    private let deadline: Int64
    private let state = Monitor(State())

    /// - Parameters:
    ///   - others: those that run beside it.
    ///   - isCancelled: ends its waiting for its turn.
    init(
        beside others: Expansions, _ bounds: ExpansionBounds, log: Logger,
        isCancelled: @escaping @Sendable () -> Bool, seen: SeenNodes? = nil,
        fetch: @escaping Fetch
    ) {
        self.others = others
        self.bounds = bounds
        self.log = log
        self.isCancelled = isCancelled
        self.fetch = fetch
        self.seen = seen
        deadline = MonotonicClock.milliseconds + Int64(bounds.milliseconds)
    }

    /// One of blocks that are here or elsewhere.
    ///
    /// - Parameters:
    ///   - fetcher: nil: of what is here alone.
    ///   - cancellation: ends it; nil: with the fetcher.
    convenience init(
        _ volume: Volume, _ fetcher: Fetcher?, cancellation: Cancellation? = nil
    ) {
        guard let fetcher else {
            self.init(
                beside: volume.remotes.localExpansions, ExpansionBounds(), log: volume.log,
                isCancelled: { cancellation?.isCancelled ?? false }
            ) { (cid, _) throws(BlockUnavailable) in
                try DAGSource(volume: volume).block(cid)
            }
            return
        }
        let cancellation = cancellation ?? fetcher.cancellation
        // Helping threads fetch for whoever waits here.
        let user = volume.remotes.waits.user
        self.init(
            beside: fetcher.expansions, fetcher.options.expansion, log: volume.log,
            isCancelled: { cancellation.isCancelled }, seen: fetcher.seen
        ) { (cid, milliseconds) throws(BlockUnavailable) in
            var source = VolumeBlocks(
                volume: volume, fetcher: fetcher, cancellation: cancellation, user: user)
            source.milliseconds = min(fetcher.options.fetchMilliseconds, milliseconds)
            return try source.block(cid)
        }
    }

    /// Must be called once, when what was found is put away.
    func end() {
        if state.withLock({ $0.isLarge }) { others.endLarge() }
    }

    /// The directory's own nodes, as far as they were read.
    var nodes: [StoredNode] { state.withLock { $0.nodes } }

    /// The links of a directory that are entries of a file system.
    func links(of directory: CID) throws(DAGReadError) -> [Link] {
        let source = Blocks(expansion: self, isChild: false)
        var links: [Link] = []
        var failure: ExpansionLimit?
        var unusable = 0
        try DirectoryReader(root: directory, source: source).forEachEntry { entry in
            guard Volume.isUsable(entry.name) else {
                unusable += 1
                return true
            }
            do throws(ExpansionLimit) {
                try charge(entries: links.count + 1)
            } catch {
                failure = error
                return false
            }
            links.append(entry)
            return true
        }
        if let failure { throw .unavailable(BlockUnavailable(directory, cause: failure)) }
        if unusable > 0 {
            log.warning("directory \(directory): \(unusable) entries no file could name")
        }
        return links
    }

    /// What the entries of a directory are, in the order of the links; what cannot be in a file system
    /// is left out, and told in the log. A block is asked for once, however many links lead to it.
    func children(
        of directory: CID, _ links: [Link]
    ) throws(DAGReadError) -> [Volume.ExpandedEntry] {
        let kinds = ChildKinds(
            links: links, source: Blocks(expansion: self, isChild: true), others)
        let found = try kinds.find()
        var children: [Volume.ExpandedEntry] = []
        children.reserveCapacity(links.count)
        var (targetBytes, leftOut) = (0, 0)
        for link in links {
            switch found.kind(of: link) {
            case .success(let entry):
                if case .symlink(let target, _) = entry { targetBytes += target.count }
                children.append(
                    Volume.ExpandedEntry(
                        name: FileName(link.name), cid: link.cid, treeSize: link.treeSize,
                        entry: entry))
            case .failure(let error):
                leftOut += 1
                guard leftOut <= Self.namedMax else { continue }
                log.warning(
                    "directory \(directory): \(shown(link.name)) is left out: \(error.reason)")
            }
        }
        if leftOut > Self.namedMax {
            log.warning(
                "directory \(directory): \(leftOut) entries are left out, those named among them")
        }
        guard targetBytes <= bounds.targetBytesMax else {
            let limit = ExpansionLimit(
                reason: "directory \(directory): its symlinks' targets have \(targetBytes) bytes, "
                    + "more than \(bounds.targetBytesMax)")
            throw .unavailable(BlockUnavailable(directory, cause: limit))
        }
        return children
    }

    /// Entries of one directory that are named in the log where they are left out.
    private static let namedMax = 8

    /// The Tsize of a directory whose nodes a profile makes of its entries; nil where it makes others.
    static func ownTreeSize(
        _ cid: CID, _ children: [Volume.ExpandedEntry], by profile: ImportProfile
    ) -> UInt64? {
        var builder = DirectoryBuilder(profile: profile)
        for child in children {
            let (cid, treeSize) = child.canonical(by: profile)
            builder.add(name: child.name.bytes, cid: cid, treeSize: treeSize)
        }
        guard let root = try? builder.finish(emit: { _, _ in }), root.cid == cid else { return nil }
        return root.treeSize
    }

    // MARK: Bounds

    private func charge(entries count: Int) throws(ExpansionLimit) {
        guard count <= bounds.entriesMax else {
            throw ExpansionLimit(reason: "it has more than \(bounds.entriesMax) entries")
        }
        if count > ExpansionBounds.smallEntriesMax { try becomeLarge() }
    }

    private func charge(_ cid: CID, _ bytes: [UInt8], isChild: Bool) throws(ExpansionLimit) {
        let (sum, bound) = state.withLock { state in
            if isChild {
                state.childBytes += bytes.count
                return (state.childBytes, bounds.childBytesMax)
            }
            state.nodeBytes += bytes.count
            state.nodes.append(StoredNode(multihash: cid.multihash.bytes, bytes: bytes))
            return (state.nodeBytes, bounds.nodeBytesMax)
        }
        guard sum <= bound else {
            throw ExpansionLimit(
                reason: "its \(isChild ? "entries'" : "own") blocks have more than \(bound) bytes")
        }
        // Before the block is decoded, which may take several times its size.
        if !isChild, sum > ExpansionBounds.smallNodeBytesMax { try becomeLarge() }
    }

    private func becomeLarge() throws(ExpansionLimit) {
        guard !state.withLock({ $0.isLarge }) else { return }
        guard others.beginLarge(until: deadline, isCancelled: isCancelled) else {
            throw ExpansionLimit(reason: "other large directories are being read")
        }
        state.withLock { $0.isLarge = true }
    }

    /// Blocks that count.
    private struct Blocks: BlockSource {
        let expansion: Expansion
        /// Not one of the directory's own nodes.
        let isChild: Bool

        func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
            let expansion = expansion
            let left = expansion.deadline - MonotonicClock.milliseconds
            guard left > 0 else {
                throw BlockUnavailable(
                    cid,
                    cause: ExpansionLimit(
                        reason: "it took longer than \(expansion.bounds.milliseconds) ms"))
            }
            let bytes = try expansion.fetch(cid, Int(clamping: left))
            do throws(ExpansionLimit) {
                try expansion.charge(cid, bytes, isChild: isChild)
            } catch {
                throw BlockUnavailable(cid, cause: error)
            }
            if isChild { expansion.seen?.keep(cid, bytes) }
            return bytes
        }
    }
}

/// Finds out what the children of a directory are, several at a time, each block once.
private final class ChildKinds<Source: BlockSource & Sendable>: Sendable {
    private struct State {
        var next = 0
        var found: [CID: Result<UnixFSEntry, DAGReadError>] = [:]
        var failure: DAGReadError?
    }

    private let unknown: [CID]
    private let source: Source
    private let others: Expansions
    private let state = Monitor(State())

    init(links: [Expansion.Link], source: Source, _ others: Expansions) {
        var seen: Set<CID> = []
        unknown = links.lazy.filter { !$0.isKnown }.map(\.cid).filter { seen.insert($0).inserted }
        self.source = source
        self.others = others
    }

    func find() throws(DAGReadError) -> ChildKinds {
        var threads: [JoinableThread] = []
        // Without more threads it takes longer.
        while threads.count < min(ExpansionBounds.threadsMax, unknown.count) - 1,
            others.beginHelper()
        {
            guard
                let thread = try? Threads.start(name: "rfs-expand", { [self] in work() })
            else {
                others.endHelper()
                break
            }
            threads.append(thread)
        }
        work()
        for thread in threads {
            thread.join()
            others.endHelper()
        }
        if let failure = state.withLock({ $0.failure }) { throw failure }
        return self
    }

    func kind(of link: Expansion.Link) -> Result<UnixFSEntry, DAGReadError> {
        if link.isKnown {
            do throws(DAGReadError) {
                return .success(try source.entry(of: link.cid, treeSize: link.treeSize))
            } catch {
                return .failure(error)
            }
        }
        return state.withLock { $0.found[link.cid] } ?? .failure(.notFile(link.cid))
    }

    private func work() {
        while let cid = next() {
            do throws(DAGReadError) {
                let entry = try source.unixfsEntry(cid)
                state.withLock { $0.found[cid] = .success(entry) }
            } catch {
                state.withLock { state in
                    if error.isOfContent {
                        state.found[cid] = .failure(error)
                    } else {
                        state.failure = error
                    }
                }
            }
        }
    }

    private func next() -> CID? {
        state.withLock { state in
            guard state.failure == nil, state.next < unknown.count else { return nil }
            defer { state.next += 1 }
            return unknown[state.next]
        }
    }
}

extension Volume.ExpandedEntry {
    /// The CID that an entry will have in the tree: of files, the one that they come with.
    fileprivate func canonical(by profile: ImportProfile) -> (CID, UInt64) {
        switch entry {
        case .file(0, _):
            let leaf = profile.leaf(UnsafeRawBufferPointer(start: nil, count: 0))
            return (leaf.cid, leaf.treeSize)
        case .symlink(let target, _):
            let root = profile.symlink(target: target).root
            return (root.cid, root.treeSize)
        case .file, .directory: return (cid, treeSize)
        }
    }
}

extension MerkleDAG.DirectoryEntry {
    /// Whether the link itself says what it leads to.
    fileprivate var isKnown: Bool { BlockSources.isKnown(cid, treeSize: treeSize) }
}

private enum BlockSources {
    static let emptyLeaf = CID.raw(sha256: [])

    /// A raw block is a file, as long as the link to it says; some writers say nothing.
    static func isKnown(_ cid: CID, treeSize: UInt64) -> Bool {
        cid.codec == .raw && cid.multihash.code != .identity
            && (treeSize > 0 || cid == emptyLeaf)
    }
}

extension BlockSource {
    /// What a CID is. A raw one is a file, as long as the link to it says, and is not asked for.
    ///
    /// - Throws: `malformed` for a raw one that would be longer than a block can be.
    func entry(of cid: CID, treeSize: UInt64) throws(DAGReadError) -> UnixFSEntry {
        guard BlockSources.isKnown(cid, treeSize: treeSize) else { return try unixfsEntry(cid) }
        guard treeSize <= UInt64(DAGNode.blockSizeMax) else {
            throw .malformed(cid, .blockTooLarge(byteCount: Int(clamping: treeSize)))
        }
        return .file(size: treeSize, metadata: .none)
    }
}

/// What a directory of others holds, found out as a volume finds it out, with blocks from anywhere.
public struct ForeignDirectory: Sendable {
    /// Its entries that a file system can have.
    public let entries: [(name: [UInt8], entry: UnixFSEntry)]
    /// Whether the profile makes the same nodes of them.
    public let isOwn: Bool

    /// Looks into a directory.
    ///
    /// - Parameter fetch: gives a block; called on several threads.
    public init(
        _ cid: CID, within bounds: ExpansionBounds, profile: ImportProfile,
        fetch: @escaping @Sendable (CID) throws(BlockUnavailable) -> [UInt8]
    ) throws(DAGReadError) {
        let log = Logger(label: "directory") { _ in SwiftLogNoOpLogHandler() }
        let expansion = Expansion(
            beside: Expansions(), bounds, log: log, isCancelled: { false }
        ) { (cid, _) throws(BlockUnavailable) in try fetch(cid) }
        defer { expansion.end() }
        let children = try expansion.children(of: cid, expansion.links(of: cid))
        entries = children.map { ($0.name.bytes, $0.entry) }
        isOwn = Expansion.ownTreeSize(cid, children, by: profile) != nil
    }
}
