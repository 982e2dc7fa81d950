import MerkleDAG
import Multiformats
import Testing

@Suite struct DirectoryTests {
    private let profile = ImportProfile.unixfsV1_2025

    private func entries(_ count: Int) -> [(name: String, leaf: Leaf)] {
        (0..<count).map { ("name-\($0)", profile.leaf("\($0 % 10)")) }
    }

    private func names(_ root: CID, in blocks: MemoryBlocks) throws -> [String] {
        try DirectoryReader(root: root, source: blocks).entries().map {
            String(decoding: $0.name, as: UTF8.self)
        }
    }

    /// The first 64 bits of the hash, as published with the format.
    @Test(arguments: [
        ("470.txt", UInt64(0x006e_88df_5847_e67c)), ("742.txt", 0x00ff_87d1_29ae_5428),
        ("a", 0x8555_5565_f659_7889), ("file1", 0x4997_28c4_d21b_6ed4),
        ("hello", 0xcbd8_a7b3_41bd_9b02), ("", 0),
    ])
    func namesHaveTheirHash(name: String, hash: UInt64) {
        #expect(Array(name.utf8).withUnsafeBytes { Murmur3.hash64($0) } == hash)
    }

    @Test(arguments: [8, 16, 32, 64, 128, 256, 512, 1024])
    func everyEntryOfAShardedDirectoryIsFound(fanout: Int) throws {
        let blocks = MemoryBlocks()
        let entries = entries(3000)
        let root = try profile.sharding(above: 0, fanout: fanout).directory(entries, into: blocks)
        let reader = try DirectoryReader(root: root.cid, source: blocks)
        #expect(reader.isSharded)
        for (name, leaf) in entries {
            let entry = try reader.entry(Array(name.utf8))
            #expect(entry?.cid == leaf.cid)
            #expect(entry?.treeSize == leaf.treeSize)
        }
        for number in 3000..<3500 {
            #expect(try reader.entry(Array("name-\(number)".utf8)) == nil)
        }
        #expect(try names(root.cid, in: blocks).sorted() == entries.map(\.name).sorted())
    }

    @Test func aPlainDirectoryIsListedByName() throws {
        let blocks = MemoryBlocks()
        let entries = entries(100)
        let root = try profile.directory(entries.reversed(), into: blocks)
        #expect(try names(root.cid, in: blocks) == entries.map(\.name).sorted())
        let reader = try DirectoryReader(root: root.cid, source: blocks)
        #expect(!reader.isSharded)
        #expect(try reader.entry(Array("name-7".utf8))?.cid == profile.leaf("7").cid)
        #expect(try reader.entry(Array("name-100".utf8)) == nil)
    }

    @Test(arguments: [0, 1 << 30])
    func theOrderOfAddingDoesNotMatter(threshold: Int) throws {
        let profile = profile.sharding(above: threshold)
        let entries = entries(500)
        let root = try profile.directory(entries)
        #expect(try profile.directory(entries.reversed()) == root)
        #expect(try profile.directory(entries.shuffled()) == root)
    }

