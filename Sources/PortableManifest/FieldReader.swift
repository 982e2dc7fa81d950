internal import MerkleDAG
internal import Multiformats

/// Reads the fields of a block one after the other; what stands elsewhere than it has to is a fault.
struct FieldReader {
    private var reader: DAGCBORReader

    /// Begins at the first byte; the bytes must outlive the reader.
    init(_ bytes: UnsafeRawBufferPointer) {
        reader = DAGCBORReader(bytes)
    }

    private mutating func take<Value>(
        _ body: (inout DAGCBORReader) throws(DAGCBORError) -> Value
    ) throws(PortableFault) -> Value {
        do throws(DAGCBORError) {
            return try body(&reader)
        } catch {
            throw .cbor(error)
        }
    }

    mutating func unsigned() throws(PortableFault) -> UInt64 {
        try take { (reader) throws(DAGCBORError) in try reader.readUnsigned() }
    }

    mutating func integer() throws(PortableFault) -> Int64 {
        try take { (reader) throws(DAGCBORError) in try reader.readInteger() }
    }

    mutating func bytes() throws(PortableFault) -> [UInt8] {
        try take { (reader) throws(DAGCBORError) in Array(try reader.readBytes()) }
    }

    mutating func text() throws(PortableFault) -> String {
        try take { (reader) throws(DAGCBORError) in try reader.readText() }
    }

    mutating func link() throws(PortableFault) -> CID {
        try take { (reader) throws(DAGCBORError) in try reader.readLink() }
    }

    mutating func isAtLink() throws(PortableFault) -> Bool {
        try take { (reader) throws(DAGCBORError) in try reader.nextKind() == .link }
    }

    mutating func listCount() throws(PortableFault) -> Int {
        try take { (reader) throws(DAGCBORError) in try reader.readListHead() }
    }

    /// Begins a list that has so many values.
    mutating func list(of what: String, count: ClosedRange<Int>) throws(PortableFault) -> Int {
        let found = try listCount()
        guard count.contains(found) else { throw .wrongCount(of: what, count: found) }
        return found
    }

    mutating func map() throws(PortableFault) -> DAGCBORReader.Keys {
        try take { (reader) throws(DAGCBORError) in try reader.readMapHead() }
    }

    mutating func key(_ keys: inout DAGCBORReader.Keys) throws(PortableFault) -> String? {
        do throws(DAGCBORError) {
            return try reader.readKey(&keys)
        } catch {
            throw .cbor(error)
        }
    }

    /// Reads a key that has to come next; with nil, that none comes.
    mutating func key(
        _ keys: inout DAGCBORReader.Keys, wanted: String?
    ) throws(PortableFault) {
        let found = try key(&keys)
        guard found == wanted else { throw .wrongField(found: found, wanted: wanted) }
    }

    mutating func finish() throws(PortableFault) {
        try take { (reader) throws(DAGCBORError) in try reader.finish() }
    }

    /// How far the reader came, in bytes.
    var offset: Int { reader.offset }
}
