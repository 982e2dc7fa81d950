internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats
internal import Remotes

internal import struct SystemPackage.Errno

/// Blocks from here where they are nodes of the volume, else from the node.
struct VolumeBlocks: BlockSource {
    let volume: Volume
    let fetcher: Fetcher
    /// Ends the calls; nil: with the link.
    var cancellation: Cancellation?
    /// Has the node look among its peers for what it lacks.
    var asksPeers = true
    /// On whose behalf; nil: on the volume's own.
    var user: UInt32?
    /// How long a block may take; nil for as long as a read waits.
    var milliseconds: Int?
    /// When all of it has to be done, in milliseconds of `MonotonicClock`.
    var deadline: Int64?

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        try block(cid, memory: nil)
    }

    /// Gives a block, compared with its CID wherever it comes from.
    ///
    /// - Parameter memory: what a block of the node is received into; nil for memory of its own.
    func block(_ cid: CID, memory: ReplyMemory?) throws(BlockUnavailable) -> [UInt8] {
        if let seen = fetcher.seen.take(cid) { return seen }
        if cid.codec == .dagPB,
            let stored = try? volume.reading({ (state) throws(Errno) in
                try state.rows.node(with: cid.multihash.bytes)
            }), (try? stored.withUnsafeBytes({ try cid.verify($0) })) != nil
        {
            return stored
        }
        // Whoever goes down a domain's tree, name by name, asks for each of its directories twice.
        let isRemembered = memory == nil && cid.codec == .dagPB && volume.options.domains != nil
        if isRemembered, let known = volume.domains.node(cid) { return known }
        do throws(RemoteError) {
            let block = try getAny(cid, memory)
            if isRemembered { volume.domains.note(cid, block) }
            return block
        } catch {
            // A tree of the volume's own that was imported again is asked for by others' rules.
            if let found = volume.localBlock(cid) { return found }
            throw BlockUnavailable(cid, cause: error)
        }
    }

    private func getAny(_ cid: CID, _ memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
        // What the node has itself is not to wait behind what it has to look for.
        do throws(RemoteError) {
            return try get(cid, asksPeers: false, memory)
        } catch {
            guard asksPeers, error.kind == .notFound else { throw error }
        }
        return try get(cid, asksPeers: true, memory)
    }

    private func get(
        _ cid: CID, asksPeers: Bool, _ memory: ReplyMemory?
    ) throws(RemoteError) -> [UInt8] {
        var allowed = milliseconds ?? fetcher.options.fetchMilliseconds
        if let deadline {
            let left = deadline - MonotonicClock.milliseconds
            guard left > 0 else {
                throw RemoteError(.timeout, "block \(cid): the lookup has taken too long")
            }
            allowed = min(allowed, Int(left))
        }
        var request = BlockRequest(cid, deadlineMilliseconds: allowed)
        request.asksPeers = asksPeers
        request.cancellation = cancellation ?? fetcher.cancellation
        request.user = user
        let block = try fetcher.block(request, memory: memory)
        fetcher.noteFetched(bytes: block.count)
        return block
    }
}
