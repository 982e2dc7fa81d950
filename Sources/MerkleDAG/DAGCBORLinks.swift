public import Multiformats

// The links of a block in DAG-CBOR, and what a path within it leads to, without its values in memory.

/// What a path within a block of DAG-CBOR leads to.
public enum DAGCBORPlace: Hashable, Sendable {
    /// A link, after so many names of the path.
    case link(CID, nameCount: Int)
    /// A value within the block, and the links in it, in the order in which they stand.
    case value(links: [CID])
}

extension DAGCBOR {
    /// All links of a block, in the order in which they stand; the whole block is read for that.
    ///
    /// Memory is bounded by the links. Values may lie as deep in each other as `depthMax`.
    public static func links(in block: [UInt8]) throws(DAGCBORError) -> [CID] {
        try block.withRawBytes { (raw) throws(DAGCBORError) in
            var reader = DAGCBORReader(raw)
            var links: [CID] = []
            try reader.skip(depth: 0, appendingTo: &links)
            try reader.finish()
            return links
        }
    }

    /// Follows names within a block until they end, or a link is met.
    ///
    /// A name is the key of a map, or the index of a list in decimal digits.
    ///
    /// - Returns: nil where the path leads nowhere.
    public static func place(
        at path: some Collection<[UInt8]>, in block: [UInt8]
    ) throws(DAGCBORError) -> DAGCBORPlace? {
        try block.withRawBytes { (raw) throws(DAGCBORError) in
            var reader = DAGCBORReader(raw)
            var nameCount = 0
            for name in path {
                // A link ends the way, and a path goes on in the block that it leads to.
                if try reader.nextKind() == .link {
                    return .link(try reader.readLink(), nameCount: nameCount)
                }
                guard try reader.enter(name) else { return nil }
                nameCount += 1
            }
            if try reader.nextKind() == .link {
                return .link(try reader.readLink(), nameCount: nameCount)
            }
            var links: [CID] = []
            try reader.skip(depth: 0, appendingTo: &links)
            return .value(links: links)
        }
    }
}

extension DAGCBORReader {
    /// Reads a value of any kind, and notes the links in it.
    fileprivate mutating func skip(
        depth: Int, appendingTo links: inout [CID]
    ) throws(DAGCBORError) {
        guard depth <= DAGCBOR.depthMax else { throw .tooDeep }
        switch try nextKind() {
        case .unsigned: _ = try readUnsigned()
        case .negative: _ = try readNegative()
        case .bytes: _ = try readBytes()
        case .text: _ = try readText()
        case .null: try readNull()
        case .bool: _ = try readBool()
        case .float: _ = try readFloat()
        case .link: links.append(try readLink())
        case .list:
            // A value takes a byte at least, so a wrong count ends with the bytes.
            for _ in 0..<(try readListHead()) { try skip(depth: depth + 1, appendingTo: &links) }
        case .map:
            var keys = try readMapHead()
            while try readKey(&keys) != nil { try skip(depth: depth + 1, appendingTo: &links) }
        }
    }

    /// Goes to the value of a name in the map or list that stands next.
    ///
    /// - Returns: false where there is none.
    fileprivate mutating func enter(_ name: [UInt8]) throws(DAGCBORError) -> Bool {
        var passed: [CID] = []
        switch try nextKind() {
        case .map:
            var keys = try readMapHead()
            while let key = try readKey(&keys) {
                if key.utf8.elementsEqual(name) { return true }
                try skip(depth: 0, appendingTo: &passed)
                passed.removeAll(keepingCapacity: true)
            }
            return false
        case .list:
            let count = try readListHead()
            let text = String(decoding: name, as: UTF8.self)
            guard let index = Int(text), (0..<count).contains(index), "\(index)" == text else {
                return false
            }
            for _ in 0..<index {
                try skip(depth: 0, appendingTo: &passed)
                passed.removeAll(keepingCapacity: true)
            }
            return true
        default: return false
        }
    }
}
