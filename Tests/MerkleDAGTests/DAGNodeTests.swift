import MerkleDAG
import Multiformats
import Testing

@Suite struct DAGNodeTests {
    private static let leafCID = CID.raw(sha256: [])

    private static func field(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = [tag]
        Varint.append(UInt64(content.count), to: &bytes)
        return bytes + content
    }

    private static let hash = field(0x0a, leafCID.bytes)
    private static let name = field(0x12, Array("n".utf8))
    private static let treeSize: [UInt8] = [0x18, 5]
    private static let link = field(0x12, hash + name + treeSize)
    private static let data = field(0x0a, [1, 2, 3])

    @Test func nodesAreWrittenInTheCanonicalForm() throws {
        let node = DAGNode(
            links: [DAGLink(cid: Self.leafCID, name: Array("n".utf8), treeSize: 5)],
            data: [1, 2, 3])
        #expect(node.encoded() == Self.link + Self.data)
        #expect(try DAGNode(decoding: node.encoded()) == node)
        #expect(node.treeSize(blockSize: node.encoded().count) == UInt64(node.encoded().count) + 5)
    }

    @Test func emptyNamesAndSizesAreWritten() {
        let node = DAGNode(links: [DAGLink(cid: Self.leafCID, treeSize: 0)])
        #expect(node.encoded() == Self.field(0x12, Self.hash + hex("12001800")))
    }

    @Test func noDataAndEmptyDataAreDifferentBlocks() throws {
        #expect(DAGNode().encoded() == [])
        #expect(DAGNode(data: []).encoded() == hex("0a00"))
        #expect(try DAGNode(decoding: []).data == nil)
        #expect(try DAGNode(decoding: hex("0a00")).data == [])
    }

    @Test func linksAreSortedByNameAndKeepTheirOrderOtherwise() throws {
        let names = ["b", "a", "", "é", "ab", "a", "B"]
        let links = names.enumerated().map { index, name in
            DAGLink(cid: Self.leafCID, name: Array(name.utf8), treeSize: UInt64(index))
        }
        let read = try DAGNode(decoding: DAGNode(links: links).encoded())
        #expect(read.links.map(\.treeSize) == [2, 6, 1, 5, 4, 0, 3])
    }

    @Test func theOrderOfABlockIsKept() throws {
        let other = Self.field(0x12, Self.hash + Self.field(0x12, Array("a".utf8)) + [0x18, 6])
        let read = try DAGNode(decoding: Self.link + other)
        #expect(read.links.map(\.treeSize) == [5, 6])
    }

    @Test func dataMayComeFirst() throws {
        let read = try DAGNode(decoding: Self.data + Self.link + Self.link)
        #expect(read.data == [1, 2, 3])
        #expect(read.links.count == 2)
    }

    @Test func namesAndSizesMayBeMissing() throws {
        let read = try DAGNode(decoding: Self.field(0x12, Self.hash))
        #expect(read.links == [DAGLink(cid: Self.leafCID, treeSize: 0)])
    }

    static let malformed: [(what: String, block: [UInt8], error: BlockFormatError)] = [
        ("data twice", data + data, .duplicateField(1)),
        ("data twice around links", data + link + data, .duplicateField(1)),
        ("links around data", link + data + link, .fieldOutOfOrder(2)),
        ("unknown field", data + hex("1a00"), .unknownField(3)),
        ("field 0", hex("0200"), .unknownField(0)),
        ("data as a number", hex("0801"), .wrongWireType(field: 1)),
        ("links as a number", hex("1001"), .wrongWireType(field: 2)),
        ("group", hex("0b0c"), .wrongWireType(field: 1)),
        ("name before hash", field(0x12, name + hash), .fieldOutOfOrder(1)),
        ("size before name", field(0x12, hash + treeSize + name), .fieldOutOfOrder(2)),
        ("hash twice", field(0x12, hash + hash), .duplicateField(1)),
        ("name twice", field(0x12, hash + name + name), .duplicateField(2)),
        ("no hash", field(0x12, name + treeSize), .missingField(1)),
        ("empty link", hex("1200"), .missingField(1)),
        ("unknown field of a link", field(0x12, hash + hex("2000")), .unknownField(4)),
        ("hash as a number", field(0x12, hex("0801")), .wrongWireType(field: 1)),
        ("size as bytes", field(0x12, hash + hex("1a00")), .wrongWireType(field: 3)),
        ("no CID", field(0x12, hex("0a0100")), .cid(.unsupportedVersion(0))),
        ("empty CID", field(0x12, hex("0a00")), .cid(.varint(.truncated))),
        (
            "more than a CID", field(0x12, field(0x0a, leafCID.bytes + [0])),
            .cid(.trailingBytes(count: 1))
        ),
        ("long tag", hex("8a0000"), .varint(.notMinimal)),
        ("long length", hex("0a8000"), .varint(.notMinimal)),
        ("long size", field(0x12, hash + name + hex("188500")), .varint(.notMinimal)),
        (
            "size of more than 64 bits", field(0x12, hash + hex("18ffffffffffffffffff02")),
            .varint(.tooLarge)
        ),
        ("length beyond the end", hex("0a05010203"), .truncated),
        ("huge length", hex("0affffffffffffffffff01"), .truncated),
        ("name beyond the link", field(0x12, hash + hex("120561")), .truncated),
    ]

    @Test(arguments: malformed)
    func otherFormsAreRejected(what: String, block: [UInt8], error: BlockFormatError) {
        #expect(throws: error, "\(what)") { try DAGNode(decoding: block) }
    }