    @Test func listingMayStopEarly() throws {
        for threshold in [0, 1 << 30] {
            let blocks = MemoryBlocks()
            let root = try profile.sharding(above: threshold).directory(
                entries(1000), into: blocks)
            let reader = try DirectoryReader(root: root.cid, source: blocks)
            var count = 0
            try reader.forEachEntry { _ in
                count += 1
                return count < 10
            }
            #expect(count == 10)
            #expect(try reader.entries(countMax: 1000).count == 1000)
            #expect {
                try reader.entries(countMax: 999)
            } throws: { error in
                guard case DAGReadError.tooMany(limit: 999) = error else { return false }
                return true
            }
        }
    }

    @Test func theEstimateOfBlocksIsTheSizeOfTheBlock() throws {
        let metadata = UnixFSMetadata(mode: 0o1777, mtime: UnixFSTime(seconds: -5, nanoseconds: 1))
        for metadata in [.none, metadata] {
            for count in [1, 2, 10, 100] {
                let blocks = MemoryBlocks()
                let entries = (0..<count).map {
                    (
                        name: "n\($0 * $0)",
                        leaf: Leaf(
                            cid: profile.leaf("x").cid, fileSize: 0, treeSize: 1 << UInt64($0 % 64))
                    )
                }
                let root = try profile.directory(entries, metadata: metadata, into: blocks)
                let size = try blocks.block(root.cid).count
                for (threshold, isSharded) in [(size, false), (size - 1, true)] {
                    var builder = DirectoryBuilder(
                        profile: profile.sharding(above: threshold, by: .block),
                        metadata: metadata)
                    for (name, leaf) in entries {
                        builder.add(
                            name: Array(name.utf8), cid: leaf.cid, treeSize: leaf.treeSize)
                    }
                    #expect(builder.isSharded == isSharded)
                }
            }
        }
    }

    @Test func theNumberOfLinksMayDecideAlone() throws {
        let limited = profile.sharding(above: 0, by: .disabled, linksMax: 10)
        let blocks = MemoryBlocks()
        for (count, isSharded) in [(10, false), (11, true)] {
            let root = try limited.directory(entries(count), into: blocks)
            #expect(try DirectoryReader(root: root.cid, source: blocks).isSharded == isSharded)
        }
        let unlimited = profile.sharding(above: 0, by: .disabled)
        let root = try unlimited.directory(entries(5000), into: blocks)
        #expect(try !DirectoryReader(root: root.cid, source: blocks).isSharded)
    }

    @Test func attributesStandInTheRootShardOnly() throws {
        let metadata = UnixFSMetadata(mode: 0o755)
        let blocks = MemoryBlocks()
        let root = try profile.sharding(above: 0).directory(
            entries(2000), metadata: metadata, into: blocks)
        for digit in 0..<10 {
            _ = blocks.putLeaf(Array("\(digit)".utf8))
        }
        var holders: [CID] = []
        try blocks.forEachBlock(below: root.cid) { cid, block throws(BlockFormatError) in
            guard cid.codec == .dagPB else { return }
            let data = try DAGNode(decoding: block).data ?? []
            if try UnixFSData(decoding: data).metadata == metadata { holders.append(cid) }
        }
        #expect(holders == [root.cid])
        #expect(try DirectoryReader(root: root.cid, source: blocks).metadata == metadata)
    }

    @Test(arguments: [0, 1 << 30])
    func aNameTwiceIsRefused(threshold: Int) {
        let twice = entries(50) + entries(1)
        #expect {
            try profile.sharding(above: threshold).directory(twice)
        } throws: { error in
            guard case DirectoryBuildError<Never>.duplicateName(let name) = error else {
                return false
            }
            return name == Array("name-0".utf8)
        }
    }

    @Test func anEmptyNameIsRefused() {
        #expect {
            try profile.directory([("", profile.leaf("x"))])
        } throws: { error in
            guard case DirectoryBuildError<Never>.emptyName = error else { return false }
            return true
        }
    }

    @Test func aBlockBeyondTheLimitIsRefused() {
        let unlimited = profile.sharding(above: 0, by: .disabled)
        #expect {
            try unlimited.directory(entries(50_000))
        } throws: { error in
            guard case DirectoryBuildError<Never>.blockTooLarge = error else { return false }
            return true
        }
    }

    @Test func sizesThatLieDoNotStopTheBuilder() throws {
        let liar = Leaf(cid: profile.leaf("x").cid, fileSize: .max, treeSize: .max)
        let root = try profile.directory([("a", liar), ("b", liar)])
        let honest = try profile.directory([("a", profile.leaf("x")), ("b", profile.leaf("x"))])
        #expect(root.treeSize == honest.treeSize &+ 18 &- 4)
    }

    @Test func theFailureOfASinkComesThrough() {
        struct Full: Error {}
        var builder = DirectoryBuilder(profile: profile)
        builder.add(name: [0x61], cid: profile.leaf("x").cid, treeSize: 1)
        #expect {
            try builder.finish { _, _ throws(Full) in throw Full() }
        } throws: { error in
            guard case DirectoryBuildError<Full>.sink = error else { return false }
            return true
        }
    }

    @Test func pathsAreFollowed() throws {
        let blocks = MemoryBlocks()
        let file = profile.leaf("x")
        let inner = try profile.sharding(above: 0).directory([("f", file)], into: blocks)
        let root = try profile.directory([("d", inner.asLeaf), ("f", file)], into: blocks)
        blocks.put(file.cid, [0x78])
        let (d, f, g): ([UInt8], [UInt8], [UInt8]) = ([0x64], [0x66], [0x67])
        #expect(try blocks.resolve([], from: root.cid) == root.cid)
        #expect(try blocks.resolve([d], from: root.cid) == inner.cid)
        #expect(try blocks.resolve([d, f], from: root.cid) == file.cid)
        #expect {
            try blocks.resolve([d, g], from: root.cid)
        } throws: { error in
            guard case DAGReadError.noSuchEntry(inner.cid, name: g) = error else { return false }
            return true
        }
        #expect {
            try blocks.resolve([f, d], from: root.cid)
        } throws: { error in
            guard case DAGReadError.notDirectory(file.cid) = error else { return false }
            return true
        }
    }

    // MARK: Directories that no writer makes

    @Test func aPlainDirectoryWithANameTwiceIsNotListed() {
        let blocks = MemoryBlocks()
        let cid = blocks.putLeaf([1])
        let links = ["b", "a", "b"].map { DAGLink(cid: cid, name: Array($0.utf8), treeSize: 1) }
        let root = blocks.put(
            DAGNode(links: links, data: UnixFSData(kind: .directory).encoded()))
        #expect {
            try DirectoryReader(root: root, source: blocks).entries()
        } throws: { error in
            guard case DAGReadError.duplicateName(root, [0x62]) = error else { return false }
            return true
        }
    }

    private func shard(
        _ links: [(name: String, cid: CID)], bitfield: [UInt8], fanout: UInt64? = 256,
        hashType: UInt64? = 0x22, in blocks: MemoryBlocks
    ) -> CID {
        let node = DAGNode(
            links: links.map { DAGLink(cid: $0.cid, name: Array($0.name.utf8), treeSize: 1) },
            data: UnixFSData(
                kind: .hamtShard, data: bitfield, hashType: hashType, fanout: fanout
            ).encoded())
        return blocks.put(node)
    }

    private func expectMalformed(
        _ root: CID, in blocks: MemoryBlocks, _ expected: BlockFormatError,
        location: SourceLocation = #_sourceLocation
    ) {
        #expect(sourceLocation: location) {
            try DirectoryReader(root: root, source: blocks).entries()
        } throws: { error in
            guard case DAGReadError.malformed(_, expected) = error else { return false }
            return true
        }
    }

    @Test func shardsThatContradictThemselvesAreRejected() throws {
        let blocks = MemoryBlocks()
        let leaf = blocks.putLeaf([1])
        func check(_ cid: CID, _ error: BlockFormatError, line: Int = #line) {
            expectMalformed(
                cid, in: blocks, error,
                location: SourceLocation(
                    fileID: #fileID, filePath: #filePath, line: line, column: 1))
        }
        // "470.txt" has the hash 006e…, so it belongs to bucket 0.
        #expect(
            try DirectoryReader(
                root: shard([("00470.txt", leaf)], bitfield: [1], in: blocks), source: blocks
            ).entries().count == 1)
        check(shard([("01470.txt", leaf)], bitfield: [2], in: blocks), .badShardLink)
        check(shard([("00470.txt", leaf)], bitfield: [2], in: blocks), .badShardLink)
        check(shard([("00470.txt", leaf)], bitfield: [3], in: blocks), .badShard)
        check(shard([("00470.txt", leaf)], bitfield: [], in: blocks), .badShard)
        check(shard([("0", leaf)], bitfield: [1], in: blocks), .badShardLink)
        check(shard([("0a-", leaf)], bitfield: [4, 0], in: blocks), .badShardLink)
        for fanout in [nil, 0, 1, 4, 255, 2048, UInt64.max] {
            check(
                shard([("00470.txt", leaf)], bitfield: [1], fanout: fanout, in: blocks), .badShard)
        }
        for hashType in [nil, 0x12, UInt64.max] {
            check(
                shard([("00470.txt", leaf)], bitfield: [1], hashType: hashType, in: blocks),
                .badShard)
        }
        let wide = [UInt8](repeating: 0, count: 32) + [1]
        check(shard([("00470.txt", leaf)], bitfield: wide, in: blocks), .badShard)
        // A child with another fanout, an empty one, and one that is no shard.
        let small = shard([("0470.txt", leaf)], bitfield: [1], fanout: 16, in: blocks)
        check(shard([("00", small)], bitfield: [1], in: blocks), .badShard)
        let empty = shard([], bitfield: [], in: blocks)
        check(shard([("00", empty)], bitfield: [1], in: blocks), .badShard)
        let plain = try profile.directory([], into: blocks).cid
        check(shard([("00", plain)], bitfield: [1], in: blocks), .badShard)
    }

    @Test func aShardInTwoPlacesIsRejected() {
        let blocks = MemoryBlocks()
        let leaf = blocks.putLeaf([1])
        // The second byte of the hash of "470.txt" is 6e.
        var bitfield = [UInt8](repeating: 0, count: 14)
        bitfield[0] = 1 << 6
        let child = shard([("6E470.txt", leaf)], bitfield: bitfield, in: blocks)
        let root = shard([("00", child), ("01", child)], bitfield: [3], in: blocks)
        expectMalformed(root, in: blocks, .badShardLink)
    }

    @Test func theDepthOfShardsIsBounded() {
        let blocks = MemoryBlocks()
        var cid = blocks.putLeaf([1])
        for _ in 0..<20 {
            cid = shard([("00", cid)], bitfield: [1], in: blocks)
        }
        let root = cid
        #expect {
            try DirectoryReader(root: root, source: blocks).entries()
        } throws: { error in
            guard case DAGReadError.tooDeep = error else { return false }
            return true
        }
    }
}
