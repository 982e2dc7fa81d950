import MerkleDAG
import Multiformats
import Testing

@Suite struct FileBuilderTests {
    static let profiles: [ImportProfile] = [
        .unixfsV1_2025, .unixfsV0_2015, .unixfsV1_2025.forMetadata,
    ]

    /// A profile whose trees get deep with little content.
    static let narrow = ImportProfile(
        chunkSize: 4, fileLinksMax: 3, rawLeaves: true, cidVersion: 1, directoryEstimation: .block)

    @Test(arguments: profiles, 0..<6)
    func leavesOfContentAreThoseOfItsChunks(profile: ImportProfile, chunkCount: Int) {
        for excess in [0, 1, 100_000] {
            let count = chunkCount * profile.chunkSize + excess
            let content = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 16) }
            content.withUnsafeBytes { content in
                let chunks = stride(from: 0, to: max(1, count), by: profile.chunkSize).map {
                    content[$0..<min(count, $0 + profile.chunkSize)]
                }
                let expected = chunks.map { profile.leaf(UnsafeRawBufferPointer(rebasing: $0)) }
                #expect(profile.leaves(of: content) == expected)
            }
        }
    }

    @Test(arguments: profiles, [0, 1, 127, 128, 16_383, 16_384, 262_144])
    func framingMakesTheLeafBlock(profile: ImportProfile, length: Int) throws {
        let chunk = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        let framing = profile.leafFraming(length: length)
        let block = framing.prefix + chunk + framing.suffix
        chunk.withUnsafeBytes { chunk in
            #expect(profile.leafBlock(chunk) == block)
            let leaf = profile.leaf(chunk)
            #expect(leaf.fileSize == UInt64(length))
            #expect(leaf.treeSize == UInt64(block.count))
            #expect(throws: Never.self) { try block.withUnsafeBytes { try leaf.cid.verify($0) } }
            var hasher = LeafHasher(profile: profile, length: length)
            hasher.update(UnsafeRawBufferPointer(rebasing: chunk[..<(length / 3)]))
            hasher.update(UnsafeRawBufferPointer(rebasing: chunk[(length / 3)...]))
            #expect(hasher.finish() == leaf)
        }
        guard !profile.rawLeaves else {
            #expect(framing.prefix.isEmpty && framing.suffix.isEmpty)
            return
        }
        let data = try #require(try DAGNode(decoding: block).data)
        let message = try UnixFSData(decoding: data)
        #expect(message.kind == .file)
        #expect(message.data == (length == 0 ? nil : chunk))
        #expect(message.fileSize == UInt64(length))
    }

    @Test func framingHoldsAttributesOfAWholeFile() throws {
        let metadata = UnixFSMetadata(mode: 0o4755, mtime: UnixFSTime(seconds: -1, nanoseconds: 5))
        let profile = ImportProfile.unixfsV1_2025.forMetadata
        let block = [7, 8].withUnsafeBytes { profile.leafBlock($0, metadata: metadata) }
        let data = try #require(try DAGNode(decoding: block).data)
        #expect(try UnixFSData(decoding: data).metadata == metadata)
    }

    /// Follows the description of the layout to the letter: grow a root above the old one and fill
    /// it, subtree by subtree.
    private func growTree(_ leaves: [Leaf], width: Int) -> Leaf {
        var rest = leaves[...]
        func node(_ children: [Leaf]) -> Leaf {
            let size = children.reduce(0) { $0 + $1.fileSize }
            let message = UnixFSData(
                kind: .file, fileSize: size, blockSizes: children.map(\.fileSize))
            let node = DAGNode(
                links: children.map { DAGLink(cid: $0.cid, treeSize: $0.treeSize) },
                data: message.encoded())
            let block = node.encoded()
            return Leaf(
                cid: .dagPB(sha256: block, version: 1), fileSize: size,
                treeSize: node.treeSize(blockSize: block.count))
        }
        func fill(_ first: [Leaf], depth: Int) -> Leaf {
            var children = first
            while children.count < width, !rest.isEmpty {
                children.append(depth == 1 ? rest.removeFirst() : fill([], depth: depth - 1))
            }
            return node(children)
        }
        var root = rest.removeFirst()
        var depth = 1
        while !rest.isEmpty {
            root = fill([root], depth: depth)
            depth += 1
        }
        return root
    }

    @Test func groupingByLevelsGivesTheTreeOfTheDescription() {
        let leaves = (0..<100).map { Self.narrow.leaf("l\($0)") }
        for count in 1...leaves.count {
            var builder = BalancedDAGBuilder(profile: Self.narrow)
            for leaf in leaves[..<count] {
                builder.append(leaf) { _, _ in }
            }
            #expect(builder.leafCount == count)
            let root = builder.finish { _, _ in }
            #expect(root.asLeaf == growTree(Array(leaves[..<count]), width: 3), "\(count) leaves")
        }
    }

    @Test func everyBlockIsEmittedAfterItsChildren() throws {
        for count in 0...200 {
            let blocks = MemoryBlocks()
            var emitted: Set<CID> = []
            let content = (0..<count).map { UInt8($0) }
            var offset = 0
            let root = try Self.narrow.importFile(
                read: { (buffer) throws(BlockFormatError) in
                    let read = min(buffer.count, count - offset)
                    buffer.copyBytes(from: content[offset..<(offset + read)])
                    offset += read
                    return read
                },
                emit: { (cid, block) throws(BlockFormatError) in
                    blocks.put(cid, block)
                    emitted.insert(cid)
                    guard cid.codec == .dagPB else { return }
                    let children = try DAGNode(decoding: block).links.map(\.cid)
                    #expect(emitted.isSuperset(of: children))
                })
            #expect(emitted.contains(root.cid))
            var reader = try FileReader(root: root.cid, source: blocks)
            #expect(try reader.readAll() == content)
        }
    }

    @Test func attributesStandInTheRootOnly() throws {
        let metadata = UnixFSMetadata(mode: 0o644, mtime: UnixFSTime(seconds: 5))
        for count in [0, 3, 4, 5, 100] {
            let blocks = MemoryBlocks()
            let content = (0..<count).map { UInt8($0) }
            let root = Self.narrow.importContent(content, metadata: metadata, into: blocks)
            var holders: [CID] = []
            try blocks.forEachBlock(below: root.cid) { cid, block throws(BlockFormatError) in
                #expect(cid.codec == .dagPB)
                let data = try DAGNode(decoding: block).data ?? []
                if try UnixFSData(decoding: data).metadata == metadata { holders.append(cid) }
            }
            #expect(holders == [root.cid])
            #expect(
                try blocks.unixfsEntry(root.cid) == .file(size: UInt64(count), metadata: metadata))
        }
    }

    @Test func theFailureOfASinkComesThrough() {
        struct Full: Error, Equatable {}
        var builder = BalancedDAGBuilder(profile: Self.narrow)
        #expect(throws: Full()) {
            for number in 0..<10 {
                try builder.append(Self.narrow.leaf("\(number)")) { _, _ throws(Full) in
                    throw Full()
                }
            }
        }
    }

    @Test func shortReadsGiveTheSameFile() {
        let content = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 / 3) }
        let profile = ImportProfile(
            chunkSize: 1000, fileLinksMax: 7, rawLeaves: true, cidVersion: 1,
            directoryEstimation: .block)
        var offset = 0
        let root = profile.importFile(
            read: { buffer in
                let count = min(buffer.count, content.count - offset, 333)
                buffer.copyBytes(from: content[offset..<(offset + count)])
                offset += count
                return count
            }, emit: nil)
        #expect(root == profile.importContent(content))
    }
}

extension FileReader {
    /// The whole content.
    mutating func readAll() throws -> [UInt8] {
        var content = [UInt8](repeating: 0, count: Int(size))
        let count = try content.withUnsafeMutableBytes { buffer in
            try read(into: buffer, at: 0)
        }
        return Array(content[..<count])
    }
}
