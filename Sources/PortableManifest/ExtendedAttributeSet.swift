internal import MerkleDAG
internal import Multiformats

/// The extended attributes of one inode, as they stand in an entry or in the root.
enum ExtendedAttributeSet {
    case inline([PortableExtendedAttribute])
    /// In a block of their own.
    case apart(CID)

    static let none = ExtendedAttributeSet.inline([])

    /// The bytes of a set: a list of names and values, sorted by name. Empty for no attributes.
    static func encoded(
        _ attributes: [PortableExtendedAttribute]
    ) throws(PortableEntryFault) -> [UInt8] {
        guard !attributes.isEmpty else { return [] }
        let sorted = attributes.sorted { $0.name.lexicographicallyPrecedes($1.name) }
        if let fault = fault(sorted) { throw fault }
        var writer = DAGCBORWriter()
        writer.appendListHead(count: sorted.count)
        for attribute in sorted {
            writer.appendListHead(count: 2)
            writer.append(bytes: attribute.name)
            writer.append(bytes: attribute.value)
        }
        guard writer.bytes.count <= PortableManifest.blockSizeMax else {
            throw .attributesTooLong(byteCount: writer.bytes.count)
        }
        return writer.bytes
    }

    /// What is wrong with attributes that stand in this order.
    private static func fault(
        _ attributes: [PortableExtendedAttribute]
    ) -> PortableEntryFault? {
        var previous: [UInt8]?
        for attribute in attributes {
            let name = attribute.name
            if !PortableExtendedAttribute.isName(name) { return .badAttributeName(name) }
            if let previous, !previous.lexicographicallyPrecedes(name) {
                return .attributeOutOfOrder(name)
            }
            if attribute.value.count > PortableExtendedAttribute.valueLengthMax {
                return .attributeTooLong(name, byteCount: attribute.value.count)
            }
            previous = name
        }
        return nil
    }

    /// Reads the attributes of an inode where they stand, or the link to them.
    ///
    /// - Parameter fault: makes a fault of the block of what is wrong with the inode.
    init(
        _ reader: inout FieldReader, _ fault: (PortableEntryFault) -> PortableFault
    ) throws(PortableFault) {
        if try reader.isAtLink() {
            let cid = try reader.link()
            guard PortableManifest.canBe(cid) else { throw fault(.badLink(cid)) }
            self = .apart(cid)
            return
        }
        let (attributes, byteCount) = try Self.list(&reader, fault)
        guard byteCount <= PortableManifest.inlineAttributesMax else {
            throw fault(.attributesMisplaced(byteCount: byteCount))
        }
        self = .inline(attributes)
    }

    /// Reads the block of a set.
    static func decoded(
        _ block: [UInt8], _ fault: (PortableEntryFault) -> PortableFault
    ) throws(PortableFault) -> [PortableExtendedAttribute] {
        try block.withRawBytes { (raw) throws(PortableFault) in
            var reader = FieldReader(raw)
            let (attributes, byteCount) = try list(&reader, fault)
            try reader.finish()
            guard byteCount > PortableManifest.inlineAttributesMax else {
                throw fault(.attributesMisplaced(byteCount: byteCount))
            }
            return attributes
        }
    }

    private static func list(
        _ reader: inout FieldReader, _ fault: (PortableEntryFault) -> PortableFault
    ) throws(PortableFault) -> ([PortableExtendedAttribute], byteCount: Int) {
        let start = reader.offset
        let count = try reader.listCount()
        guard count > 0 else { throw fault(.noAttributes) }
        var attributes: [PortableExtendedAttribute] = []
        for _ in 0..<count {
            _ = try reader.list(of: "an extended attribute", count: 2...2)
            let name = try reader.bytes()
            attributes.append(PortableExtendedAttribute(name: name, value: try reader.bytes()))
        }
        if let found = Self.fault(attributes) { throw fault(found) }
        return (attributes, reader.offset - start)
    }
}

extension DAGCBORWriter {
    /// Writes the attributes of an inode, of which there are some.
    mutating func append(_ attributes: EncodedAttributes) {
        switch attributes {
        case .none: preconditionFailure("the field is left out")
        case .inline(let bytes): append(encoded: bytes)
        case .apart(let cid, _): append(cid)
        }
    }
}

/// The extended attributes of one inode, as they are written.
enum EncodedAttributes {
    case none
    case inline([UInt8])
    /// The block has to be written too.
    case apart(CID, block: [UInt8])

    init(_ attributes: [PortableExtendedAttribute]) throws(PortableEntryFault) {
        let bytes = try ExtendedAttributeSet.encoded(attributes)
        if bytes.isEmpty {
            self = .none
        } else if bytes.count <= PortableManifest.inlineAttributesMax {
            self = .inline(bytes)
        } else {
            self = .apart(PortableManifest.cid(of: bytes), block: bytes)
        }
    }

    var isNone: Bool {
        if case .none = self { true } else { false }
    }
}
