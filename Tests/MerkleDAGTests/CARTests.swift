import MerkleDAG
import Multiformats
import Testing

@Suite struct CARTests {
    /// A file of some leaves, its blocks in the order of an export.
    private func sample(leafCount: Int = 4) throws -> (root: CID, sections: [(CID, [UInt8])]) {
        let profile = ImportProfile(
            chunkSize: 5, fileLinksMax: 3, rawLeaves: true, cidVersion: 1,
            directoryEstimation: .block)
        let blocks = MemoryBlocks()
        let root = profile.importContent((0..<5 * leafCount).map { UInt8($0) }, into: blocks)
        var sections: [(CID, [UInt8])] = []
        try blocks.forEachBlock(below: root.cid) { sections.append(($0, $1)) }
        return (root.cid, sections)
    }

    private func writeV1(_ roots: [CID], _ sections: [(CID, [UInt8])]) -> [UInt8] {
        let output = Output()
        var writer = CARWriter(roots: roots) { output.bytes += Array($0) }
        for (cid, block) in sections {
            #expect(Int(writer.write(cid, block)) < output.bytes.count)
        }
        #expect(Int(writer.byteCount) == output.bytes.count)
        return output.bytes
    }

    private func writeV2(
        _ roots: [CID], _ sections: [(CID, [UInt8])],
        indexCodec: Multicodec? = .carMultihashIndexSorted
    ) -> [UInt8] {
        let output = Output()
        var writer = CARv2Writer(roots: roots) { bytes, offset in
            output.write(bytes, at: Int(offset))
        }
        for (cid, block) in sections { writer.write(cid, block) }
        #expect(Int(writer.finish(indexCodec: indexCodec)) == output.bytes.count)
        return output.bytes
    }

    private func open(
        _ bytes: [UInt8], pieceSize: Int = .max, isVerifying: Bool = true
    ) throws(CARError) -> CARReader {
        var offset = 0
        return try CARReader(isVerifying: isVerifying) { buffer in
            let count = min(buffer.count, bytes.count - offset, pieceSize)
            buffer.copyBytes(from: bytes[offset..<(offset + count)])
            offset += count
            return count
        }
    }

    private func openFile(_ bytes: [UInt8]) throws(CARError) -> CARFile {
        try CARFile { buffer, offset in
            let start = Int(min(offset, UInt64(bytes.count)))
            let count = min(buffer.count, bytes.count - start)
            buffer.copyBytes(from: bytes[start..<(start + count)])
            return count
        }
    }

    private func readAll(_ bytes: [UInt8]) throws(CARError) -> [CARSection] {
        var reader = try open(bytes)
        var sections: [CARSection] = []
        while let section = try reader.next() { sections.append(section) }
        return sections
    }

    // MARK: Layout by bytes

