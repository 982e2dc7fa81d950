public import Multiformats

/// An entry of a directory.
public struct DirectoryEntry: Hashable, Sendable {
    /// The name, any bytes. Whether a file system can have it is for the caller to check.
    public var name: [UInt8]
    /// What it leads to.
    public var cid: CID
    /// What the writer said all of it weighs, in bytes. Not checked.
    public var treeSize: UInt64
}

/// A DAG node of a sharded directory, checked.
struct HAMTShard {
    /// A link and where it stands.
    enum Slot {
        case entry(DirectoryEntry)
        case shard(CID)
    }

    let cid: CID
    let shape: HAMTShape
    let bitfield: HAMTBitfield
    let links: [DAGLink]

    init(_ block: UnixFSBlock) throws(DAGReadError) {
        do throws(BlockFormatError) {
            try self.init(checking: block)
        } catch {
            throw .malformed(block.cid, error)
        }
    }

    private init(checking block: UnixFSBlock) throws(BlockFormatError) {
        guard let fields = block.fields, fields.kind == .hamtShard,
            fields.hashType == Multicodec.murmur3X64_64.rawValue,
            let fanout = fields.fanout.flatMap({ Int(exactly: $0) }),
            (8...1024).contains(fanout), fanout.nonzeroBitCount == 1,
            let bitfield = block.bytes.withRawBytes({ raw in
                HAMTBitfield(
                    decoding: UnsafeRawBufferPointer(rebasing: raw[block.contentRange]),
                    fanout: fanout)
            }),
            bitfield.count == block.links.count
        else { throw .badShard }
        cid = block.cid
        shape = HAMTShape(fanout: fanout)
        self.bitfield = bitfield
        links = block.links

        var expected: [UInt8] = []
        var index = 0
        for bucket in 0..<fanout where bitfield.contains(bucket) {
            expected.removeAll(keepingCapacity: true)
            shape.appendPrefix(of: bucket, to: &expected)
            guard links[index].name.starts(with: expected) else { throw .badShardLink }
            index += 1
        }
    }

    func slot(_ index: Int) -> Slot {
        let link = links[index]
        guard link.name.count > shape.prefixLength else { return .shard(link.cid) }
        return .entry(
            DirectoryEntry(
                name: Array(link.name.dropFirst(shape.prefixLength)), cid: link.cid,
                treeSize: link.treeSize))
    }

    /// Each place takes one entry, so this also keeps names from coming twice, and shards from being
    /// linked twice.
    ///
    /// - Parameter path: the bits of the hash that led to the entry, its bucket among them.
    func checkPlace(of entry: DirectoryEntry, depth: Int, path: UInt64) throws(DAGReadError) {
        let hash = entry.name.withUnsafeBytes { Murmur3.hash64($0) }
        guard hash >> (64 - UInt64(shape.bitsPerLevel) * UInt64(depth + 1)) == path else {
            throw .malformed(cid, .badShardLink)
        }
    }

    /// The bucket that stands behind each link.
    func bucket(_ index: Int) -> UInt64 {
        links[index].name.prefix(shape.prefixLength).reduce(0) { number, digit in
            number << 4 | UInt64(digit < 0x41 ? digit - 0x30 : digit - 0x41 + 10)
        }
    }
}

/// Reads a directory, sharded or not.
///
/// Keeps the root block; a sharded directory costs one block for each level of a lookup.
public struct DirectoryReader<Source: BlockSource> {
    private enum Form {
        case basic([DAGLink])
        case sharded(HAMTShard)
    }

    private let source: Source
    private let form: Form

    /// The root of the directory.
    public let root: CID
    /// The attributes in the root.
    public let metadata: UnixFSMetadata

    /// Whether the directory is spread over several DAG nodes.
    public var isSharded: Bool {
        if case .sharded = form { true } else { false }
    }

    /// Opens a directory: reads and checks its root.
    public init(root: CID, source: Source) throws(DAGReadError) {
        let block = try source.unixfsBlock(root)
        guard let fields = block.fields else { throw .notDirectory(root) }
        switch fields.kind {
        case .directory:
            form = .basic(block.links)
        case .hamtShard:
            form = .sharded(try HAMTShard(block))
        case .file, .raw, .symlink, .metadata:
            throw .notDirectory(root)
        }
        self.source = source
        self.root = root
        metadata = fields.metadata
    }

