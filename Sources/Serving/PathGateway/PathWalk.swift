internal import Base
internal import MerkleDAG
internal import Multiformats

/// What a path leads to, with what of it is known from its root block.
enum PathEnd: Sendable {
    /// A file of one raw block, which is here.
    case raw(BytesPlace)
    /// Another file, by its size in bytes.
    case file(size: UInt64)
    case directory
    case symlink(target: [UInt8])
    /// Content of another codec.
    case other(Multicodec)
}

/// Where a path leads to.
struct PathResult: Sendable {
    /// The names that were followed.
    var names: [[UInt8]]
    /// One CID for each name of the path, the root's first; of a sharded directory only that of its root.
    var cids: [CID]
    var cid: CID
    var end: PathEnd

    /// The CIDs for X-Ipfs-Roots; nil of a path so long that the field would be longer than some take.
    var roots: String? {
        cids.count <= Self.rootsShownMax ? cids.map { "\($0)" }.joined(separator: ",") : nil
    }

    private static let rootsShownMax = 64
}

/// Follows names from a root down, and the symlinks on the way, which lead nowhere out of the tree below it.
struct PathWalk {
    /// The most symlinks on the way of one path, as in path_resolution(7).
    static let symlinkCountMax = 40
    /// The most names of one path with those of its symlinks.
    static let stepCountMax = 4096

    private typealias Directory = DirectoryReader<ServedBlocks>

    private enum Opened {
        case directory(Directory)
        case symlink(target: [UInt8])
        case file
        /// Of a codec that nothing is known of here.
        case foreign(Multicodec)
    }

    /// A place on the way, with its directory where that was read.
    private struct Place {
        var cid: CID
        var opened: Opened?
    }

    private let content: any ServedContent
    private let scope: BlockScope
    private let reach: BlockReach
    private let blocks: ServedBlocks
    private var symlinkCount = 0
    private var stepCount = 0

    init(_ content: any ServedContent, scope: BlockScope, reach: BlockReach) {
        self.content = content
        self.scope = scope
        self.reach = reach
        blocks = ServedBlocks(content, scope: scope, reach: reach)
    }

    /// What names lead to; nil where the tree has nothing there. There is nothing at names that are `.`, `..`, empty, or have a
    /// slash or a NUL, nor where symlinks lead out of the tree or in a circle.
    ///
    /// - Parameter followsLast: whether a symlink at the end is followed as one on the way is.
    /// - Throws: `notFound` for a block that is not to be had.
    mutating func follow(
        _ names: [[UInt8]], from root: CID, followsLast: Bool
    ) throws(ServeFault) -> PathResult? {
        guard names.allSatisfy(Self.isName) else { return nil }
        var way = [Place(cid: root)]
        var cids = [root]
        var left = names.count
        for name in names {
            left -= 1
            if left > 0 || followsLast {
                guard try step(&way, name) else { return nil }
            } else {
                guard let cid = try entry(name, &way) else { return nil }
                way.append(Place(cid: cid))
            }
            cids.append(way[way.count - 1].cid)
        }
        let place = way[way.count - 1]
        return PathResult(names: names, cids: cids, cid: place.cid, end: try end(place))
    }

    /// The names in a directory, in bytewise order.
    ///
    /// - Parameter cancellation: ends the reading of shards, of which there can be many more than names.
    /// - Throws: `tooLarge` beyond `ServedNames.countMax`.
    func entries(
        _ cid: CID, cancellation: Cancellation?
    ) throws(ServeFault) -> [DirectoryEntry] {
        var entries: [DirectoryEntry] = []
        var isTooMany = false
        var isCancelled = false
        do throws(DAGReadError) {
            try Directory(root: cid, source: blocks).forEachEntry { entry in
                isTooMany = entries.count == ServedNames.countMax
                isCancelled = cancellation?.isCancelled ?? false
                if !isTooMany { entries.append(entry) }
                return !isTooMany && !isCancelled
            }
        } catch {
            throw ServeFault(error)
        }
        guard !isTooMany else { throw .tooLarge(reason: "more than \(ServedNames.countMax) names") }
        guard !isCancelled else { throw .failed(reason: "the client is gone") }
        return entries.sorted { $0.name.lexicographicallyPrecedes($1.name) }
    }

