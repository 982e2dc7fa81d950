internal import MerkleDAG
public import Multiformats

/// The tree below a root CID, by its blocks.
public struct DAGTree: ServedTree {
    public let root: CID
    private let content: any ServedContent
    private let scope: BlockScope
    private let reach: BlockReach

    public init(
        root: CID, in content: any ServedContent, scope: BlockScope, reach: BlockReach = .everywhere
    ) {
        self.root = root
        self.content = content
        self.scope = scope
        self.reach = reach
    }

    public func entry(at path: [[UInt8]]) throws(ServeFault) -> ServedEntry? {
        guard let cid = try cid(at: path) else { return nil }
        return try ServedBlocks.reading { (faults) throws(DAGReadError) in
            switch try blocks(faults).unixfsEntry(cid) {
            case .file(let size, _): .file(cid, size: size)
            case .directory: .directory
            case .symlink(let target, _): .symlink(target: target)
            }
        }
    }

    public func names(at path: [[UInt8]]) throws(ServeFault) -> [ServedName]? {
        guard let cid = try cid(at: path) else { return nil }
        return try ServedBlocks.reading { (faults) throws(DAGReadError) in
            let directory: DirectoryReader<ServedBlocks>
            do throws(DAGReadError) {
                directory = try DirectoryReader(root: cid, source: blocks(faults))
            } catch {
                if case .notDirectory = error { return nil }
                throw error
            }
            let entries = try directory.entries(countMax: ServedNames.countMax)
            // Only a block tells what a name leads to, and a listing must not ask for one of each.
            return entries.map { ServedName(name: $0.name, mayBeDirectory: $0.cid.codec != .raw) }
                .sorted { $0.name.lexicographicallyPrecedes($1.name) }
        }
    }

    /// The CID that a path leads to.
    public func cid(at path: [[UInt8]]) throws(ServeFault) -> CID? {
        try ServedBlocks.reading { (faults) throws(DAGReadError) in
            do throws(DAGReadError) {
                return try blocks(faults).resolve(path, from: root)
            } catch {
                switch error {
                case .noSuchEntry, .notDirectory: return nil
                default: throw error
                }
            }
        }
    }

    private func blocks(_ faults: ServedBlocks.Faults) -> ServedBlocks {
        ServedBlocks(content, scope: scope, reach: reach, faults: faults)
    }
}
