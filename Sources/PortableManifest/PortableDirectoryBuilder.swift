package import Multiformats

/// Builds a directory of the manifest from its entries, which come in byte order of their names.
///
/// Gives its blocks away as they are full: memory holds a chunk (128 KiB of entries) for each level. The CID is a
/// function of the entries alone.
package struct PortableDirectoryBuilder: Sendable {
    /// That of the entries, then those of the lists of chunks.
    private var levels = [ChunkBuffer(level: 0)]
    private var previousName: [UInt8]?

    /// The entries so far.
    package private(set) var count = 0

    package init() {}

    /// Adds an entry.
    ///
    /// - Parameter emit: gets the blocks that are ready, children first; one that many entries or
    ///   directories have comes as often.
    /// - Throws: `refused` for what a manifest cannot have, and for a name that does not come behind the one
    ///   before; the builder is as if the entry had not been added. After `sink` it is used up.
    package mutating func add<Failure: Error>(
        _ entry: PortableEntry, emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(PortableWriteError<Failure>) {
        if let fault = entry.fault { throw .refused(.entry(entry.name, fault)) }
        if let previousName, !previousName.lexicographicallyPrecedes(entry.name) {
            throw .refused(.nameOutOfOrder(entry.name))
        }
        let attributes: EncodedAttributes
        do throws(PortableEntryFault) {
            attributes = try EncodedAttributes(entry.extendedAttributes)
        } catch {
            throw .refused(.entry(entry.name, error))
        }
        previousName = entry.name
        count += 1
        if case .apart(let cid, let block) = attributes {
            try hand(over: block, cid, to: emit)
        }
        levels[0].append(entry, attributes)
        try takeChunks(from: 0, emit: emit)
    }

    /// Ends the directory. The builder is used up.
    ///
    /// - Parameter emit: as of `add`; the directory's own block comes last.
    /// - Returns: the CID of the directory.
    package mutating func finish<Failure: Error>(
        emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(PortableWriteError<Failure>) -> CID {
        var level = 0
        while true {
            let isWhole = !levels[level].isCut
            let (firstName, block) = levels[level].takeRest()
            let cid = PortableManifest.cid(of: block)
            try hand(over: block, cid, to: emit)
            if isWhole { return cid }
            level += 1
            levels[level].append(firstName: firstName, cid)
            try takeChunks(from: level, emit: emit)
        }
    }

    /// Takes chunks that are full, each of which may fill one of the next level.
    private mutating func takeChunks<Failure: Error>(
        from first: Int, emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(PortableWriteError<Failure>) {
        var level = first
        while let (firstName, block) = levels[level].takeChunk() {
            let cid = PortableManifest.cid(of: block)
            try hand(over: block, cid, to: emit)
            level += 1
            if level == levels.count { levels.append(ChunkBuffer(level: level)) }
            levels[level].append(firstName: firstName, cid)
        }
    }

    private func hand<Failure: Error>(
        over block: [UInt8], _ cid: CID, to emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(PortableWriteError<Failure>) {
        precondition(block.count <= PortableManifest.blockSizeMax, "a chunk's weight bounds it")
        do throws(Failure) {
            try emit(cid, block)
        } catch {
            throw .sink(error)
        }
    }
}
