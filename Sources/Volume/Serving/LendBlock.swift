internal import Base
internal import InodeManifest
internal import MerkleDAG
public import Multiformats
internal import Remotes

internal import struct SystemPackage.Errno

extension Volume {
    /// A block for others: its bytes, compared with its hash; or where they lie as a part of a flat file, whose hash was known when
    /// it was sealed. Blocks for the disk, and for whoever has it elsewhere. SQLite is not told of what changed for it, but
    /// where nobody has the block, and then once a second for all.
    ///
    /// - Parameter asksRemote: gets it from elsewhere where it is not here.
    /// - Throws: `notFound` also for what is out of scope.
    public func lendBlock(
        _ cid: CID, of scope: ContentScope, asksRemote: Bool
    ) throws(ServingFailure) -> LentBytes {
        let found = try findServed(cid, scope, isFile: false)
        guard found.isInScope else { throw .notFound }
        let lent = try lendLocal(cid, found)
        if let lent {
            if case .bytes(let block) = lent { noteLinks(of: block, cid, scope) }
            return lent
        }
        if let kept = serving.fetched.withLock({ $0[cid] }) {
            noteLinks(of: kept, cid, scope)
            return .bytes(kept)
        }
        let isDamaged = found.isHere
        guard asksRemote, let fetcher else {
            throw isDamaged ? .damaged(reason: "\(cid): run registryfs check") : .notFound
        }
        let block = try fetchServed(cid, scope, fetcher)
        // Whoever has no leaves to give has directories at least, also where he is asked for what is here alone.
        if cid.codec != .raw { serving.fetched.withLock { $0.keep(block, cid) } }
        noteLinks(of: block, cid, scope)
        return .bytes(block)
    }

    /// Whether a block is here, and others may have it. Blocks for SQLite.
    public func hasBlock(_ cid: CID, of scope: ContentScope) throws(ServingFailure) -> Bool {
        let found = try findServed(cid, scope, isFile: false)
        return found.isInScope && found.isHere
    }

    private func lendLocal(
        _ cid: CID, _ found: ServedSearch
    ) throws(ServingFailure) -> LentBytes? {
        if found.isEmptyFile {
            return .bytes(profile.leafBlock(UnsafeRawBufferPointer(start: nil, count: 0)))
        }
        if let node = found.node, Self.isBlock(node, of: cid) { return .bytes(node) }
        for place in found.leaves {
            if let lent = try lendLeaf(place, cid) { return lent }
        }
        if let target = found.target {
            let block = profile.symlink(target: target).block
            if Self.isBlock(block, of: cid) { return .bytes(block) }
        }
        return nil
    }

    private static func isBlock(_ bytes: [UInt8], of cid: CID) -> Bool {
        (try? bytes.withUnsafeBytes { try cid.verify($0) }) != nil
    }

    private func lendLeaf(
        _ place: ServedSearch.LeafPlace, _ cid: CID
    ) throws(ServingFailure) -> LentBytes? {
        let chunk = UInt64(profile.chunkSize)
        let (start, isBeyond) = place.number.multipliedReportingOverflow(by: chunk)
        let step = try serve("block \(cid)") { () throws(Errno) in
            try lendingStep(place.object, as: place.cid)
        }
        switch step {
        case .none, .cached: return nil
        case .inline, .read: break
        case .lend(let size):
            // What frames a leaf lies in no file.
            guard profile.rawLeaves else { break }
            guard !isBeyond, start < size else { return nil }
            if let file = try lendFlat(place.object, as: place.cid) {
                return .file(file, offset: start, count: min(chunk, size - start))
            }
        }
        let block = try serve("block \(cid)") { () throws(Errno) in
            try leafBlock(place.number, of: place.object)
        }
        return block.flatMap { Self.isBlock($0, of: cid) ? .bytes($0) : nil }
    }

    // MARK: Elsewhere

    private func fetchServed(
        _ cid: CID, _ scope: ContentScope, _ fetcher: Fetcher
    ) throws(ServingFailure) -> [UInt8] {
        var source = VolumeBlocks(volume: self, fetcher: fetcher)
        // Of what nobody knows to be of the tree, no peers are asked: everyone would wait.
        source.asksPeers = scope == .tree
        do throws(BlockUnavailable) {
            return try source.block(cid)
        } catch {
            let cause = error.cause as? RemoteError
            let reason = cause.map { "\($0)" } ?? "\(cid): it is not to be had"
            switch cause?.kind {
            case nil, .notFound: throw .notFound
            case .timeout: throw .timedOut
            case .unreachable, .busy, .cancelled: throw .unavailable(reason: reason)
            case .wrongBytes: throw .damaged(reason: reason)
            case .refused, .conflict, .full, .failed: throw .failed(reason: reason)
            }
        }
    }

    /// Notes what a block in scope links to. Below what is elsewhere nothing here tells what belongs to the tree, so whoever goes
    /// down from a block of it may have what it led to; but not uploads.
    private func noteLinks(of block: [UInt8], _ cid: CID, _ scope: ContentScope) {
        guard scope == .tree, cid.codec == .dagPB else { return }
        // What is below the directory of uploads is refused from now on, whoever asks for it by its CID.
        let isOfUploads = serving.uploads.withLock { $0[cid.multihash.bytes] != nil }
        let name = Self.uploadsName.bytes
        let hasUploads = Self.contains(name, block)
        guard hasUploads || isOfUploads || fetcher != nil,
            let node = try? DAGNode(decoding: block), !node.links.isEmpty
        else { return }
        let isShard = node.data.flatMap { try? UnixFSData(decoding: $0) }?.kind == .hamtShard
        // A shard puts the number of the place, two digits, before each name.
        let isUploads = { (link: DAGLink) in
            (isShard ? Array(link.name.dropFirst(2)) : link.name) == name
        }
        let links = node.links.map { (isUploads($0), $0.cid.multihash.bytes) }
        if fetcher != nil, !isOfUploads {
            serving.linked.withLock { linked in
                for (_, multihash) in links { linked.insert(multihash) }
            }
        }
        guard hasUploads || isOfUploads else { return }
        // Of those that are empty nobody learns anything, and other directories are as well.
        let empty = emptyDirectory
        serving.uploads.withLock { uploads in
            for (isUploads, multihash) in links where multihash != empty {
                if isOfUploads {
                    uploads.note(multihash, .below)
                } else if isUploads, uploads[multihash] == nil {
                    uploads.note(multihash, .directory)
                }
            }
        }
    }

    /// Whether a block has some bytes in it, anywhere.
    private static func contains(_ name: [UInt8], _ block: [UInt8]) -> Bool {
        guard let first = name.first, block.count >= name.count else { return false }
        for start in 0...block.count - name.count where block[start] == first {
            if block[start..<start + name.count].elementsEqual(name) { return true }
        }
        return false
    }

    /// The multihash of a directory without entries; nil where it cannot be made.
    private var emptyDirectory: [UInt8]? {
        var builder = DirectoryBuilder(profile: profile)
        let root = try? builder.finish { (_, _) throws(Never) in }
        return root?.cid.multihash.bytes
    }
}