    /// Whether bytes can be a name in a path.
    static func isName(_ name: [UInt8]) -> Bool {
        !name.isEmpty && !name.contains(UInt8(ascii: "/")) && !name.contains(0)
            && !name.elementsEqual(".".utf8) && !name.elementsEqual("..".utf8)
    }

    /// One name further, and whatever the symlinks there add.
    ///
    /// - Returns: false where nothing is there.
    private mutating func step(
        _ way: inout [Place], _ name: [UInt8]
    ) throws(ServeFault) -> Bool {
        var pending = [name]
        while let name = pending.popLast() {
            stepCount += 1
            guard stepCount <= Self.stepCountMax else { return false }
            if name.elementsEqual(".".utf8) { continue }
            if name.elementsEqual("..".utf8) {
                // The root is where the tree ends.
                guard way.count > 1 else { return false }
                way.removeLast()
                continue
            }
            guard let cid = try entry(name, &way) else { return false }
            let opened = try open(cid)
            guard case .symlink(let target) = opened else {
                // One directory at a time is in memory, however deep the way is and large they are.
                way[way.count - 1].opened = nil
                way.append(Place(cid: cid, opened: opened))
                continue
            }
            symlinkCount += 1
            guard symlinkCount <= Self.symlinkCountMax, target.first != UInt8(ascii: "/") else {
                return false
            }
            pending += target.split(separator: UInt8(ascii: "/")).reversed().map(Array.init)
        }
        return true
    }

    /// What a name at the end of the way leads to; nil where no directory is there that has it.
    private func entry(_ name: [UInt8], _ way: inout [Place]) throws(ServeFault) -> CID? {
        let place = way[way.count - 1]
        let opened: Opened
        if let known = place.opened {
            opened = known
        } else {
            opened = try open(place.cid)
            way[way.count - 1].opened = opened
        }
        if case .foreign(let codec) = opened {
            throw .unsuitable(reason: "a path through content of codec \(codec)")
        }
        guard case .directory(let directory) = opened else { return nil }
        do throws(DAGReadError) {
            return try directory.entry(name)?.cid
        } catch {
            throw ServeFault(error)
        }
    }

    private func open(_ cid: CID) throws(ServeFault) -> Opened {
        // A raw block is a file: it need not be read to know that nothing is below it.
        if cid.codec == .raw { return .file }
        guard cid.codec == .dagPB else { return .foreign(cid.codec) }
        do throws(DAGReadError) {
            do throws(DAGReadError) {
                return .directory(try Directory(root: cid, source: blocks))
            } catch {
                guard case .notDirectory = error else { throw error }
            }
            if case .symlink(let target, _) = try blocks.unixfsEntry(cid) {
                return .symlink(target: target)
            }
            return .file
        } catch {
            throw ServeFault(error)
        }
    }

    private func end(_ place: Place) throws(ServeFault) -> PathEnd {
        let cid = place.cid
        if case .directory = place.opened { return .directory }
        guard cid.codec == .dagPB else {
            guard cid.codec == .raw else { return .other(cid.codec) }
            guard cid.multihash.code != .identity else { return .raw(.bytes(cid.multihash.digest)) }
            return .raw(try content.block(cid, scope: scope, reach: reach))
        }
        do throws(DAGReadError) {
            switch try blocks.unixfsEntry(cid) {
            case .file(let size, _): return .file(size: size)
            case .directory: return .directory
            case .symlink(let target, _): return .symlink(target: target)
            }
        } catch {
            throw ServeFault(error)
        }
    }
}
