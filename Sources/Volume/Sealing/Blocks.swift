internal import Base
internal import InodeManifest
internal import MerkleDAG
public import Multiformats
internal import ObjectStore
internal import Remotes

internal import struct SystemPackage.Errno

extension Volume {
    /// The block of a CID, checked against its hash: a leaf cut out of its object, or a node; what is not
    /// here is asked of the volume's node, if it has one. Blocks for the disk, and for the node.
    /// Makes what was changed before known, which costs a commit.
    ///
    /// - Throws: `blockNotFound`, `blockDamaged`, `blockAtRemote`, `operation`.
    public func block(_ cid: CID) throws(VolumeError) -> [UInt8] {
        do throws(Errno) {
            try manifest.checkpoint()
        } catch {
            throw .operation(failed: "block \(cid)", error)
        }
        return try committedBlock(cid, isOfTree: false)
    }

    /// - Parameter isOfTree: the block is known to be one of the volume's content.
    func committedBlock(_ cid: CID, isOfTree: Bool) throws(VolumeError) -> [UInt8] {
        var search = BlockSearch(isOfTree: isOfTree)
        let found: [UInt8]?
        do throws(Errno) {
            found = try findBlock(cid, &search)
        } catch {
            throw .operation(failed: "block \(cid)", error)
        }
        if let found { return found }
        guard !search.isDamaged else { throw .blockDamaged(cid) }
        return try blockAtRemote(cid, isOfTree: search.isOfTree)
    }

    /// The block of a CID where it is here, and was at the last checkpoint; nil where it is not, or is damaged.
    func localBlock(_ cid: CID) -> [UInt8]? {
        var search = BlockSearch(isOfTree: false)
        return try? findBlock(cid, &search)
    }

    /// What was found out while a block was looked for.
    private struct BlockSearch {
        var isOfTree: Bool
        var isDamaged = false
    }

    /// A block that may be at the node. Its peers are asked for what the volume's content has alone: any
    /// other CID that nobody knows would have everyone wait.
    private func blockAtRemote(_ cid: CID, isOfTree: Bool) throws(VolumeError) -> [UInt8] {
        guard let fetcher else {
            guard isOfTree else { throw .blockNotFound(cid) }
            throw .blockAtRemote(
                cid, reason: "nobody is known who has it: name one by --gateway, --car or --kubo")
        }
        var source = VolumeBlocks(volume: self, fetcher: fetcher)
        source.asksPeers = isOfTree
        do throws(BlockUnavailable) {
            return try source.block(cid)
        } catch {
            guard isOfTree else { throw .blockNotFound(cid) }
            let cause = error.cause as? RemoteError
            throw .blockAtRemote(cid, reason: cause.map { "\($0)" } ?? "it is not there")
        }
    }

    /// Tries every place that may hold the block, until one verifies.
    private func findBlock(
        _ cid: CID, _ search: inout BlockSearch
    ) throws(Errno) -> [UInt8]? {
        var isDamaged = false
        defer { if isDamaged { search.isDamaged = true } }
        func verified(_ block: [UInt8]?) -> [UInt8]? {
            guard let block else { return nil }
            guard (try? block.withUnsafeBytes({ try cid.verify($0) })) != nil else {
                isDamaged = true
                return nil
            }
            return block
        }
        let multihash = cid.multihash.bytes
        if let stored = try reading({ (state) throws(Errno) in try state.rows.node(with: multihash)
        }),
            let block = verified(stored)
        {
            return block
        }
        let places = try reading { (state) throws(Errno) in
            try objectsWithRoot(cid, state).map { (object: $0, number: UInt64(0)) }
                + state.rows.leaves(with: multihash)
        }
        if !places.isEmpty { search.isOfTree = true }
        for place in places {
            if let block = verified(try leafBlock(place.number, of: place.object)) { return block }
        }
        let (targets, isNotLoaded) = try inodes(with: cid)
        if isNotLoaded { search.isOfTree = true }
        for target in targets {
            if let block = verified(profile.symlink(target: target).block) { return block }
        }
        let empty = profile.leafBlock(UnsafeRawBufferPointer(start: nil, count: 0))
        return (try? empty.withUnsafeBytes({ try cid.verify($0) })) != nil ? empty : nil
    }

    /// Objects whose root has the CID, in either version.
    private func objectsWithRoot(
        _ cid: CID, _ state: ManifestState
    ) throws(Errno) -> [UInt64] {
        var ids = try state.objects(with: cid.asV1)
        if let version0 = cid.asV0 { ids += try state.objects(with: version0) }
        return ids
    }

    /// The targets of symlinks of that CID, and whether a directory has it whose nodes are not here.
    private func inodes(with cid: CID) throws(Errno) -> ([[UInt8]], isNotLoaded: Bool) {
        try reading { (state) throws(Errno) in
            var inodes = try state.rows.inodes(with: cid.asV1)
            if let version0 = cid.asV0 { inodes += try state.rows.inodes(with: version0) }
            var targets: [[UInt8]] = []
            var isNotLoaded = false
            for id in inodes {
                guard let record = try state.inode(Inode(id)) else { continue }
                if record.kind == .symlink { targets.append(record.target) }
                if !record.isLoaded { isNotLoaded = true }
            }
            return (targets, isNotLoaded)
        }
    }

    /// A leaf as a block, cut out of its object; nil where the object is gone or shorter.
    func leafBlock(_ number: UInt64, of object: UInt64) throws(Errno) -> [UInt8]? {
        let chunk = UInt64(profile.chunkSize)
        let (start, overflow) = number.multipliedReportingOverflow(by: chunk)
        let source = try reading { (state) throws(Errno) -> (Content, UInt64)? in
            guard let record = try state.object(object), !overflow, start <= record.size,
                record.state != .remote
            else { return nil }
            let content: Content =
                record.isInline
                ? .inline(try state.inlineBytes(of: record))
                : .flat(try opens.filesAhead(state).file(object, forWriting: false, state))
            return (content, record.size)
        }
        guard let (content, size) = source else { return nil }
        return try leafBlock(number, of: content, size: size)
    }

    /// A leaf as a block, cut out of a file's content; nil where that is shorter.
    func leafBlock(
        _ number: UInt64, of content: Content, size: UInt64
    ) throws(Errno) -> [UInt8]? {
        let chunk = UInt64(profile.chunkSize)
        let (start, overflow) = number.multipliedReportingOverflow(by: chunk)
        guard !overflow, start <= size else { return nil }
        let length = Int(min(chunk, size - start))
        switch content {
        case .empty, .remote: return nil
        case .inline(let bytes):
            guard Int(start) + length <= bytes.count else { return nil }
            return bytes[Int(start)..<Int(start) + length].withUnsafeBytes {
                profile.leafBlock($0)
            }
        case .flat(let file):
            // Into the block itself, where nothing frames a leaf: large ones are copied nowhere.
            var result: Result<Int, Errno> = .success(0)
            let bytes = [UInt8](unsafeUninitializedCapacity: max(length, 1)) { room, count in
                let part = UnsafeMutableRawBufferPointer(
                    UnsafeMutableBufferPointer(rebasing: room[..<length]))
                do throws(Errno) {
                    count = try Sys.read(file.raw, at: start, into: part)
                    result = .success(count)
                } catch {
                    result = .failure(error)
                }
            }
            guard try result.get() == length else { return nil }
            return profile.rawLeaves ? bytes : bytes.withUnsafeBytes { profile.leafBlock($0) }
        }
    }
}
