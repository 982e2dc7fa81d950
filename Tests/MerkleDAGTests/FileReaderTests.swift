import MerkleDAG
import Multiformats
import Testing

@Suite struct FileReaderTests {
    private let narrow = ImportProfile(
        chunkSize: 5, fileLinksMax: 3, rawLeaves: true, cidVersion: 1, directoryEstimation: .block)

    /// A node of a file above children.
    private func node(
        _ children: [(cid: CID, size: UInt64)], fileSize: UInt64? = nil, data: [UInt8]? = nil
    ) -> DAGNode {
        let sum = children.reduce(UInt64(data?.count ?? 0)) { $0 &+ $1.size }
        return DAGNode(
            links: children.map { DAGLink(cid: $0.cid, treeSize: 0) },
            data: UnixFSData(
                kind: .file, data: data, fileSize: fileSize ?? sum,
                blockSizes: children.map(\.size)
            ).encoded())
    }

    @Test(arguments: [ImportProfile.unixfsV0_2015, .unixfsV1_2025])
    func everyRangeIsReadRight(named profile: ImportProfile) throws {
        let profile = ImportProfile(
            chunkSize: 5, fileLinksMax: 3, rawLeaves: profile.rawLeaves,
            cidVersion: profile.cidVersion, directoryEstimation: .block)
        let content = (0..<61).map { UInt8($0) }
        let blocks = MemoryBlocks()
        let root = profile.importContent(content, into: blocks)
        var reader = try FileReader(root: root.cid, source: blocks)
        #expect(reader.size == 61)
        for offset in 0...62 {
            for count in 0...62 {
                var buffer = [UInt8](repeating: 0xff, count: count)
                let read = try buffer.withUnsafeMutableBytes {
                    try reader.read(into: $0, at: UInt64(offset))
                }
                #expect(Array(buffer[..<read]) == Array(content.dropFirst(offset).prefix(count)))
                #expect(buffer[read...].allSatisfy { $0 == 0xff })
            }
        }
    }

    @Test func seekingCostsOneBlockALevel() throws {
        let blocks = MemoryBlocks()
        let root = narrow.importContent((0..<5 * 81).map { UInt8($0 % 256) }, into: blocks)
        var reader = try FileReader(root: root.cid, source: blocks)
        #expect(blocks.requestCount == 1)
        _ = try reader.leaf(at: 400)
        #expect(blocks.requestCount == 5)
        _ = try reader.leaf(at: 404)
        #expect(blocks.requestCount == 5)
        _ = try reader.leaf(at: 0)
        #expect(blocks.requestCount == 9)
    }

