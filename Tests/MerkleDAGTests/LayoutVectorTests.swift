import MerkleDAG
import Multiformats
import Testing

/// Files as other writers lay them out. They are not written here, but have to be read.
@Suite struct LayoutVectorTests {
    /// A leaf or a node, with what its parent has to say about it.
    private struct Child {
        var cid: CID
        var fileSize: UInt64
        var treeSize: UInt64
    }

    /// Stores a node above children.
    private func put(_ children: [Child], in blocks: MemoryBlocks, version: Int) -> Child {
        let size = children.reduce(0) { $0 + $1.fileSize }
        let node = DAGNode(
            links: children.map { DAGLink(cid: $0.cid, treeSize: $0.treeSize) },
            data: UnixFSData(
                kind: .file, fileSize: size, blockSizes: children.map(\.fileSize)
            ).encoded())
        let treeSize = node.treeSize(blockSize: node.encoded().count)
        return Child(
            cid: blocks.put(node, version: version), fileSize: size, treeSize: treeSize)
    }

    /// Stores a leaf as MFS and the trickle layout do: of Type Raw, or really raw.
    private func putLeaf(_ content: [UInt8], in blocks: MemoryBlocks, version: Int) -> Child {
        let size = UInt64(content.count)
        guard version == 0 else {
            return Child(cid: blocks.putLeaf(content), fileSize: size, treeSize: size)
        }
        let node = DAGNode(
            data: UnixFSData(kind: .raw, data: content, fileSize: size).encoded())
        let treeSize = UInt64(node.encoded().count)
        return Child(cid: blocks.put(node, version: 0), fileSize: size, treeSize: treeSize)
    }

    private func trickle(
        _ chunks: inout ArraySlice<ArraySlice<UInt8>>, width: Int, depthMax: Int,
        in blocks: MemoryBlocks
    ) -> Child {
        var children: [Child] = []
        while children.count < width, let chunk = chunks.popFirst() {
            children.append(putLeaf(Array(chunk), in: blocks, version: 0))
        }
        var depth = 1
        while depth < depthMax, !chunks.isEmpty {
            for _ in 0..<4 where !chunks.isEmpty {
                children.append(trickle(&chunks, width: width, depthMax: depth, in: blocks))
            }
            depth += 1
        }
        return put(children, in: blocks, version: 0)
    }

    @Test func aTrickleFileIsRead() throws {
        let blocks = MemoryBlocks()
        var stream = ChaChaStream(seed: "trickle-test")
        let content = stream.bytes(45 << 20)
        var chunks = stride(from: 0, to: content.count, by: 262_144).map {
            content[$0..<min($0 + 262_144, content.count)]
        }[...]
        let root = trickle(&chunks, width: 174, depthMax: .max, in: blocks)
        #expect(root.cid.description == "QmbqR6g7YCpndLcCZZXkGyj13uMcSrwDYUvZ47vJqBVjUH")
        var reader = try FileReader(root: root.cid, source: blocks)
        #expect(try reader.readAll() == content)
    }

    @Test func aDeepTrickleFileIsRead() throws {
        let blocks = MemoryBlocks()
        let content = (0..<5000).map { UInt8(truncatingIfNeeded: $0 % 251) }
        var chunks = stride(from: 0, to: content.count, by: 3).map {
            content[$0..<min($0 + 3, content.count)]
        }[...]
        let root = trickle(&chunks, width: 2, depthMax: .max, in: blocks)
        var reader = try FileReader(root: root.cid, source: blocks)
        #expect(try reader.readAll() == content)
        var byte: [UInt8] = [0]
        for offset in [4999, 0, 2500, 17, 4998] {
            let count = try byte.withUnsafeMutableBytes {
                try reader.read(into: $0, at: UInt64(offset))
            }
            #expect(count == 1)
            #expect(byte[0] == content[offset])
        }
    }

    @Test(arguments: [
        (0, "QmQdQt9qooenjeaNhiKHF3hBvmNteB4MQBtgu3jxgf9c7i"),
        (1, "bafybeibkrazpbejqh3qun7xfnsl7yofl74o4jwhxebpmtrcpavebokuqtm"),
    ])
    func aFileThatMFSOverwroteIsRead(version: Int, text: String) throws {
        let blocks = MemoryBlocks()
        // Eleven bytes were there and were overwritten in place; the others were appended.
        let leaves = ["ipfs is sup", "er cool\n"].map {
            putLeaf(Array($0.utf8), in: blocks, version: version)
        }
        let root = put(leaves, in: blocks, version: version)
        #expect(root.cid.description == text)
        var reader = try FileReader(root: root.cid, source: blocks)
        #expect(try reader.readAll() == Array("ipfs is super cool\n".utf8))
    }

    @Test(arguments: [
        (0, "QmPVnT9gocPbqzN4G6SMp8vAPyzcjDbUJrNdKgzQquuDg4"),
        (1, "bafybeigwhb3q36yrm37jv5fo2ap6r6eyohckqrxmlejrenex4xlnuxiy3e"),
    ])
    func aFileThatMFSTruncatedKeepsAnEmptyLeafAndIsRead(version: Int, text: String) throws {
        let blocks = MemoryBlocks()
        let content = Array("fish\n".utf8)
        let leaves = [[], content].map { putLeaf($0, in: blocks, version: version) }
        let root = put(leaves, in: blocks, version: version)
        #expect(root.cid.description == text)
        var reader = try FileReader(root: root.cid, source: blocks)
        #expect(try reader.readAll() == content)
    }

    @Test(arguments: [
        (0, "QmPkwLJTYZRGPJ8Lazr9qPdrLmswPtUjaDbEpmR9jEh1se"),
        (1, "bafybeibu4i76qi26jhpgskqhivuactsvdsia44swpi7eaw45r7c3c3lhs4"),
    ])
    func aShardedDirectoryOfMFSFilesIsRead(version: Int, text: String) throws {
        let blocks = MemoryBlocks()
        let profile =
            version == 0 ? ImportProfile.unixfsV0_2015 : ImportProfile.unixfsV1_2025
        let files = (1...100).map { number in
            let content = Array("\(number)\n".utf8)
            let file = put(
                [putLeaf(content, in: blocks, version: 0)], in: blocks, version: 0)
            return (
                name: "file\(number)",
                leaf: Leaf(cid: file.cid, fileSize: file.fileSize, treeSize: file.treeSize)
            )
        }
        let root = try profile.sharding(above: 0).directory(files, into: blocks)
        #expect(root.cid.description == text)
        for number in [1, 50, 100] {
            let cid = try blocks.resolve([Array("file\(number)".utf8)], from: root.cid)
            var reader = try FileReader(root: cid, source: blocks)
            #expect(try reader.readAll() == Array("\(number)\n".utf8))
        }
    }
}
