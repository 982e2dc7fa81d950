public import Base
internal import HTTP
internal import MerkleDAG
public import Multiformats

extension KuboClient {
    /// Gives a block, checked against its CID.
    ///
    /// Tried again where the node is away or busy. A CID that holds its content (identity) is
    /// answered here. Unless `isOffline`, the call is not one of the configuration's
    /// `connectionsMax`, but of `KuboClient.searchesMax`, of which each user has a share.
    ///
    /// - Parameters:
    ///   - isOffline: the node asks no peers, and answers `notFound` at once for a block it lacks.
    ///   - deadlineMilliseconds: the limit for all of it, waiting for a connection and repetitions
    ///     counted.
    ///   - memory: what the block is received into; the caller may give it back with the block.
    ///   - user: on whose behalf; nil for nobody's.
    /// - Throws: `protocolViolation` for other bytes than the CID's, and for more than 2 MiB.
    public func block(
        _ cid: CID, isOffline: Bool = false, deadlineMilliseconds: Int? = nil,
        cancellation: Cancellation? = nil, memory: ReplyMemory? = nil, user: UInt32? = nil
    ) throws(KuboError) -> [UInt8] {
        if cid.multihash.code == .identity {
            return cid.multihash.digest
        }
        var call = Call("block/get", .harmless, subject: "\(cid)")
        call.add(argument: "\(cid)")
        if isOffline { call.add("offline", true) }
        call.asksPeers = !isOffline
        call.user = user
        call.limit(toMilliseconds: deadlineMilliseconds)
        call.replyBytesMax = DAGNode.blockSizeMax
        call.cancellation = cancellation
        call.memory = memory
        let bytes = try perform(call)
        do throws(MultihashError) {
            try bytes.withBytes { (raw) throws(MultihashError) in try cid.verify(raw) }
        } catch {
            switch error {
            case .unsupportedFunction(let code):
                throw call.error(.refused, "the hash function \(code) is not known here")
            default:
                throw call.error(
                    .protocolViolation, "the node gave \(bytes.count) bytes that are not this block"
                )
            }
        }
        return bytes
    }

    /// Says whether the node itself holds a block. Asks no peers. Tried again.
    public func hasBlock(
        _ cid: CID, cancellation: Cancellation? = nil
    ) throws(KuboError) -> Bool {
        if cid.multihash.code == .identity { return true }
        var call = Call("block/stat", .harmless, subject: "\(cid)")
        call.add(argument: "\(cid)")
        call.add("offline", true)
        call.cancellation = cancellation
        do throws(KuboError) {
            let status = try call.decode(BlockStatus.self, from: perform(call))
            guard matches(status.Key, cid) else {
                throw call.error(.protocolViolation, "the node speaks of another block")
            }
            return true
        } catch {
            guard error.kind == .notFound else { throw error }
            return false
        }
    }

    /// Streams blocks to the node, in one request (`dag/import` of a CARv1).
    ///
    /// No more than one block is held here at a time, besides the network's buffers. Tried again only
    /// until the first block was asked for, because blocks are asked for once; after a failure any
    /// part of them may be stored, and sending them all again is harmless.
    ///
    /// - Parameters:
    ///   - pinsRoots: CIDs that the node pins, recursively and without a name, when all is stored.
    ///   - next: the next block, whose bytes must be those of its CID; nil at the end. Blocks whose
    ///     CID holds the content are left out. Called on the calling thread; its time counts towards
    ///     no deadline.
    /// - Returns: how many blocks the node says it stored, which is how many were sent.
    /// - Throws: `protocolViolation` where those differ.
    @discardableResult
    public func importBlocks<Failure: Error>(
        pinsRoots roots: [CID] = [], cancellation: Cancellation? = nil,
        _ next: () throws(Failure) -> (cid: CID, bytes: [UInt8])?
    ) throws(KuboStreamError<Failure>) -> UInt64 {
        var call = Call("dag/import", .harmless)
        call.add("pin-roots", !roots.isEmpty)
        call.add("stats", true)
        let multipart = Multipart()
        call.isUpload = true
        call.contentType = multipart.contentType
        call.isLongWork = true
        call.replyBytesMax = Call.listingBytesMax
        call.cancellation = cancellation

        var sentCount: UInt64 = 0
        var isOpen = false
        var isOver = false
        let reply = try upload(call) { () throws(Failure) in
            if isOver { return nil }
            var pieces: [[UInt8]] = []
            if !isOpen {
                isOpen = true
                pieces = [multipart.blockHead(), CAR.encodedHeader(roots: roots)]
            }
            guard let (cid, bytes) = try next() else {
                isOver = true
                return pieces + [multipart.end]
            }
            // A block that lies in its CID is not stored by anyone.
            if cid.multihash.code != .identity {
                pieces.append(CAR.encodedSectionHead(cid, blockByteCount: bytes.count))
                pieces.append(bytes)
                sentCount += 1
            }
            return pieces
        }
        do throws(KuboError) {
            return try checkImport(reply, of: call, roots: roots, sentCount: sentCount)
        } catch {
            throw .kubo(error)
        }
    }