    /// Finds the entry of a name; nil if there is none.
    public func entry(_ name: [UInt8]) throws(DAGReadError) -> DirectoryEntry? {
        switch form {
        case .basic(let links):
            return links.first { $0.name == name }.map {
                DirectoryEntry(name: $0.name, cid: $0.cid, treeSize: $0.treeSize)
            }
        case .sharded(var shard):
            let hash = name.withUnsafeBytes { Murmur3.hash64($0) }
            var depth = 0
            while true {
                let bucket = shard.shape.bucket(of: hash, depth: depth)
                guard shard.bitfield.contains(bucket) else { return nil }
                switch shard.slot(shard.bitfield.rank(of: bucket)) {
                case .entry(let entry):
                    return entry.name == name ? entry : nil
                case .shard(let cid):
                    depth += 1
                    shard = try childShard(cid, depth: depth, shape: shard.shape)
                }
            }
        }
    }

    private func childShard(
        _ cid: CID, depth: Int, shape: HAMTShape
    ) throws(DAGReadError) -> HAMTShard {
        guard depth < shape.depthMax else { throw .tooDeep(cid) }
        let shard = try HAMTShard(try source.unixfsBlock(cid))
        // An empty shard could be linked everywhere, and walking it would never end.
        guard shard.shape.fanout == shape.fanout, !shard.links.isEmpty else {
            throw .malformed(cid, .badShard)
        }
        return shard
    }

    /// Calls `body` with every entry until it returns false.
    ///
    /// The order is that of the blocks: by name in one DAG node, by hash in a sharded directory. Keeps
    /// one shard for each level in memory.
    ///
    /// - Throws: `duplicateName`, among others; so no two calls had the same name.
    public func forEachEntry(_ body: (DirectoryEntry) -> Bool) throws(DAGReadError) {
        switch form {
        case .basic(let links):
            try checkUnique(links)
            for link in links {
                let entry = DirectoryEntry(name: link.name, cid: link.cid, treeSize: link.treeSize)
                guard body(entry) else { return }
            }
        case .sharded(let shard):
            _ = try walk(shard, depth: 0, path: 0, body)
        }
    }

    /// The entries, at most `countMax` of them.
    ///
    /// - Throws: `tooMany` if there are more.
    public func entries(countMax: Int = 1 << 22) throws(DAGReadError) -> [DirectoryEntry] {
        var entries: [DirectoryEntry] = []
        var isTooMany = false
        try forEachEntry { entry in
            isTooMany = entries.count == countMax
            if !isTooMany { entries.append(entry) }
            return !isTooMany
        }
        guard !isTooMany else { throw .tooMany(limit: countMax) }
        return entries
    }

    private func checkUnique(_ links: [DAGLink]) throws(DAGReadError) {
        let isAscending = zip(links, links.dropFirst()).allSatisfy { left, right in
            left.name.lexicographicallyPrecedes(right.name)
        }
        guard !isAscending else { return }
        var seen: Set<[UInt8]> = []
        for link in links where !seen.insert(link.name).inserted {
            throw .duplicateName(root, link.name)
        }
    }

    /// - Parameter path: the bits of the hash that led here.
    /// - Returns: whether to go on.
    private func walk(
        _ shard: HAMTShard, depth: Int, path: UInt64, _ body: (DirectoryEntry) -> Bool
    ) throws(DAGReadError) -> Bool {
        let bits = UInt64(shard.shape.bitsPerLevel)
        for index in shard.links.indices {
            let slotPath = path << bits | shard.bucket(index)
            switch shard.slot(index) {
            case .entry(let entry):
                try shard.checkPlace(of: entry, depth: depth, path: slotPath)
                guard body(entry) else { return false }
            case .shard(let cid):
                let child = try childShard(cid, depth: depth + 1, shape: shard.shape)
                guard try walk(child, depth: depth + 1, path: slotPath, body) else { return false }
            }
        }
        return true
    }
}

// What two directories have differently.
extension DirectoryReader {
    /// Takes an entry of the older directory, of this one, or both of one name that lead to different CIDs.
    public typealias DifferenceBody = (_ old: DirectoryEntry?, _ new: DirectoryEntry?) -> Bool