    @Test func headersAreWrittenByteForByte() {
        let v1 = CID.raw(sha256: [])
        let v0 = CID.dagPB(sha256: [], version: 0)
        let one = writeV1([v1], [])
        #expect(
            one == hex("3a a2 65 726f6f7473 81 d8 2a 58 25 00") + v1.bytes
                + hex("67 76657273696f6e 01"))
        #expect(one.count == 59)
        let two = writeV1([v1, v1], [])
        #expect(two.prefix(9) == hex("63 a2 65 726f6f7473 82")[...])
        #expect(two.count == 100)
        let zero = writeV1([v0], [])
        #expect(
            zero == hex("38 a2 65 726f6f7473 81 d8 2a 58 23 00") + v0.bytes
                + hex("67 76657273696f6e 01"))
        #expect(writeV1([], []) == hex("11 a2 65 726f6f7473 80 67 76657273696f6e 01"))
    }

    @Test func sectionsAreWrittenByteForByte() {
        let cid = CID.raw(sha256: [1, 2, 3])
        let bytes = writeV1([cid], [(cid, [1, 2, 3])])
        #expect(Array(bytes[59...]) == [39] + cid.bytes + [1, 2, 3])
        let large = [UInt8](repeating: 7, count: 300)
        let largeCID = CID.raw(sha256: large)
        #expect(
            Array(writeV1([cid], [(largeCID, large)])[59...])
                == hex("d002") + largeCID.bytes + large)
    }

    private func littleEndian(_ value: Int, count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    @Test func versionTwoIsWrittenByteForByte() throws {
        let contents: [[UInt8]] = [[1], [2], [3]]
        let sections = contents.map { (CID.raw(sha256: $0), $0) }
        let payload = writeV1([sections[0].0], sections)
        let offsets = [59, 59 + 38, 59 + 76]
        let records = zip(sections, offsets)
            .map { $0.0.multihash.digest + littleEndian($1, count: 8) }
            .sorted { $0.lexicographicallyPrecedes($1) }
            .flatMap { $0 }
        let buckets =
            littleEndian(1, count: 4) + littleEndian(40, count: 4) + littleEndian(120, count: 8)
            + records
        func expected(_ index: [UInt8]) -> [UInt8] {
            hex("0aa16776657273696f6e02")
                + [index.isEmpty ? 0 : 0x80] + [UInt8](repeating: 0, count: 15)
                + littleEndian(51, count: 8) + littleEndian(payload.count, count: 8)
                + littleEndian(index.isEmpty ? 0 : 51 + payload.count, count: 8)
                + payload + index
        }
        let roots = [sections[0].0]
        #expect(
            writeV2(roots, sections)
                == expected(
                    hex("8108") + littleEndian(1, count: 4) + littleEndian(0x12, count: 8)
                        + buckets))
        #expect(
            writeV2(roots, sections, indexCodec: .carIndexSorted)
                == expected(hex("8008") + buckets))
        #expect(writeV2(roots, sections, indexCodec: nil) == expected([]))
    }

    @Test func anIndexHasABucketForEachFunctionAndWidth() throws {
        let sha = Multihash.sha256(of: [1])
        let long = try Multihash(code: .sha2_512, digest: [UInt8](repeating: 1, count: 64))
        let short = try Multihash(code: .sha1, digest: [UInt8](repeating: 2, count: 20))
        let blake = try Multihash(code: .blake3, digest: [UInt8](repeating: 3, count: 32))
        var byFunction = CARIndexBuilder()
        var byDigest = CARIndexBuilder()
        for (offset, hash) in [sha, long, short, blake, sha].enumerated() {
            byFunction.add(hash, offset: UInt64(100 + offset))
            byDigest.add(hash, offset: UInt64(100 + offset))
        }
        func bucket(_ hashes: [(Multihash, Int)]) -> [UInt8] {
            let width = hashes[0].0.digestLength + 8
            return littleEndian(width, count: 4) + littleEndian(width * hashes.count, count: 8)
                + hashes.flatMap { $0.digest + littleEndian($1, count: 8) }
        }
        func group(_ code: Int, _ hashes: [(Multihash, Int)]) -> [UInt8] {
            littleEndian(code, count: 8) + littleEndian(1, count: 4) + bucket(hashes)
        }
        let index = byFunction.finish()
        #expect(
            index.encoded()
                == hex("8108") + littleEndian(4, count: 4) + group(0x11, [(short, 102)])
                + group(0x12, [(sha, 100), (sha, 104)]) + group(0x13, [(long, 101)])
                + group(0x1e, [(blake, 103)]))
        let flat = byDigest.finish(codec: .carIndexSorted)
        let middle = [(sha, 100), (sha, 104), (blake, 103)].sorted {
            ($0.0.digest + [UInt8($0.1)]).lexicographicallyPrecedes($1.0.digest + [UInt8($1.1)])
        }
        #expect(
            flat.encoded()
                == hex("8008") + littleEndian(3, count: 4) + bucket([(short, 102)])
                + bucket(middle) + bucket([(long, 101)]))
        for index in [index, flat] {
            #expect(index.count == 5)
            #expect(index.offset(of: sha) == 100)
            #expect(index.offset(of: long) == 101)
            #expect(index.offset(of: short) == 102)
            #expect(index.offset(of: blake) == 103)
            #expect(index.offset(of: .sha256(of: [9])) == nil)
        }
    }

    // MARK: Round trips

    @Test(arguments: [1, 7, 64, .max])
    func everyBlockComesBack(pieceSize: Int) throws {
        let (root, sections) = try sample(leafCount: 30)
        for bytes in [
            writeV1([root], sections), writeV2([root], sections),
            writeV2([root], sections, indexCodec: .carIndexSorted),
            writeV2([root], sections, indexCodec: nil),
        ] {
            var reader = try open(bytes, pieceSize: pieceSize)
            #expect(reader.roots == [root])
            for (cid, block) in sections {
                let section = try #require(try reader.next())
                #expect(section.cid == cid)
                #expect(section.block == block)
            }
            #expect(try reader.next() == nil)
            #expect(try reader.next() == nil)
        }
    }

    @Test func largeBlocksComeBack() throws {
        let block = (0..<DAGNode.blockSizeMax).map { UInt8(truncatingIfNeeded: $0 % 251) }
        let cid = CID.raw(sha256: block)
        let sections = try readAll(writeV1([cid], [(cid, block), (cid, block)]))
        #expect(sections.map(\.block) == [block, block])
    }

    @Test func offsetsLeadToSections() throws {
        let (root, sections) = try sample()
        let bytes = writeV2([root], sections)
        var reader = try open(bytes)
        var places: [(Multihash, UInt64)] = []
        while let section = try reader.next() {
            places.append((section.cid.multihash, section.offset))
        }
        let index = try #require(try reader.readIndex())
        #expect(index.count == sections.count)
        for (multihash, offset) in places { #expect(index.offset(of: multihash) == offset) }
    }

    @Test(arguments: [Multicodec.carIndexSorted, .carMultihashIndexSorted])
    func anIndexIsReadAsItWasWritten(codec: Multicodec) throws {
        let (root, sections) = try sample(leafCount: 50)
        let bytes = writeV2([root], sections, indexCodec: codec)
        var reader = try open(bytes)
        // Nothing but the header was read, so this skips every block.
        let index = try #require(try reader.readIndex())
        #expect(index.codec == codec)
        #expect(bytes.suffix(index.encoded().count) == index.encoded()[...])
        #expect(try reader.next() == nil)
    }

    @Test func blocksAreReadInAnyOrder() throws {
        let (root, sections) = try sample(leafCount: 20)
        for bytes in [
            writeV1([root], sections), writeV2([root], sections),
            writeV2([root], sections, indexCodec: .carIndexSorted),
            writeV2([root], sections, indexCodec: nil),
        ] {
            let file = try openFile(bytes)
            #expect(file.roots == [root])
            #expect(file.indexedCount == sections.count)
            for (cid, block) in sections.reversed() { #expect(try file.block(cid) == block) }
            #expect(throws: BlockUnavailable.self) { try file.block(.raw(sha256: [0xff])) }
            var reader = try FileReader(root: root, source: file)
            #expect(try reader.readAll() == (0..<100).map { UInt8($0) })
        }
    }

    @Test func paddingOfAVersionTwoIsSkipped() throws {
        let (root, sections) = try sample()
        let payload = writeV1([root], sections)
        let bytes =
            hex("0aa16776657273696f6e02") + [UInt8](repeating: 0, count: 16)
            + littleEndian(60, count: 8) + littleEndian(payload.count, count: 8)
            + littleEndian(0, count: 8) + [UInt8](repeating: 0xee, count: 9) + payload + [1, 2, 3]
        #expect(try readAll(bytes).map(\.cid) == sections.map(\.0))
        let file = try openFile(bytes)
        for (cid, block) in sections { #expect(try file.block(cid) == block) }
    }

    @Test func contentThatLiesInItsCIDIsNotIndexed() throws {
        let cid = CID(codec: .raw, multihash: try .identity([1, 2]))
        let bytes = writeV2([cid], [(cid, [1, 2]), (.raw(sha256: [3]), [3])])
        #expect(bytes[11] == 0)
        var reader = try open(bytes)
        #expect(try reader.next()?.block == [1, 2])
        #expect(try reader.readIndex()?.count == 1)
    }

    @Test func exportWalksDepthFirstAndWritesEachBlockOnce() throws {
        let blocks = MemoryBlocks()
        let profile = ImportProfile.unixfsV1_2025
        let (x, y) = (profile.leaf("x"), profile.leaf("y"))
        _ = blocks.putLeaf(Array("x".utf8))
        _ = blocks.putLeaf(Array("y".utf8))
        let inline = Leaf(
            cid: CID(codec: .raw, multihash: try .identity([1])), fileSize: 1, treeSize: 1)
        let inner = try profile.directory([("y", y), ("x", x)], into: blocks)
        let root = try profile.directory(
            [("a", inner.asLeaf), ("b", x), ("c", inner.asLeaf), ("d", inline)], into: blocks)
        var order: [CID] = []
        try blocks.forEachBlock(below: root.cid) { cid, block in order.append(cid) }
        #expect(order == [root.cid, inner.cid, x.cid, y.cid])
        #expect {
            try blocks.forEachBlock(below: root.cid, blockCountMax: 3) { _, _ in }
        } throws: { error in
            guard case DAGWalkError<Never>.read(.tooMany(limit: 3)) = error else { return false }
            return true
        }
    }

    // MARK: Malformed archives

    @Test func everyCutOfAVersionOneIsRejectedUnlessItEndsASection() throws {
        let (root, sections) = try sample()
        let bytes = writeV1([root], sections)
        let ends = try Set(readAll(bytes).map { Int($0.offset) })
        for count in 0..<bytes.count {
            let cut = Array(bytes[..<count])
            if ends.contains(count) {
                #expect(try readAll(cut).count < sections.count)
            } else {
                #expect("\(count) bytes") {
                    try readAll(cut)
                } throws: { error in
                    guard case CARError.truncated = error else { return false }
                    return true
                }
            }
        }
    }

    @Test func everyCutOfAVersionTwoIsRejected() throws {
        let (root, sections) = try sample()
        let bytes = writeV2([root], sections)
        for count in 0..<bytes.count {
            #expect("\(count) bytes") {
                var reader = try open(Array(bytes[..<count]))
                while try reader.next() != nil {}
                _ = try reader.readIndex()
            } throws: { error in
                guard case CARError.truncated = error else { return false }
                return true
            }
        }
    }

    /// The name of the case of an error, which does not depend on what the error holds.
    private func caseName(_ error: CARError) -> String {
        String(String(describing: error).prefix { $0 != "(" })
    }

    private func failure(_ bytes: [UInt8]) -> String? {
        do throws(CARError) {
            var reader = try open(bytes)
            while try reader.next() != nil {}
            _ = try reader.readIndex()
            return nil
        } catch {
            return caseName(error)
        }
    }

    @Test(arguments: [
        ("", "truncated"), ("00", "badHeader"), ("01a0", "badHeader"), ("80", "truncated"),
        ("8100", "varint"), ("ffffffffffffffffff01", "varint"), ("ffffff7f", "headerTooLong"),
        ("818040", "headerTooLong"),
        // Version 1 without roots, version 3, version 2 with roots.
        ("0aa16776657273696f6e01", "badHeader"), ("0aa16776657273696f6e03", "unsupportedVersion"),
        ("11a265726f6f7473806776657273696f6e03", "unsupportedVersion"),
        ("11a265726f6f7473806776657273696f6e02", "unsupportedVersion"),
        // Keys in another order, a number in a longer form, bytes behind the map.
        ("11a26776657273696f6e0165726f6f747380", "badHeader"),
        ("12a265726f6f7473806776657273696f6e1801", "badHeader"),
        ("12b80265726f6f7473806776657273696f6e01", "badHeader"),
        ("12a265726f6f7473806776657273696f6e0100", "badHeader"),
        ("11a365726f6f7473806776657273696f6e01", "badHeader"),
        // More roots than there are, a root that is no link, a link without its zero.
        ("11a265726f6f7473816776657273696f6e01", "badHeader"),
        ("19a265726f6f74739b7fffffffffffffff6776657273696f6e01", "badHeader"),
        ("12a265726f6f747381006776657273696f6e01", "badHeader"),
        ("18a265726f6f747381d82a44010155006776657273696f6e01", "badHeader"),
        ("19a265726f6f747381d82a4501015500006776657273696f6e01", "badHeader"),
        ("19a265726f6f747381d82b4500015500006776657273696f6e01", "badHeader"),
        ("19a265726f6f747381d82a4500025500006776657273696f6e01", "cid"),
        ("14a265726f6f747381d82a406776657273696f6e01", "badHeader"),
        // Sections: no room for a CID, too long, a CID that is none.
        ("11a265726f6f7473806776657273696f6e01 00", "sectionTooShort"),
        ("11a265726f6f7473806776657273696f6e01 03015500", "sectionTooShort"),
        ("11a265726f6f7473806776657273696f6e01 ffffff7f", "sectionTooLong"),
        ("11a265726f6f7473806776657273696f6e01 ffffffffffffffff7f", "sectionTooLong"),
        ("11a265726f6f7473806776657273696f6e01 848000", "varint"),
        ("11a265726f6f7473806776657273696f6e01 0402550000", "cid"),
        ("11a265726f6f7473806776657273696f6e01 0401551220", "cid"),
        ("11a265726f6f7473806776657273696f6e01 050155000001", "wrongBytes"),
    ])
    func malformedArchivesAreRejected(digits: String, expected: String) {
        #expect(failure(hex(digits)) == expected)
    }

    @Test func wellFormedNeighboursOfTheMalformedAreRead() {
        #expect(failure(hex("11a265726f6f7473806776657273696f6e01")) == nil)
        #expect(failure(hex("19a265726f6f747381d82a4500015500006776657273696f6e01")) == nil)
        #expect(failure(hex("11a265726f6f7473806776657273696f6e01 0401550000")) == nil)
    }

    @Test func aBlockBeyondTheLimitIsRejected() {
        let block = [UInt8](repeating: 0, count: DAGNode.blockSizeMax + 1)
        let cid = CID.raw(sha256: block)
        #expect(failure(writeV1([cid], [(cid, block)])) == "sectionTooLong")
    }

    @Test func wrongBlocksAreRejectedAndNamed() throws {
        let (root, sections) = try sample()
        var broken = sections
        broken[2].1[0] ^= 1
        #expect {
            try readAll(writeV1([root], broken))
        } throws: { error in
            guard case CARError.wrongBytes(sections[2].0) = error else { return false }
            return true
        }
        var reader = try open(writeV1([root], broken), isVerifying: false)
        var count = 0
        while try reader.next() != nil { count += 1 }
        #expect(count == sections.count)
        let unknown = CID(
            codec: .raw,
            multihash: try Multihash(code: .blake3, digest: [UInt8](repeating: 0, count: 32)))
        #expect(failure(writeV1([root], [(unknown, [1])])) == "unsupportedHash")
    }

    @Test func offsetsThatContradictEachOtherAreRejected() throws {
        let (root, sections) = try sample()
        let bytes = writeV2([root], sections)
        let dataEnd = try #require(Int(exactly: bytes.count - indexLength(bytes)))
        func header(_ data: UInt64, _ size: UInt64, _ index: UInt64) -> [UInt8] {
            var changed = bytes
            var fields: [UInt8] = []
            for value in [data, size, index] {
                fields += (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
            }
            changed.replaceSubrange(27..<51, with: fields)
            return changed
        }
        let size = UInt64(dataEnd - 51)
        #expect(header(51, size, UInt64(dataEnd)) == bytes)
        #expect(failure(header(50, size, UInt64(dataEnd))) == "badOffsets")
        #expect(failure(header(0, size, UInt64(dataEnd))) == "badOffsets")
        #expect(failure(header(.max, size, UInt64(dataEnd))) == "badOffsets")
        #expect(failure(header(51, .max, UInt64(dataEnd))) == "badOffsets")
        #expect(failure(header(51, size, UInt64(dataEnd) - 1)) == "badOffsets")
        #expect(failure(header(51, size, .max)) == "badOffsets")
        #expect(failure(header(51, size, 1 << 62)) == "truncated")
        #expect(failure(header(1 << 40, size, 1 << 62)) == "truncated")
        #expect(failure(header(51, 3, UInt64(dataEnd))) == "truncated")
        #expect(failure(header(51, size - 1, UInt64(dataEnd))) == "truncated")
        #expect(failure(header(51, 0, 0)) == "truncated")
    }

    private func indexLength(_ bytes: [UInt8]) -> Int {
        let offset = bytes[43..<51].reversed().reduce(0) { $0 << 8 | Int($1) }
        return bytes.count - offset
    }

    @Test func malformedIndexesAreRejected() throws {
        let cids = [[1], [2]].map { CID.raw(sha256: $0) }
        let whole = writeV2([cids[0]], [(cids[0], [1]), (cids[1], [2])])
        let start = whole.count - indexLength(whole)
        func with(_ index: [UInt8]) -> String? { failure(Array(whole[..<start]) + index) }
        let records = Array(whole.suffix(80))
        let swapped = Array(records[40...] + records[..<40])
        func buckets(_ count: Int = 1, width: Int = 40, length: Int = 80) -> [UInt8] {
            littleEndian(count, count: 4) + littleEndian(width, count: 4)
                + littleEndian(length, count: 8)
        }
        #expect(with(hex("8008") + buckets() + records) == nil)
        #expect(with([]) == "truncated")
        #expect(with(hex("00")) == "unsupportedIndex")
        #expect(with(hex("808000")) == "varint")
        #expect(with(hex("8208") + buckets() + records) == "unsupportedIndex")
        #expect(with(hex("8008") + buckets() + swapped) == "badIndex")
        #expect(with(hex("8008") + buckets() + records + [0]) == "badIndex")
        #expect(with(hex("8008") + buckets(width: 39) + records) == "badIndex")
        #expect(with(hex("8008") + buckets(width: 0, length: 0)) == "badIndex")
        #expect(with(hex("8008") + buckets(width: 1 << 20, length: 0)) == "badIndex")
        #expect(with(hex("8008") + buckets(length: 79) + records) == "badIndex")
        #expect(with(hex("8008") + buckets(length: 40 << 40) + records) == "tooMany")
        #expect(with(hex("8008") + buckets(length: 40 << 20) + records) == "truncated")
        #expect(with(hex("8008") + littleEndian(-1, count: 4)) == "badIndex")
        #expect(with(hex("8008") + littleEndian(Int(Int32.max), count: 4)) == "truncated")
        #expect(with(hex("8108") + littleEndian(-1, count: 4)) == "badIndex")
        let group = littleEndian(0x12, count: 8) + buckets() + records
        #expect(with(hex("8108") + littleEndian(2, count: 4) + group + group) == "badIndex")
    }

    @Test func anIndexThatLeadsElsewhereGivesNoBlock() throws {
        let cids = [[1], [2]].map { CID.raw(sha256: $0) }
        var bytes = writeV2([cids[0]], [(cids[0], [1]), (cids[1], [2])])
        // Both records lead to the first section, then far away.
        let (first, second) = (bytes.count - 48, bytes.count - 8)
        for offset in [59, 60, 1 << 40, -1] {
            bytes.replaceSubrange(first..<(first + 8), with: littleEndian(offset, count: 8))
            bytes.replaceSubrange(second..<(second + 8), with: littleEndian(offset, count: 8))
            let file = try openFile(bytes)
            #expect(throws: BlockUnavailable.self) { try file.block(cids[1]) }
        }
    }

    @Test func anUnknownIndexIsAsGoodAsNone() throws {
        let (root, sections) = try sample()
        var bytes = writeV2([root], sections)
        bytes[bytes.count - indexLength(bytes)] = 0x82
        let file = try openFile(bytes)
        for (cid, block) in sections { #expect(try file.block(cid) == block) }
    }

    @Test func theFailureOfASourceComesThrough() {
        struct Broken: Error {}
        #expect {
            try CARReader { _ in throw Broken() }
        } throws: { error in
            guard case CARError.readFailed(let cause) = error else { return false }
            return cause is Broken
        }
    }

    @Test func theFailureOfASinkComesThrough() throws {
        struct Full: Error {}
        #expect(throws: Full.self) {
            try CARWriter(roots: []) { (_) throws(Full) in throw Full() }
        }
    }
}

/// What was written.
private final class Output {
    var bytes: [UInt8] = []

    func write(_ piece: UnsafeRawBufferPointer, at offset: Int) {
        if bytes.count < offset + piece.count {
            bytes += [UInt8](repeating: 0, count: offset + piece.count - bytes.count)
        }
        bytes.replaceSubrange(offset..<(offset + piece.count), with: piece)
    }
}
