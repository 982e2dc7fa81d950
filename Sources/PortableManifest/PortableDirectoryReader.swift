internal import MerkleDAG
package import Multiformats

/// Reads a directory of the manifest entry by entry, in byte order of the names.
///
/// Memory holds the chunk that is read, and the lists that led there. Every block is compared with its CID.
package struct PortableDirectoryReader: Sendable {
    private struct List {
        let level: Int
        let chunks: [DirectoryBlock.Chunk]
        /// The next chunk.
        var next = 0
    }

    /// The block that is the directory.
    package let directory: CID
    private let bounds: PortableReadBounds
    private var isOpened = false
    /// From the directory down to the chunk.
    private var lists: [List] = []
    private var entries: ArraySlice<DirectoryBlock.Entry> = []
    private var lastName: [UInt8]?
    private var entryCount = 0
    private var byteCount = 0
    /// The block of attributes that was read last: often the next entry has it too.
    private var lastAttributes: (cid: CID, values: [PortableExtendedAttribute])?

    /// Begins a directory; nothing is read yet.
    package init(_ directory: CID, bounds: PortableReadBounds = PortableReadBounds()) {
        self.directory = directory
        self.bounds = bounds
    }

    /// The next entry; nil at the end.
    ///
    /// A chunk is checked as a whole before the first of its entries is given. Blocks for as long as `get` does.
    ///
    /// - Parameter get: gives a block.
    /// - Throws: `unavailable` with what `get` threw; `damaged` where a block is not what it has to be.
    ///   The reader is used up then.
    package mutating func next<Failure: Error>(
        _ get: (CID) throws(Failure) -> [UInt8]
    ) throws(PortableReadError<Failure>) -> PortableEntry? {
        if !isOpened {
            isOpened = true
            try open(directory, below: nil, get)
        }
        while entries.isEmpty {
            guard let list = lists.last else { return nil }
            guard list.next < list.chunks.count else {
                lists.removeLast()
                continue
            }
            lists[lists.count - 1].next += 1
            let next = list.chunks[list.next]
            try open(next.cid, below: (list.level, next.firstName), get)
        }
        let next = entries.removeFirst()
        entryCount += 1
        guard entryCount <= bounds.entryCountMax else {
            throw .damaged(directory, .tooManyEntries(limit: bounds.entryCountMax))
        }
        lastName = next.entry.name
        guard let attributes = next.attributes else { return next.entry }
        var entry = next.entry
        entry.extendedAttributes = try extendedAttributes(attributes, of: entry.name, get)
        return entry
    }

    /// The chunks that will be asked for next, the nearest first, as far as the list at hand has them: for
    /// whoever fetches ahead.
    package func chunksAhead(countMax: Int) -> [CID] {
        guard let list = lists.last else { return [] }
        return list.chunks[list.next...].prefix(countMax).map(\.cid)
    }

    // MARK: Blocks

    /// - Parameter parent: the level of the list that leads here, and the name that it says; nil for the directory.
    private mutating func open<Failure: Error>(
        _ cid: CID, below parent: (level: Int, firstName: [UInt8])?,
        _ get: (CID) throws(Failure) -> [UInt8]
    ) throws(PortableReadError<Failure>) {
        let bytes = try block(cid, get)
        do throws(PortableFault) {
            let block = try DirectoryBlock(decoding: bytes)
            try check(block, below: parent)
            switch block {
            case .entries(let entries):
                self.entries = entries[...]
            case .chunks(let level, let chunks):
                lists.append(List(level: level, chunks: chunks))
            }
        } catch {
            throw .damaged(cid, error)
        }
    }

    private func check(
        _ block: DirectoryBlock, below parent: (level: Int, firstName: [UInt8])?
    ) throws(PortableFault) {
        let level: Int
        let firstName: [UInt8]?
        switch block {
        case .entries(let entries):
            level = 0
            firstName = entries.first?.entry.name
        case .chunks(let listLevel, let chunks):
            level = listLevel
            firstName = chunks.first?.firstName
            // A list of one chunk would be another directory of the same entries.
            guard parent != nil || chunks.count > 1 else { throw .tooFewChunks }
        }
        guard let parent else { return }
        guard level == parent.level - 1 else { throw .wrongLevel(UInt64(level)) }
        guard let firstName else { throw .tooFewChunks }
        guard firstName == parent.firstName else { throw .wrongFirstName(parent.firstName) }
        if let lastName {
            guard lastName.lexicographicallyPrecedes(firstName) else {
                throw .nameOutOfOrder(firstName)
            }
        }
    }

    private mutating func extendedAttributes<Failure: Error>(
        _ cid: CID, of name: [UInt8], _ get: (CID) throws(Failure) -> [UInt8]
    ) throws(PortableReadError<Failure>) -> [PortableExtendedAttribute] {
        if let lastAttributes, lastAttributes.cid == cid { return lastAttributes.values }
        let bytes = try block(cid, get)
        do throws(PortableFault) {
            let values = try ExtendedAttributeSet.decoded(bytes) { .entry(name, $0) }
            lastAttributes = (cid, values)
            return values
        } catch {
            throw .damaged(cid, error)
        }
    }

    private mutating func block<Failure: Error>(
        _ cid: CID, _ get: (CID) throws(Failure) -> [UInt8]
    ) throws(PortableReadError<Failure>) -> [UInt8] {
        let bytes = try verifiedBlock(cid, sizeMax: PortableManifest.blockSizeMax, get)
        byteCount += bytes.count
        guard byteCount <= bounds.byteCountMax else {
            throw .damaged(directory, .tooManyBytes(limit: bounds.byteCountMax))
        }
        return bytes
    }
}

/// Gives a block whose bytes are those that its CID asks for.
func verifiedBlock<Failure: Error>(
    _ cid: CID, sizeMax: Int, _ get: (CID) throws(Failure) -> [UInt8]
) throws(PortableReadError<Failure>) -> [UInt8] {
    guard PortableManifest.canBe(cid) else { throw .damaged(cid, .badCID) }
    let bytes: [UInt8]
    do throws(Failure) {
        bytes = try get(cid)
    } catch {
        throw .unavailable(cid, error)
    }
    guard bytes.count <= sizeMax else {
        throw .damaged(cid, .tooLarge(byteCount: bytes.count))
    }
    guard PortableManifest.cid(of: bytes) == cid else { throw .damaged(cid, .wrongBytes) }
    return bytes
}
