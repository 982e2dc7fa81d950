// Where a directory is cut into chunks.
//
// The weight of an entry is the length of its encoding without the index into `common`; that of an element of
// a list of chunks is its length. While what is left weighs more than `weightMax`, a chunk is taken from
// its front: up to the first name that is a boundary and has `weightMin` or more before it, else as much as
// does not weigh more than `weightMax`. What is left then is the last chunk, or the directory if it is the first.
//
// A name is a boundary if the upper 32 bits of Murmur3 x64 (64 bits, seed 0) of the name and a byte with
// the level are below weight << 17: one in 32 KiB of weight. So what names stand before and after does not
// matter, beyond a boundary or two; the level keeps the boundaries of one from being all those of the next.

internal import Base
internal import MerkleDAG
internal import Multiformats

/// The entries, or chunks, that are not in a block yet.
///
/// Holds `weightMax` and one entry more at most.
struct ChunkBuffer: Sendable {
    /// The least weight of a chunk that others follow.
    static let weightMin = 32 << 10
    /// The most weight of a chunk.
    static let weightMax = 128 << 10

    private struct Item {
        /// In what is written: from `start`, or the end of the item before, to `end`.
        var end: Int
        /// Where the index into `common` has its place; it is found out with the block.
        var split: Int
        var name: Range<Int>
        /// Nil in a list of chunks.
        var common: CommonAttributes?
    }

    /// 0 for entries, else that of the list.
    let level: Int
    /// Whether a chunk was taken: what is left is not all of the directory.
    private(set) var isCut = false
    private var writer = DAGCBORWriter()
    private var items: [Item] = []
    private var weight = 0
    /// How many items stand before the first boundary where it is allowed to cut.
    private var boundary: Int?

    init(level: Int) {
        self.level = level
    }

    var isEmpty: Bool { items.isEmpty }

    // MARK: Adding

    /// Adds an entry that was checked.
    mutating func append(_ entry: PortableEntry, _ attributes: EncodedAttributes) {
        let hasDevice = entry.kind.isDevice
        let fieldCount = [
            entry.directory != nil, hasDevice, entry.hardLinks != nil, !attributes.isNone,
        ].count { $0 }
        writer.appendListHead(count: fieldCount > 0 ? 5 : 4)
        let name = appendName(entry.name)
        let split = writer.bytes.count
        writer.append(entry.attributes.seconds)
        writer.append(UInt64(entry.attributes.nanoseconds))
        if fieldCount > 0 { writer.appendMapHead(count: fieldCount) }
        if let directory = entry.directory {
            writer.append(text: "dir")
            writer.append(directory)
        }
        if hasDevice {
            writer.append(text: "rdev")
            writer.appendListHead(count: 2)
            writer.append(entry.major)
            writer.append(entry.minor)
        }
        if let links = entry.hardLinks {
            writer.append(text: "links")
            writer.appendListHead(count: 2)
            writer.append(links.group)
            writer.append(UInt64(links.count))
        }
        if !attributes.isNone {
            writer.append(text: "xattrs")
            writer.append(attributes)
        }
        let common = CommonAttributes(
            kind: entry.kind, mode: entry.attributes.mode, uid: entry.attributes.uid,
            gid: entry.attributes.gid)
        add(Item(end: writer.bytes.count, split: split, name: name, common: common))
    }

    /// Adds a chunk of the level below.
    mutating func append(firstName: [UInt8], _ cid: CID) {
        writer.appendListHead(count: 2)
        let name = appendName(firstName)
        let split = writer.bytes.count
        writer.append(cid)
        add(Item(end: writer.bytes.count, split: split, name: name, common: nil))
    }

    private mutating func appendName(_ name: [UInt8]) -> Range<Int> {
        writer.append(bytes: name)
        return writer.bytes.count - name.count..<writer.bytes.count
    }

    private mutating func add(_ item: Item) {
        note(item, weight: item.end - (items.last?.end ?? 0), index: items.count)
        items.append(item)
    }

    private mutating func note(_ item: Item, weight itemWeight: Int, index: Int) {
        if boundary == nil, weight >= Self.weightMin, isBoundary(item, weight: itemWeight) {
            boundary = index
        }
        weight += itemWeight
    }

    private func isBoundary(_ item: Item, weight: Int) -> Bool {
        let hashed = writer.bytes[item.name] + [UInt8(level)]
        let hash = hashed.withUnsafeBytes { Murmur3.hash64($0) }
        return hash >> 32 < UInt64(weight) << 17
    }

    // MARK: Taking

    /// Takes a chunk if there is more than one; at most one is due after each item that was added.
    mutating func takeChunk() -> (firstName: [UInt8], block: [UInt8])? {
        guard weight > Self.weightMax else { return nil }
        isCut = true
        // Without the last item it was not too heavy.
        return take(boundary ?? items.count - 1)
    }

    /// Takes what is left, which is not nothing unless nothing was ever added.
    mutating func takeRest() -> (firstName: [UInt8], block: [UInt8]) {
        take(items.count)
    }

    private mutating func take(_ count: Int) -> (firstName: [UInt8], block: [UInt8]) {
        let firstName = items.first.map { Array(writer.bytes[$0.name]) } ?? []
        let block = level == 0 ? entriesBlock(count) : chunksBlock(count)
        let taken = count > 0 ? items[count - 1].end : 0
        var rest = DAGCBORWriter()
        rest.append(encoded: writer.bytes[taken...])
        writer = rest
        items.removeFirst(count)
        weight = 0
        boundary = nil
        var start = 0
        for index in items.indices {
            items[index].end -= taken
            items[index].split -= taken
            items[index].name =
                items[index].name.lowerBound - taken..<items[index].name.upperBound - taken
            note(items[index], weight: items[index].end - start, index: index)
            start = items[index].end
        }
        return (firstName, block)
    }

    private func entriesBlock(_ count: Int) -> [UInt8] {
        var common: [CommonAttributes] = []
        var indexes: [CommonAttributes: Int] = [:]
        for item in items[..<count] {
            guard let element = item.common, indexes[element] == nil else { continue }
            indexes[element] = common.count
            common.append(element)
        }
        var block = DAGCBORWriter()
        block.appendMapHead(count: 2)
        block.append(text: "common")
        block.appendListHead(count: common.count)
        for element in common {
            block.appendListHead(count: 4)
            block.append(UInt64(element.kind.rawValue))
            block.append(UInt64(element.mode))
            block.append(UInt64(element.uid))
            block.append(UInt64(element.gid))
        }
        block.append(text: "entries")
        block.appendListHead(count: count)
        var start = 0
        for item in items[..<count] {
            block.append(encoded: writer.bytes[start..<item.split])
            if let element = item.common, let index = indexes[element] {
                block.append(UInt64(index))
            }
            block.append(encoded: writer.bytes[item.split..<item.end])
            start = item.end
        }
        return block.bytes
    }

    private func chunksBlock(_ count: Int) -> [UInt8] {
        var block = DAGCBORWriter()
        block.appendMapHead(count: 2)
        block.append(text: "level")
        block.append(UInt64(level))
        block.append(text: "chunks")
        block.appendListHead(count: count)
        block.append(encoded: writer.bytes[..<(count > 0 ? items[count - 1].end : 0)])
        return block.bytes
    }
}
