public import Multiformats

/// Why a DAG could not be handed over.
public enum DAGWalkError<SinkFailure: Error>: Error {
    /// A block could not be read.
    case read(DAGReadError)
    /// Whoever takes the blocks failed.
    case sink(SinkFailure)
}

extension BlockSource {
    /// Hands over every block of a DAG once: a DAG node, then what its links lead to, in their order.
    ///
    /// This is the order of `ipfs dag export`. Knows raw, dag-pb and dag-cbor blocks; blocks that lie in
    /// their own CID (identity) are not handed over. Blocks for as long as the source does. Keeps
    /// the CIDs that were seen, and the links on the way down, at most 2^20.
    ///
    /// - Parameter blockCountMax: throws `tooMany` beyond; bounds memory to some 80 bytes a block.
    public func forEachBlock<Failure: Error>(
        below root: CID, blockCountMax: Int = 1 << 22,
        _ body: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(DAGWalkError<Failure>) {
        var seen: Set<CID> = []
        // What is still to be visited, the next one last.
        var pending = [root]
        while let cid = pending.popLast() {
            guard seen.insert(cid.asV1).inserted else { continue }
            guard seen.count <= blockCountMax else { throw .read(.tooMany(limit: blockCountMax)) }
            let block: [UInt8]
            let links: [CID]
            do throws(DAGReadError) {
                block = try verifiedBlock(cid)
                links = try cid.checkedLinks(in: block)
                guard pending.count + links.count <= 1 << 20 else { throw .tooDeep(cid) }
            } catch {
                throw .read(error)
            }
            if cid.multihash.code != .identity {
                do throws(Failure) {
                    try body(cid, block)
                } catch {
                    throw .sink(error)
                }
            }
            pending.append(contentsOf: links.reversed())
            // A DAG may link to what was handed over again and again: it is not looked for long.
            expect(pending.suffix(Self.expectedMax).reversed().filter { !seen.contains($0.asV1) })
        }
    }

    /// How many of the next blocks the source is told of.
    private static var expectedMax: Int { 32 }
}

extension CID {
    /// What a block of this CID links to; nothing where it is malformed, or of a codec that is not known here.
    public func linksOfBlock(_ block: [UInt8]) -> [CID] { (try? checkedLinks(in: block)) ?? [] }

    /// What a block of this CID links to; knows raw, dag-pb and dag-cbor blocks.
    func checkedLinks(in block: [UInt8]) throws(DAGReadError) -> [CID] {
        switch codec {
        case .raw:
            return []
        case .dagPB:
            do throws(BlockFormatError) {
                return try block.withRawBytes { (raw) throws(BlockFormatError) in
                    try DAGNodeLayout(decoding: raw).links.map(\.cid)
                }
            } catch {
                throw .malformed(self, error)
            }
        case .dagCBOR:
            do throws(DAGCBORError) {
                return try DAGCBOR.links(in: block)
            } catch {
                throw .malformed(self, .notCBOR)
            }
        default:
            throw .unsupportedCodec(self)
        }
    }
}