    @Test func cutsAreRejectedUnlessTheyEndAField() {
        let block = Self.link + Self.link + Self.data
        let ends = [0, Self.link.count, 2 * Self.link.count]
        for count in 0..<block.count {
            let cut = Array(block[..<count])
            if ends.contains(count) {
                #expect(throws: Never.self) { try DAGNode(decoding: cut) }
            } else {
                #expect(throws: BlockFormatError.self, "\(count) bytes") {
                    try DAGNode(decoding: cut)
                }
            }
        }
    }

    @Test func sizesAreBounded() {
        let large = [UInt8](repeating: 0, count: DAGNode.blockSizeMax + 1)
        #expect(throws: BlockFormatError.blockTooLarge(byteCount: large.count)) {
            try DAGNode(decoding: large)
        }
        let link = Self.field(0x12, hex("0a0401550000"))
        let many = Array(repeatElement(link, count: DAGNode.linkCountMax + 1).joined())
        #expect(throws: BlockFormatError.tooManyLinks) { try DAGNode(decoding: many) }
        #expect(throws: Never.self) {
            try DAGNode(decoding: Array(many.dropLast(link.count)))
        }
    }
}

@Suite struct UnixFSDataTests {
    @Test func messagesAreWrittenInOrderOfTheFields() throws {
        let message = UnixFSData(
            kind: .hamtShard, data: [9], fileSize: 300, blockSizes: [1, 300], hashType: 0x22,
            fanout: 256,
            metadata: UnixFSMetadata(mode: 0o755, mtime: UnixFSTime(seconds: 1, nanoseconds: 2)))
        #expect(
            message.encoded()
                == hex("0805 120109 18ac02 2001 20ac02 2822 308002 38ed03 4207 0801 1502000000"))
        #expect(try UnixFSData(decoding: message.encoded()) == message)
    }

    @Test func timesBeforeTheEpochHaveTenBytes() throws {
        let message = UnixFSData(
            kind: .directory, metadata: UnixFSMetadata(mtime: UnixFSTime(seconds: -1)))
        #expect(message.encoded() == hex("0801 420b 08ffffffffffffffffff01"))
        #expect(try UnixFSData(decoding: message.encoded()) == message)
    }

    @Test(arguments: [Int64.min, -1, 0, 1, .max], [UInt32(0), 1, 999_999_999])
    func everyTimeSurvivesARoundTrip(seconds: Int64, nanoseconds: UInt32) throws {
        let message = UnixFSData(
            kind: .file,
            metadata: UnixFSMetadata(
                mode: .max, mtime: UnixFSTime(seconds: seconds, nanoseconds: nanoseconds)))
        #expect(try UnixFSData(decoding: message.encoded()) == message)
    }

    @Test func otherWritersFormsAreRead() throws {
        let packed = try UnixFSData(decoding: hex("0802 2203 01ac02 1803"))
        #expect(packed.blockSizes == [1, 300])
        #expect(packed.fileSize == 3)
        let unknown = try UnixFSData(
            decoding: hex("0801 4801 5201ff 5d01020304 6101020304050607 08"))
        #expect(unknown == UnixFSData(kind: .directory))
    }

    @Test(arguments: [
        ("", BlockFormatError.missingField(1)), ("1800", .missingField(1)),
        ("0806", .unknownType(6)), ("08ffffffffffffffffff01", .unknownType(.max)),
        ("08010801", .duplicateField(1)), ("080212001200", .duplicateField(2)),
        ("080218001800", .duplicateField(3)), ("080228002800", .duplicateField(5)),
        ("080230003000", .duplicateField(6)), ("080238003800", .duplicateField(7)),
        ("0802 42020800 42020800", .duplicateField(8)), ("0802 4204 0800 0800", .duplicateField(1)),
        ("0a00", .wrongWireType(field: 1)), ("08021000", .wrongWireType(field: 2)),
        ("08024001", .wrongWireType(field: 8)), ("0802 4203 0a0100", .wrongWireType(field: 1)),
        ("0802388080808010", .badMode(0x1_0000_0000)), ("08024200", .missingField(1)),
        ("0802 4207 0801 1500ca9a3b", .badTime(nanoseconds: 1_000_000_000)),
        ("0802 4205 0801 150000", .truncated), ("0802 1205 00", .truncated),
        ("0802 188000", .varint(.notMinimal)), ("0802 18", .varint(.truncated)),
        ("0802 5d0102", .truncated),
        ("0802 2202 01ac", .varint(.truncated)), ("080b", .unknownType(11)),
        ("0802 4b", .wrongWireType(field: 9)),
    ])
    func otherMessagesAreRejected(digits: String, error: BlockFormatError) {
        #expect(throws: error) { try UnixFSData(decoding: hex(digits)) }
    }

    @Test func everyCutIsRejectedOrIsAShorterMessage() throws {
        let whole = UnixFSData(
            kind: .file, data: [1, 2], fileSize: 300, blockSizes: [300, 1],
            metadata: UnixFSMetadata(mode: 0o644, mtime: UnixFSTime(seconds: 300, nanoseconds: 1)))
        let bytes = whole.encoded()
        for count in 0..<bytes.count {
            let read = try? UnixFSData(decoding: Array(bytes[..<count]))
            if let read {
                #expect(read != whole)
                #expect(read.encoded() == Array(bytes[..<count]))
            }
        }
    }

    @Test func blockSizesAreBounded() {
        let packed = [UInt8](repeating: 1, count: DAGNode.linkCountMax + 1)
        var bytes = hex("0802 22")
        Varint.append(UInt64(packed.count), to: &bytes)
        #expect(throws: BlockFormatError.tooManyLinks) { try UnixFSData(decoding: bytes + packed) }
    }
}
