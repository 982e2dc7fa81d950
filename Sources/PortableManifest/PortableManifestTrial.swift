public import Multiformats

/// A place to try what the readers of a portable manifest make of blocks that may be anything: for the
/// fuzz target, which is a package of its own.
public struct PortableManifestTrial {
    private struct NoSuchBlock: Error {}

    /// The blocks that there are.
    public var blocks: [CID: [UInt8]] = [:]

    public init() {}

    /// Reads a block as the root of a manifest and as a directory, writes what was read, and reads that.
    ///
    /// Traps where what was read cannot be written, or comes back as another thing.
    ///
    /// - Returns: whether the block was either.
    public func read(_ cid: CID) -> Bool {
        if let root = try? PortableRoot.read(cid, get: block) {
            let again = try? root.write { (_, _) throws(NoSuchBlock) in }
            precondition(again == cid, "a root has one form")
            _ = try? PortableManifest.verify(cid, get: block)
            return true
        }
        guard let entries = try? entries(of: cid) else { return false }
        var written = PortableManifestTrial()
        guard let again = try? written.write(entries) else {
            preconditionFailure("what was read can be written")
        }
        precondition(
            (try? written.entries(of: again)) == entries, "what was written is what was read")
        return true
    }

    private func block(_ cid: CID) throws(NoSuchBlock) -> [UInt8] {
        guard let block = blocks[cid] else { throw NoSuchBlock() }
        return block
    }

    private func entries(
        of directory: CID
    ) throws(PortableReadError<NoSuchBlock>) -> [PortableEntry] {
        var reader = PortableDirectoryReader(directory)
        var entries: [PortableEntry] = []
        while let entry = try reader.next(block) { entries.append(entry) }
        return entries
    }

    private mutating func write(
        _ entries: [PortableEntry]
    ) throws(PortableWriteError<NoSuchBlock>) -> CID {
        var builder = PortableDirectoryBuilder()
        for entry in entries {
            try builder.add(entry) { (cid, block) throws(NoSuchBlock) in blocks[cid] = block }
        }
        return try builder.finish { (cid, block) throws(NoSuchBlock) in blocks[cid] = block }
    }
}
