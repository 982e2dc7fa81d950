internal import Base
internal import MerkleDAG
public import Multiformats

extension ServeBody {
    /// A range of a file's bytes: from where they lie where that is here, else leaf by leaf.
    ///
    /// - Parameter range: within the file.
    /// - Throws: what its first bytes cannot be had for, before a status is sent.
    public static func file(
        _ cid: CID, range: Range<UInt64>, in content: any ServedContent, scope: BlockScope,
        reach: BlockReach = .everywhere
    ) throws(ServeFault) -> ServeBody {
        guard !range.isEmpty else { return .none }
        switch try content.wholeFile(cid, scope: scope) {
        case .bytes(let bytes):
            guard range.upperBound <= bytes.count else { throw .damaged(cid) }
            return .bytes(Array(bytes[Int(range.lowerBound)..<Int(range.upperBound)]))
        case .file(let whole):
            guard range.upperBound <= whole.count else { throw .damaged(cid) }
            return .pieces([
                .file(
                    FileRange(
                        whole.file, offset: whole.offset + range.lowerBound,
                        count: range.upperBound - range.lowerBound))
            ])
        case nil:
            let producer = try FileProducer(
                cid, range: range, ServedBlocks(content, scope: scope, reach: reach))
            return .producer(producer, count: range.upperBound - range.lowerBound)
        }
    }
}

/// Reads a range of a file leaf by leaf.
private final class FileProducer: BodyProducer {
    private struct State {
        var reader: FileReader<ServedBlocks>
        var offset: UInt64
        /// What was read before the answer began.
        var first: [UInt8]?
    }

    private let end: UInt64
    private let cid: CID
    private let state: Monitor<State>

    init(_ cid: CID, range: Range<UInt64>, _ blocks: ServedBlocks) throws(ServeFault) {
        var state: State
        do throws(DAGReadError) {
            state = State(
                reader: try FileReader(root: cid, source: blocks), offset: range.lowerBound)
        } catch {
            throw ServeFault(error)
        }
        guard range.upperBound <= state.reader.size else { throw .damaged(cid) }
        state.first = try Self.read(&state, to: range.upperBound, cid)
        self.cid = cid
        end = range.upperBound
        self.state = Monitor(state)
    }

    func next() throws(ServeFault) -> BytesPlace? {
        try state.withLock { (state) throws(ServeFault) in
            if let first = state.first.take() { return .bytes(first) }
            guard state.offset < end else { return nil }
            return .bytes(try Self.read(&state, to: end, cid))
        }
    }

    private static func read(
        _ state: inout State, to end: UInt64, _ cid: CID
    ) throws(ServeFault) -> [UInt8] {
        let leaf: FileLeaf?
        do throws(DAGReadError) {
            leaf = try state.reader.leaf(at: state.offset)
        } catch {
            throw ServeFault(error)
        }
        guard let leaf, leaf.fileRange.contains(state.offset) else { throw .damaged(cid) }
        let upper = min(end, leaf.fileRange.upperBound)
        let start = leaf.contentRange.lowerBound + Int(state.offset - leaf.fileRange.lowerBound)
        let bytes = Array(leaf.block[start..<start + Int(upper - state.offset)])
        state.offset = upper
        return bytes
    }
}
