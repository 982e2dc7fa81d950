internal import Base
internal import MerkleDAG
public import Multiformats

extension KuboClient {
    /// Gives a block, checked against its CID.
    ///
    /// Tried again where the node is away or busy. A CID that holds its content (identity) is
    /// answered here.
    ///
    /// - Parameters:
    ///   - isOffline: the node asks no peers, and answers `notFound` at once for a block it lacks.
    ///   - deadlineMilliseconds: the limit for all of it, waiting for a connection and repetitions
    ///     counted.
    /// - Throws: `protocolViolation` for other bytes than the CID's, and for more than 2 MiB.
    public func block(
        _ cid: CID, isOffline: Bool = false, deadlineMilliseconds: Int? = nil,
        cancellation: Cancellation? = nil
    ) throws(KuboError) -> [UInt8] {
        if cid.multihash.code == .identity {
            return cid.multihash.digest
        }
        var call = Call("block/get", .harmless, subject: "\(cid)")
        call.add(argument: "\(cid)")
        if isOffline { call.add("offline", true) }
        if let deadlineMilliseconds {
            // The node shall give up a moment before us, which keeps the connection.
            let limit = max(1, deadlineMilliseconds - min(deadlineMilliseconds / 10, 100))
            call.add("timeout", "\(limit)ms")
        }
        call.replyBytesMax = DAGNode.blockSizeMax
        call.deadlineMilliseconds = deadlineMilliseconds
        call.cancellation = cancellation
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
            let status = try decode(BlockStatus.self, from: perform(call), of: call)
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
    ) throws(KuboUploadError<Failure>) -> UInt64 {
        let call = Call("dag/import", .onlyUnsent)
        throw .kubo(call.error(.failed, "not made yet"))
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
        throw Call("block/put", .harmless).error(.failed, "not made yet")
    }

    func matches(_ text: String, _ cid: CID) -> Bool {
        guard let other = try? CID(parsing: text) else { return false }
        return other.asV1 == cid.asV1
    }
}

private struct BlockStatus: Decodable {
    var Key: String
    var Size: UInt64
}