    /// Calls `body` with what two directories have differently, until it returns false; in no order.
    ///
    /// Of two directories that are sharded in the same way, shards that both have are not read. Of others one is
    /// in memory meanwhile.
    ///
    /// - Throws: as `forEachEntry`; `tooMany` for a directory of more than 4 Mi entries that is compared with one of another kind.
    public func forEachDifference(
        from older: DirectoryReader, _ body: DifferenceBody
    ) throws(DAGReadError) {
        if case .sharded(let old) = older.form, case .sharded(let new) = form,
            old.shape.fanout == new.shape.fanout
        {
            _ = try compare(old, new, of: older, depth: 0, path: 0, body)
            return
        }
        // The smaller one, where that is known.
        let holdsNew = older.isSharded && !isSharded
        var held: [[UInt8]: DirectoryEntry] = [:]
        for entry in try (holdsNew ? self : older).entries() { held[entry.name] = entry }
        var isOver = false
        func tell(_ held: DirectoryEntry?, _ other: DirectoryEntry?) -> Bool {
            isOver = holdsNew ? !body(other, held) : !body(held, other)
            return !isOver
        }
        try (holdsNew ? older : self).forEachEntry { entry in
            let other = held.removeValue(forKey: entry.name)
            return other?.cid == entry.cid || tell(other, entry)
        }
        for entry in held.values where !isOver { _ = tell(entry, nil) }
    }

    /// - Parameter path: the bits of the hash that led here.
    /// - Returns: whether to go on.
    private func compare(
        _ old: HAMTShard, _ new: HAMTShard, of older: DirectoryReader, depth: Int, path: UInt64,
        _ body: DifferenceBody
    ) throws(DAGReadError) -> Bool {
        var (left, right) = (0, 0)
        while left < old.links.count || right < new.links.count {
            let leftBucket = left < old.links.count ? old.bucket(left) : .max
            let rightBucket = right < new.links.count ? new.bucket(right) : .max
            let place = path << UInt64(new.shape.bitsPerLevel) | min(leftBucket, rightBucket)
            var (before, now): (HAMTShard.Slot?, HAMTShard.Slot?)
            if leftBucket <= rightBucket {
                before = old.slot(left)
                left += 1
            }
            if rightBucket <= leftBucket {
                now = new.slot(right)
                right += 1
            }
            if case .entry(let entry)? = before {
                try old.checkPlace(of: entry, depth: depth, path: place)
            }
            if case .entry(let entry)? = now {
                try new.checkPlace(of: entry, depth: depth, path: place)
            }
            let goesOn: Bool
            switch (before, now) {
            case (.shard(let before)?, .shard(let now)?):
                if before == now { continue }
                let oldChild = try older.childShard(before, depth: depth + 1, shape: old.shape)
                let newChild = try childShard(now, depth: depth + 1, shape: new.shape)
                goesOn = try compare(
                    oldChild, newChild, of: older, depth: depth + 1, path: place, body)
            case (.shard(let before)?, _):
                let child = try older.childShard(before, depth: depth + 1, shape: old.shape)
                goesOn = try older.compare(
                    child, with: now?.entry, depth: depth + 1, path: place, body)
            case (_, .shard(let now)?):
                let child = try childShard(now, depth: depth + 1, shape: new.shape)
                goesOn = try compare(child, with: before?.entry, depth: depth + 1, path: place) {
                    body($1, $0)
                }
            case (_, _):
                goesOn = Self.tell(before?.entry, now?.entry, body)
            }
            guard goesOn else { return false }
        }
        return true
    }

    /// Compares a shard of this directory with the one entry that the other has in its place.
    ///
    /// - Parameter body: gets what is of this directory first.
    private func compare(
        _ shard: HAMTShard, with other: DirectoryEntry?, depth: Int, path: UInt64,
        _ body: DifferenceBody
    ) throws(DAGReadError) -> Bool {
        var other = other
        let goesOn = try walk(shard, depth: depth, path: path) { entry in
            guard let same = other, same.name == entry.name else { return body(entry, nil) }
            other = nil
            return Self.tell(entry, same, body)
        }
        guard goesOn, let other else { return goesOn }
        return body(nil, other)
    }

    private static func tell(
        _ old: DirectoryEntry?, _ new: DirectoryEntry?, _ body: DifferenceBody
    ) -> Bool {
        guard let old, let new, old.name != new.name else {
            return old?.cid == new?.cid || body(old, new)
        }
        return body(old, nil) && body(nil, new)
    }
}

extension HAMTShard.Slot {
    fileprivate var entry: DirectoryEntry? {
        if case .entry(let entry) = self { entry } else { nil }
    }
}

extension BlockSource {
    /// Follows names from a directory down.
    ///
    /// - Throws: `noSuchEntry` for a name that is not there, `notDirectory` where the way ends.
    public func resolve(
        _ names: some Sequence<[UInt8]>, from root: CID
    ) throws(DAGReadError) -> CID {
        var cid = root
        for name in names {
            let directory = try DirectoryReader(root: cid, source: self)
            guard let entry = try directory.entry(name) else {
                throw .noSuchEntry(cid, name: name)
            }
            cid = entry.cid
        }
        return cid
    }
}
