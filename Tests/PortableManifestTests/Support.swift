import Base
import MerkleDAG
import Multiformats
import PortableManifest

/// A block that nobody has.
struct NoSuchBlock: Error, Hashable {
    let cid: CID
}

/// Blocks in memory; counts how many came that were not there.
final class Blocks {
    private(set) var blocks: [CID: [UInt8]] = [:]
    /// The CIDs of all that came, in their order.
    private(set) var order: [CID] = []
    /// The CIDs that were asked for.
    private(set) var asked: [CID] = []

    func put(_ cid: CID, _ block: [UInt8]) {
        precondition(cid.multihash == .sha256(of: block), "a block comes with its CID")
        if blocks.updateValue(block, forKey: cid) == nil { order.append(cid) }
    }

    /// Stores bytes as a block of DAG-CBOR and gives its CID.
    func put(_ block: [UInt8]) -> CID {
        let cid = CID(codec: .dagCBOR, multihash: .sha256(of: block))
        put(cid, block)
        return cid
    }

    func put(_ value: DAGCBOR) -> CID { put(value.encoded) }

    /// Has other bytes given for a CID.
    func replace(_ cid: CID, by block: [UInt8]) { blocks[cid] = block }

    func get(_ cid: CID) throws(NoSuchBlock) -> [UInt8] {
        asked.append(cid)
        guard let block = blocks[cid] else { throw NoSuchBlock(cid: cid) }
        return block
    }

    func directory(_ entries: [PortableEntry]) throws -> CID {
        var builder = PortableDirectoryBuilder()
        for entry in entries { try builder.add(entry) { put($0, $1) } }
        return try builder.finish { put($0, $1) }
    }

    func entries(_ directory: CID, bounds: PortableReadBounds = PortableReadBounds()) throws
        -> [PortableEntry]
    {
        var reader = PortableDirectoryReader(directory, bounds: bounds)
        var entries: [PortableEntry] = []
        while let entry = try reader.next(get) { entries.append(entry) }
        return entries
    }

    /// What is wrong with a directory, and in which block.
    func fault(_ directory: CID) -> (CID, PortableFault)? {
        do {
            _ = try entries(directory)
            return nil
        } catch PortableReadError<NoSuchBlock>.damaged(let cid, let fault) {
            return (cid, fault)
        } catch {
            return nil
        }
    }
}

extension PortableAttributes {
    static let plain = PortableAttributes(
        mode: 0o644, uid: 1, gid: 2, seconds: 1_700_000_000, nanoseconds: 5)
}

extension PortableEntry {
    /// A regular file.
    init(_ name: String, attributes: PortableAttributes = .plain) {
        self.init(name: Array(name.utf8), kind: .regular, attributes: attributes)
    }
}

extension PortableExtendedAttribute {
    init(_ name: String, _ value: [UInt8]) {
        self.init(name: Array(name.utf8), value: value)
    }
}

/// SplitMix64: what is random can be had again by its seed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}

extension SeededGenerator {
    /// One of some.
    mutating func pick<Value>(_ values: [Value]) -> Value {
        values[Int.random(in: 0..<values.count, using: &self)]
    }

    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &self) }
    }

    mutating func name(lengthMax: Int) -> [UInt8] {
        while true {
            let name = bytes(Int.random(in: 1...lengthMax, using: &self))
            if PortableEntry.isName(name) { return name }
        }
    }

    mutating func attributes() -> PortableAttributes {
        PortableAttributes(
            mode: UInt32.random(in: 0...0o7777, using: &self),
            uid: pick([0, 1000, .random(in: 0 ... .max, using: &self)]),
            gid: pick([0, 100, .max]),
            seconds: pick([0, -1, .min, .max, .random(in: .min ... .max, using: &self)]),
            nanoseconds: pick([0, 999_999_999, .random(in: 0..<1_000_000_000, using: &self)]))
    }

    /// Extended attributes, sorted; sometimes more than an entry may hold.
    mutating func extendedAttributes() -> [PortableExtendedAttribute] {
        var values: [[UInt8]: [UInt8]] = [:]
        for _ in 0..<Int.random(in: 0...3, using: &self) {
            let space = pick(["user.", "security.", "trusted."])
            let name = Array(space.utf8) + self.name(lengthMax: 200).filter { $0 != 0 }
            let count = Int.random(in: 0...9, using: &self) == 0 ? 6_000 : 40
            values[name] = bytes(Int.random(in: 0...count, using: &self))
        }
        if Bool.random(using: &self) {
            values[Array("system.posix_acl_access".utf8)] = bytes(44)
        }
        return values.sorted { $0.key.lexicographicallyPrecedes($1.key) }
            .map { PortableExtendedAttribute(name: $0.key, value: $0.value) }
    }

    /// An entry with as much in it as its kind has.
    mutating func entry(_ name: [UInt8], directory: CID) -> PortableEntry {
        let kind = pick(FileKind.allCases)
        var entry = PortableEntry(name: name, kind: kind, attributes: attributes())
        if Int.random(in: 0...3, using: &self) == 0 {
            entry.extendedAttributes = extendedAttributes()
        }
        switch kind {
        case .directory: entry.directory = directory
        case .characterDevice, .blockDevice:
            entry.rdev = pick([
                0, UInt64(UInt32.max), UInt64(UInt32.random(in: 0 ... .max, using: &self)),
            ])
        case .regular, .symlink, .fifo, .socket: break
        }
        if kind != .directory, Int.random(in: 0...7, using: &self) == 0 {
            entry.hardLinks = PortableHardLinks(
                group: UInt64.random(in: 1...UInt64(Int64.max), using: &self),
                count: UInt32.random(in: 2 ... .max, using: &self))
        }
        return entry
    }

    /// Entries in byte order of names that are not the same.
    mutating func entries(
        count: Int, nameLengthMax: Int, directory: CID
    ) -> [PortableEntry] {
        var names: Set<[UInt8]> = []
        while names.count < count { names.insert(name(lengthMax: nameLengthMax)) }
        return names.sorted { $0.lexicographicallyPrecedes($1) }.map {
            entry($0, directory: directory)
        }
    }
}