    private func checkImport(
        _ reply: [UInt8], of call: Call, roots: [CID], sentCount: UInt64
    ) throws(KuboError) -> UInt64 {
        var storedCount: UInt64?
        var pinnedRoots: Set<CID> = []
        for line in try call.decodeLines(ImportLine.self, from: reply) {
            if let stats = line.Stats { storedCount = stats.BlockCount }
            if let root = line.Root {
                if let message = root.PinErrorMsg, !message.isEmpty {
                    throw call.error(
                        ErrorReply.kind(status: 500, code: nil, message),
                        "a root was not pinned: \(message)")
                }
                pinnedRoots.insert(try call.cid(root.Cid.cid).asV1)
            }
        }
        guard storedCount == sentCount else {
            throw call.error(
                .protocolViolation,
                "\(sentCount) blocks were sent, and the node says that it stored "
                    + (storedCount.map { "\($0)" } ?? "it does not know how many"))
        }
        guard roots.allSatisfy({ pinnedRoots.contains($0.asV1) }) else {
            throw call.error(.protocolViolation, "the node does not say that it pinned all roots")
        }
        return sentCount
    }

    /// Sends blocks to the node, in one request for each codec among them (`block/put`).
    ///
    /// All of them are in memory; `importBlocks` streams. Tried again where the node is away or busy.
    ///
    /// - Throws: `protocolViolation` where the node gives a block another CID; `refused` for codecs
    ///   and hash functions that have no name here, and for blocks above 2 MiB.
    public func putBlocks(
        _ blocks: [(cid: CID, bytes: [UInt8])], cancellation: Cancellation? = nil
    ) throws(KuboError) {
        var groups: [BlockFormat: [(cid: CID, bytes: [UInt8])]] = [:]
        for block in blocks where block.cid.multihash.code != .identity {
            guard let format = BlockFormat(block.cid) else {
                throw Call("block/put", .harmless, subject: "\(block.cid)").error(
                    .refused, "blocks of this codec or hash function cannot be put")
            }
            groups[format, default: []].append(block)
        }
        for (format, group) in groups {
            try putBlocks(group, as: format, cancellation)
        }
    }

    private func putBlocks(
        _ blocks: [(cid: CID, bytes: [UInt8])], as format: BlockFormat,
        _ cancellation: Cancellation?
    ) throws(KuboError) {
        var call = Call(
            "block/put", .harmless, subject: blocks.count == 1 ? "\(blocks[0].cid)" : nil)
        call.add("cid-codec", format.codec)
        call.add("mhtype", format.hash)
        let multipart = Multipart()
        var body: [[UInt8]] = []
        body.reserveCapacity(2 * blocks.count + 1)
        for (index, block) in blocks.enumerated() {
            body.append(multipart.blockHead(isFirst: index == 0))
            body.append(block.bytes)
        }
        body.append(multipart.end)
        call.isUpload = true
        call.body = body
        call.contentType = multipart.contentType
        call.isLongWork = true
        call.replyBytesMax = Call.listingBytesMax
        call.cancellation = cancellation
        let stored = try call.decodeLines(BlockStatus.self, from: perform(call))
        guard stored.count == blocks.count else {
            throw call.error(
                .protocolViolation,
                "\(blocks.count) blocks were sent, and the node names \(stored.count)")
        }
        for (answer, block) in zip(stored, blocks) where !matches(answer.Key, block.cid) {
            throw call.error(
                .protocolViolation, "the node stored \(block.cid) as \(KuboError.line(answer.Key))")
        }
    }

    func matches(_ text: String, _ cid: CID) -> Bool {
        guard let other = try? CID(parsing: text) else { return false }
        return other.asV1 == cid.asV1
    }
}

extension Multipart {
    /// What stands before a block's bytes; the node takes any names.
    fileprivate func blockHead(isFirst: Bool = true) -> [UInt8] {
        head(name: "file", filename: "block", isFirst: isFirst)
    }
}

private struct BlockStatus: Decodable {
    var Key: String
    var Size: UInt64
}

private struct ImportLine: Decodable {
    struct Statistics: Decodable {
        var BlockCount: UInt64
    }

    struct Root: Decodable {
        var Cid: JSONLink
        var PinErrorMsg: String?
    }

    var Stats: Statistics?
    var Root: Root?
}

/// What `block/put` has to be told of blocks, by the names of the multicodec table.
private struct BlockFormat: Hashable {
    var codec: String
    var hash: String

    /// Nil for what has no name here.
    init?(_ cid: CID) {
        switch cid.codec {
        case .raw: codec = "raw"
        case .dagPB: codec = "dag-pb"
        case .dagCBOR: codec = "dag-cbor"
        case .dagJSON: codec = "dag-json"
        default: return nil
        }
        switch cid.multihash.code {
        case .sha2_256: hash = "sha2-256"
        case .sha2_512: hash = "sha2-512"
        default: return nil
        }
    }
}
