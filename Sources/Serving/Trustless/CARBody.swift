internal import Base
internal import MerkleDAG
internal import Multiformats

/// Writes a CAR block by block: the way to what was asked, then that.
///
/// In memory are a block, and what `DAGTraversal` keeps. Leaves that lie in files stay there. Where a block is not to be had
/// the body fails: the archive is cut off then.
final class CARBody: BodyProducer {
    private struct State {
        /// Bytes that were made already.
        var bytes: [UInt8]
        var way: ArraySlice<TrustlessPath.WayBlock>
        var traversal: DAGTraversal
        /// A block that was asked for before the answer began.
        var first: (cid: CID, place: BytesPlace)?
        /// What follows the last piece.
        var following: BytesPlace?
        /// What ended it, once what came before is sent.
        var fault: ServeFault?
    }

    /// Sections are put together up to this many bytes.
    private static let pieceSize = 64 << 10
    /// Larger blocks are pieces of their own, so that they are not copied.
    private static let copiedSizeMax = 16 << 10

    private let content: any ServedContent
    private let scope: BlockScope
    private let reach: BlockReach
    private let cancellation: Cancellation?
    /// Taken out while it is worked on: blocks are waited for, and no lock is held meanwhile.
    private let state: Monitor<State?>

    /// - Parameters:
    ///   - roots: what the header of the archive names.
    ///   - way: what comes first.
    ///   - first: a block that is there already, and its CID.
    init(
        roots: [CID], way: [TrustlessPath.WayBlock], traversal: DAGTraversal,
        first: (cid: CID, place: BytesPlace)?, content: any ServedContent, scope: BlockScope,
        reach: BlockReach, cancellation: Cancellation?
    ) {
        self.content = content
        self.scope = scope
        self.reach = reach
        self.cancellation = cancellation
        state = Monitor(
            State(
                bytes: CAR.encodedHeader(roots: roots), way: way[...], traversal: traversal,
                first: first))
    }

    func next() throws(ServeFault) -> BytesPlace? {
        // After an error nothing comes any more.
        guard var state = state.withLock({ $0.take() }) else { return nil }
        if let fault = state.fault { throw fault }
        let piece: BytesPlace?
        if let following = state.following.take() {
            piece = following
        } else {
            fill(&state)
            if state.bytes.isEmpty {
                if let fault = state.fault { throw fault }
                return nil
            }
            piece = .bytes(state.bytes)
            state.bytes = []
        }
        self.state.withLock { $0 = state }
        return piece
    }

    private func fill(_ state: inout State) {
        do throws(ServeFault) {
            while state.bytes.count < Self.pieceSize, state.following == nil {
                if cancellation?.isCancelled == true {
                    throw .failed(reason: "the client is gone")
                }
                guard let (cid, place) = try section(&state) else { return }
                guard place.count <= UInt64(DAGNode.blockSizeMax) else {
                    throw .tooLarge(reason: "\(cid) has more than 2 MiB")
                }
                state.bytes += CAR.encodedSectionHead(cid, blockByteCount: Int(place.count))
                if case .bytes(let block) = place, block.count <= Self.copiedSizeMax {
                    state.bytes += block
                } else {
                    state.following = place
                }
            }
        } catch {
            state.fault = error
        }
    }

    private func section(_ state: inout State) throws(ServeFault) -> (CID, BytesPlace)? {
        if let block = state.way.popFirst() {
            if let bytes = block.block { return (block.cid, .bytes(bytes)) }
            return (block.cid, try content.block(block.cid, scope: scope, reach: reach))
        }
        let source = FirstBlocks(
            first: state.first, blocks: ServedBlocks(content, scope: scope, reach: reach))
        let step: DAGStep?
        do throws(DAGReadError) {
            step = try state.traversal.next(from: source)
        } catch {
            throw ServeFault(error)
        }
        guard let step else { return nil }
        let first = state.first.take()
        if let block = step.block { return (step.cid, .bytes(block)) }
        if let first, first.cid == step.cid { return (step.cid, first.place) }
        return (step.cid, try content.block(step.cid, scope: scope, reach: reach))
    }
}

/// Blocks, one of which is there already.
struct FirstBlocks: BlockSource {
    let first: (cid: CID, place: BytesPlace)?
    let blocks: ServedBlocks

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        guard let first, first.cid == cid else { return try blocks.block(cid) }
        do throws(ServeFault) {
            return try first.place.read()
        } catch {
            throw BlockUnavailable(cid, cause: error)
        }
    }

    func expect(_ cids: [CID]) { blocks.expect(cids) }
}
