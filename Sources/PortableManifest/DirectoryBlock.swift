internal import Base
internal import MerkleDAG
internal import Multiformats

/// What many entries of a directory have alike; stands once in each block.
struct CommonAttributes: Hashable, Sendable {
    var kind: FileKind
    var mode: UInt32
    var uid: UInt32
    var gid: UInt32
}

/// A block of a directory, checked; but the attributes in blocks of their own are not here.
enum DirectoryBlock {
    case entries([Entry])
    case chunks(level: Int, [Chunk])

    struct Entry {
        var entry: PortableEntry
        /// The block of its extended attributes; nil where the entry has them all.
        var attributes: CID?
    }

    struct Chunk {
        var firstName: [UInt8]
        var cid: CID
    }

    init(decoding block: [UInt8]) throws(PortableFault) {
        self = try block.withRawBytes { (raw) throws(PortableFault) in
            var reader = FieldReader(raw)
            var keys = try reader.map()
            let isList = keys.left == 2 && Self.isList(raw)
            let block = isList ? try Self.chunks(&reader, &keys) : try Self.leaf(&reader, &keys)
            try reader.key(&keys, wanted: nil)
            try reader.finish()
            return block
        }
    }

    /// Whether the first key of the map is that of a list of chunks.
    private static func isList(_ raw: UnsafeRawBufferPointer) -> Bool {
        var writer = DAGCBORWriter()
        writer.append(text: "level")
        return raw.dropFirst().starts(with: writer.bytes)
    }

    // MARK: Chunks

    private static func chunks(
        _ reader: inout FieldReader, _ keys: inout DAGCBORReader.Keys
    ) throws(PortableFault) -> DirectoryBlock {
        try reader.key(&keys, wanted: "level")
        let level = try reader.unsigned()
        guard (1...UInt64(PortableManifest.levelMax)).contains(level) else {
            throw .wrongLevel(level)
        }
        try reader.key(&keys, wanted: "chunks")
        var chunks: [Chunk] = []
        for _ in 0..<(try reader.listCount()) {
            _ = try reader.list(of: "a chunk", count: 2...2)
            let chunk = Chunk(firstName: try reader.bytes(), cid: try reader.link())
            guard PortableEntry.isName(chunk.firstName) else {
                throw .entry(chunk.firstName, .badName)
            }
            if let last = chunks.last {
                guard last.firstName.lexicographicallyPrecedes(chunk.firstName) else {
                    throw .nameOutOfOrder(chunk.firstName)
                }
            }
            guard PortableManifest.canBe(chunk.cid) else { throw .badChunkLink(chunk.cid) }
            chunks.append(chunk)
        }
        guard !chunks.isEmpty else { throw .tooFewChunks }
        return .chunks(level: Int(level), chunks)
    }

    // MARK: Entries

    private static func leaf(
        _ reader: inout FieldReader, _ keys: inout DAGCBORReader.Keys
    ) throws(PortableFault) -> DirectoryBlock {
        try reader.key(&keys, wanted: "common")
        let common = try readCommon(&reader)
        try reader.key(&keys, wanted: "entries")
        var entries: [Entry] = []
        var usedCount = 0
        for _ in 0..<(try reader.listCount()) {
            let entry = try readEntry(&reader, common, &usedCount)
            let name = entry.entry.name
            if let last = entries.last {
                guard last.entry.name.lexicographicallyPrecedes(name) else {
                    throw .nameOutOfOrder(name)
                }
            }
            entries.append(entry)
        }
        guard usedCount == common.count else {
            throw .unusedCommon(count: common.count - usedCount)
        }
        return .entries(entries)
    }

    private static func readCommon(
        _ reader: inout FieldReader
    ) throws(PortableFault) -> [CommonAttributes] {
        var common: [CommonAttributes] = []
        var seen: Set<CommonAttributes> = []
        for index in 0..<(try reader.listCount()) {
            _ = try reader.list(of: "an element of \"common\"", count: 4...4)
            let kind = try reader.unsigned()
            let mode = try reader.unsigned()
            let uid = try reader.unsigned()
            let gid = try reader.unsigned()
            guard let kind = UInt8(exactly: kind).flatMap(FileKind.init(rawValue:)),
                let mode = UInt32(exactly: mode), mode <= 0o7777,
                let uid = UInt32(exactly: uid), let gid = UInt32(exactly: gid)
            else { throw .badCommon(index: index) }
            let element = CommonAttributes(kind: kind, mode: mode, uid: uid, gid: gid)
            guard seen.insert(element).inserted else { throw .badCommon(index: index) }
            common.append(element)
        }
        return common
    }

    /// - Parameter usedCount: how many elements of `common` were used so far; the next new one is that.
    private static func readEntry(
        _ reader: inout FieldReader, _ common: [CommonAttributes], _ usedCount: inout Int
    ) throws(PortableFault) -> Entry {
        let count = try reader.list(of: "an entry", count: 4...5)
        let name = try reader.bytes()
        let index = try reader.unsigned()
        let seconds = try reader.integer()
        let nanoseconds = try reader.unsigned()
        guard index <= UInt64(usedCount), index < UInt64(common.count) else {
            throw .entry(name, .badIndex(index))
        }
        usedCount = max(usedCount, Int(index) + 1)
        guard let nanosecondsInRange = UInt32(exactly: nanoseconds) else {
            throw .entry(name, .badTime(nanoseconds: nanoseconds))
        }
        let shared = common[Int(index)]
        var entry = PortableEntry(
            name: name, kind: shared.kind,
            attributes: PortableAttributes(
                mode: shared.mode, uid: shared.uid, gid: shared.gid, seconds: seconds,
                nanoseconds: nanosecondsInRange))
        var hasDevice = false
        var attributes = ExtendedAttributeSet.none
        if count == 5 {
            try readRest(&reader, &entry, &hasDevice, &attributes)
        }
        if hasDevice != shared.kind.isDevice {
            throw .entry(name, hasDevice ? .misplacedField("rdev") : .missingField("rdev"))
        }
        if let fault = entry.fault { throw .entry(name, fault) }
        switch attributes {
        case .inline(let values):
            entry.extendedAttributes = values
            return Entry(entry: entry)
        case .apart(let cid): return Entry(entry: entry, attributes: cid)
        }
    }

    private static func readRest(
        _ reader: inout FieldReader, _ entry: inout PortableEntry, _ hasDevice: inout Bool,
        _ attributes: inout ExtendedAttributeSet
    ) throws(PortableFault) {
        let name = entry.name
        var keys = try reader.map()
        guard keys.left > 0 else { throw .entry(name, .emptyRest) }
        // They come in the order of DAG-CBOR, each once at most.
        while let key = try reader.key(&keys) {
            switch key {
            case "dir":
                entry.directory = try reader.link()
            case "rdev":
                _ = try reader.list(of: "a device number", count: 2...2)
                let major = try reader.unsigned()
                let minor = try reader.unsigned()
                guard let rdev = PortableEntry.rdev(major: major, minor: minor) else {
                    throw .entry(name, .badDevice)
                }
                hasDevice = true
                entry.rdev = rdev
            case "links":
                _ = try reader.list(of: "hard links", count: 2...2)
                let group = try reader.unsigned()
                guard let count = UInt32(exactly: try reader.unsigned()) else {
                    throw .entry(name, .badHardLinks)
                }
                entry.hardLinks = PortableHardLinks(group: group, count: count)
            case "xattrs":
                attributes = try ExtendedAttributeSet(&reader) { .entry(name, $0) }
            default: throw .wrongField(found: key, wanted: nil)
            }
        }
    }
}
