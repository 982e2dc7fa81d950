internal import Base
public import MerkleDAG
public import Multiformats

internal import struct SystemPackage.Errno

/// The blocks of served content, for the readers of DAGs.
public struct ServedBlocks: BlockSource {
    /// What the content said, which a reader of DAGs passes on as a cause only.
    public final class Faults {
        fileprivate(set) var last: ServeFault?
    }

    private let content: any ServedContent
    private let scope: BlockScope
    private let reach: BlockReach
    private let faults: Faults?

    public init(
        _ content: any ServedContent, scope: BlockScope, reach: BlockReach, faults: Faults? = nil
    ) {
        self.content = content
        self.scope = scope
        self.reach = reach
        self.faults = faults
    }

    public func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        do throws(ServeFault) {
            return try content.block(cid, scope: scope, reach: reach).read()
        } catch {
            faults?.last = error
            throw BlockUnavailable(cid, cause: error)
        }
    }

    public func expect(_ cids: [CID]) {
        if reach == .everywhere { content.expect(cids) }
    }

    /// Does what reads a DAG; its errors become faults.
    public static func reading<Result>(
        _ body: (Faults) throws(DAGReadError) -> Result
    ) throws(ServeFault) -> Result {
        let faults = Faults()
        do throws(DAGReadError) {
            return try body(faults)
        } catch {
            throw ServeFault(error)
        }
    }
}

extension ServeFault {
    /// Why a DAG cannot be read.
    public init(_ error: DAGReadError) {
        switch error {
        case .unavailable(let missing): self = missing.cause as? ServeFault ?? .notFound
        case .wrongBytes(let cid): self = .damaged(cid)
        case .noSuchEntry: self = .notFound
        case .tooMany(let limit): self = .tooLarge(reason: "more than \(limit) entries")
        case .unsupportedHash, .unsupportedCodec, .malformed, .tooDeep, .notFile, .notDirectory,
            .duplicateName:
            self = .unsuitable(reason: "\(error)")
        }
    }
}

extension BytesPlace {
    /// The bytes themselves, read where they lie.
    ///
    /// - Precondition: they are few enough to be in memory.
    public func read() throws(ServeFault) -> [UInt8] {
        switch self {
        case .bytes(let bytes): return bytes
        case .file(let range):
            var failure: Errno?
            let bytes = [UInt8](unsafeUninitializedCapacity: Int(range.count)) { room, count in
                do throws(Errno) {
                    count = try Sys.read(
                        range.file.raw, at: range.offset,
                        into: UnsafeMutableRawBufferPointer(room))
                } catch {
                    failure = error
                }
            }
            guard failure == nil, bytes.count == Int(range.count) else {
                let reason = failure.map { "\($0)" } ?? "cut short"
                throw .failed(reason: "reading what a daemon lent: \(reason)")
            }
            return bytes
        }
    }
}