    @Test func readingOnAsksForEachBlockOnce() throws {
        let blocks = MemoryBlocks()
        let content = (0..<1000).map { UInt8(truncatingIfNeeded: $0 % 253) }
        let root = narrow.importContent(content, into: blocks)
        var reader = try FileReader(root: root.cid, source: blocks)
        var read: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 2)
        while true {
            let count = try buffer.withUnsafeMutableBytes {
                try reader.read(into: $0, at: UInt64(read.count))
            }
            if count == 0 { break }
            read += buffer[..<count]
        }
        #expect(read == content)
        // 200 leaves and 67 + 23 + 8 + 3 + 1 nodes.
        #expect(blocks.requestCount == 302)
    }

    @Test func leavesSayWhereTheyAre() throws {
        let blocks = MemoryBlocks()
        let content = (0..<33).map { UInt8($0) }
        let root = narrow.importContent(content, into: blocks)
        var reader = try FileReader(root: root.cid, source: blocks)
        var offset: UInt64 = 0
        while let leaf = try reader.leaf(at: offset) {
            #expect(leaf.fileRange.lowerBound == offset)
            let range = Int(offset)..<Int(leaf.fileRange.upperBound)
            #expect(Array(leaf.block[leaf.contentRange]) == Array(content[range]))
            #expect(leaf.cid == .raw(sha256: leaf.block))
            offset = leaf.fileRange.upperBound
        }
        #expect(offset == 33)
    }

    @Test func nodesMayHoldContentBesidesLinks() throws {
        let blocks = MemoryBlocks()
        let leaf = blocks.putLeaf([4, 5])
        let inner = blocks.put(node([(leaf, 2)], data: [3]))
        let root = blocks.put(node([(inner, 3), (leaf, 2)], data: [1, 2]))
        var reader = try FileReader(root: root, source: blocks)
        #expect(try reader.readAll() == [1, 2, 3, 4, 5, 4, 5])
    }

    @Test func linksWithoutContentAreNeverFollowed() throws {
        let blocks = MemoryBlocks()
        let missing = CID.raw(sha256: [1, 2, 3])
        let leaf = blocks.putLeaf([7])
        let root = blocks.put(
            node([(missing, 0), (leaf, 1), (missing, 0), (missing, 0), (leaf, 1), (missing, 0)]))
        var reader = try FileReader(root: root, source: blocks)
        #expect(try reader.readAll() == [7, 7])
    }

    @Test func contentMayLieInCIDs() throws {
        let blocks = MemoryBlocks()
        let leaf = CID(codec: .raw, multihash: try .identity([1, 2, 3]))
        let root = CID(
            codec: .dagPB, multihash: try .identity(node([(leaf, 3), (leaf, 3)]).encoded()))
        var reader = try FileReader(root: root, source: blocks)
        #expect(try reader.readAll() == [1, 2, 3, 1, 2, 3])
        #expect(blocks.requestCount == 0)
    }

    @Test func wrongBytesAreNeverGiven() throws {
        let blocks = MemoryBlocks()
        let content = (0..<40).map { UInt8($0) }
        let root = narrow.importContent(content, into: blocks)
        let whole = blocks.blocks
        for (hash, block) in whole {
            blocks.blocks = whole
            blocks.blocks[hash] = block.dropLast() + [block[block.count - 1] ^ 1]
            #expect {
                var reader = try FileReader(root: root.cid, source: blocks)
                _ = try reader.readAll()
            } throws: { error in
                guard case DAGReadError.wrongBytes(let cid) = error else { return false }
                return cid.multihash == hash
            }
        }
    }

    @Test func aMissingBlockIsNamed() throws {
        let blocks = MemoryBlocks()
        let root = narrow.importContent((0..<40).map { UInt8($0) }, into: blocks)
        let whole = blocks.blocks
        for hash in whole.keys {
            blocks.blocks = whole
            blocks.blocks[hash] = nil
            #expect {
                var reader = try FileReader(root: root.cid, source: blocks)
                _ = try reader.readAll()
            } throws: { error in
                guard case DAGReadError.unavailable(let unavailable) = error else { return false }
                return unavailable.cid.multihash == hash
            }
        }
    }

    private func expectInconsistent(
        _ root: CID, in blocks: MemoryBlocks, location: SourceLocation = #_sourceLocation
    ) {
        #expect(sourceLocation: location) {
            var reader = try FileReader(root: root, source: blocks)
            _ = try reader.leaf(at: 0)
        } throws: { error in
            guard case DAGReadError.malformed(_, .inconsistentSizes) = error else { return false }
            return true
        }
    }

    @Test func sizesThatContradictEachOtherAreRejected() {
        let blocks = MemoryBlocks()
        let leaf = blocks.putLeaf([1, 2, 3])
        expectInconsistent(blocks.put(node([(leaf, 3)], fileSize: 4)), in: blocks)
        expectInconsistent(blocks.put(node([(leaf, 4)])), in: blocks)
        expectInconsistent(blocks.put(node([(leaf, 2)])), in: blocks)
        expectInconsistent(blocks.put(node([(leaf, .max), (leaf, 2)])), in: blocks)
        expectInconsistent(
            blocks.put(node([(leaf, 1 << 62), (leaf, 1 << 62), (leaf, 1)])), in: blocks)
        expectInconsistent(blocks.put(node([], fileSize: 1, data: [])), in: blocks)
        // A size for each link, no more and no fewer.
        for count in [0, 2] {
            let message = UnixFSData(
                kind: .file, fileSize: 3, blockSizes: Array([3, 0].prefix(count)))
            let node = DAGNode(
                links: [DAGLink(cid: leaf, treeSize: 0)], data: message.encoded())
            expectInconsistent(blocks.put(node), in: blocks)
        }
    }

    @Test func depthIsBounded() throws {
        let blocks = MemoryBlocks()
        var cid = blocks.putLeaf([1])
        var depth = 0
        while depth < 200 {
            cid = blocks.put(node([(cid, 1)]))
            depth += 1
            var reader = try FileReader(root: cid, source: blocks)
            if depth < FileReader<MemoryBlocks>.depthMax {
                #expect(try reader.readAll() == [1])
            } else {
                #expect {
                    try reader.readAll()
                } throws: { error in
                    guard case DAGReadError.tooDeep = error else { return false }
                    return true
                }
            }
        }
    }

    @Test func theLinksOnTheWayAreBounded() throws {
        let blocks = MemoryBlocks()
        var cid = blocks.putLeaf([1])
        let nothing = CID(codec: .raw, multihash: try .identity([]))
        for _ in 0..<6 {
            cid = blocks.put(
                node([(cid, 1)] + Array(repeating: (nothing, 0), count: 60_000)))
        }
        var reader = try FileReader(root: cid, source: blocks)
        #expect {
            try reader.leaf(at: 0)
        } throws: { error in
            guard case DAGReadError.tooDeep = error else { return false }
            return true
        }
    }

    @Test func onlyFilesAreFiles() throws {
        let blocks = MemoryBlocks()
        let directory = try ImportProfile.unixfsV1_2025.directory([], into: blocks)
        let link = ImportProfile.unixfsV1_2025.symlink(target: [0x61])
        blocks.put(link.root.cid, link.block)
        for cid in [directory.cid, link.root.cid] {
            #expect {
                try FileReader(root: cid, source: blocks)
            } throws: { error in
                guard case DAGReadError.notFile(cid) = error else { return false }
                return true
            }
        }
        let leaf = blocks.putLeaf([1])
        for cid in [leaf, link.root.cid] {
            #expect {
                try DirectoryReader(root: cid, source: blocks)
            } throws: { error in
                guard case DAGReadError.notDirectory(cid) = error else { return false }
                return true
            }
        }
        #expect(try blocks.unixfsEntry(leaf) == .file(size: 1, metadata: .none))
        #expect(
            try blocks.unixfsEntry(link.root.cid) == .symlink(target: [0x61], metadata: .none))
        #expect(
            try blocks.unixfsEntry(directory.cid)
                == .directory(isSharded: false, metadata: .none))
    }

    @Test func blocksOfOtherCodecsAndFunctionsAreRefused() throws {
        let blocks = MemoryBlocks()
        let cbor = CID(codec: .dagCBOR, multihash: .sha256(of: hex("a0")))
        blocks.put(cbor, hex("a0"))
        #expect {
            try blocks.unixfsEntry(cbor)
        } throws: { error in
            guard case DAGReadError.unsupportedCodec(cbor) = error else { return false }
            return true
        }
        let unknown = CID(
            codec: .raw,
            multihash: try Multihash(code: .blake3, digest: [UInt8](repeating: 1, count: 32)))
        blocks.put(unknown, [1])
        #expect {
            try blocks.unixfsEntry(unknown)
        } throws: { error in
            guard case DAGReadError.unsupportedHash(unknown) = error else { return false }
            return true
        }
        let empty = blocks.put(DAGNode())
        #expect {
            try blocks.unixfsEntry(empty)
        } throws: { error in
            guard case DAGReadError.malformed(empty, .noUnixFSData) = error else { return false }
            return true
        }
    }

    @Test func aSymlinksTargetIsOneThatAFileSystemCanHave() throws {
        let blocks = MemoryBlocks()
        func symlink(_ target: [UInt8]) -> CID {
            blocks.put(DAGNode(data: UnixFSData(kind: .symlink, data: target).encoded()))
        }
        let longest = [UInt8](repeating: 0x61, count: 4095)
        #expect(
            try blocks.unixfsEntry(symlink(longest))
                == .symlink(target: longest, metadata: .none))
        for target in [[], [0x61, 0], longest + [0x61]] {
            let cid = symlink(target)
            #expect {
                try blocks.unixfsEntry(cid)
            } throws: { error in
                guard case DAGReadError.malformed(cid, .badSymlinkTarget) = error else {
                    return false
                }
                return true
            }
        }
        // Of any target there is a block, whoever takes it.
        let block = ImportProfile.unixfsV1_2025.symlink(
            target: [UInt8](repeating: 0x61, count: 3 << 20))
        #expect(block.block.count > 3 << 20)
    }

    @Test func aBlockBeyondTheLimitIsRefused() {
        let blocks = MemoryBlocks()
        let large = blocks.putLeaf([UInt8](repeating: 0, count: DAGNode.blockSizeMax + 1))
        #expect {
            try blocks.verifiedBlock(large)
        } throws: { error in
            guard case DAGReadError.malformed(large, .blockTooLarge) = error else { return false }
            return true
        }
    }
}
