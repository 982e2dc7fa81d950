import Foundation
import KuboDouble
import MerkleDAG
import Multiformats
import Testing

/// What clients rely on, of the double and of a real node where there is one.
///
/// A real node is shared: names are the test's own, and its garbage is left alone.
@Suite(.serialized) struct NodeTests {
    private struct Session {
        let node: TestNode
        let client: RawClient
        /// A directory of MFS that nobody else uses.
        let directory: String

        init(_ kind: TestNode.Kind) throws {
            node = try TestNode.make(kind)
            client = try RawClient(node.address)
            directory = "/test-" + UUID().uuidString
            #expect(try call("files/mkdir?arg=\(directory)").status == 200)
        }

        func call(_ target: String) throws -> RawClient.Response {
            try client.send("POST", "/api/v0/" + target)
        }

        func call(
            _ target: String, _ parts: [[UInt8]], name: String = "data"
        ) throws -> RawClient.Response {
            let (headers, body) = RawClient.multipart(parts, name: name)
            return try client.send("POST", "/api/v0/" + target, headers: headers, body: body)
        }

        func hash(_ path: String) throws -> String? {
            struct Stat: Decodable { var Hash: String }
            let response = try call("files/stat?arg=" + path)
            return try? JSONDecoder().decode(Stat.self, from: Data(response.body)).Hash
        }

        /// Stores a raw block that nobody else has.
        func putBlock() throws -> CID {
            let content = Array(UUID().uuidString.utf8)
            #expect(try call("block/put?cid-codec=raw", [content]).status == 200)
            return CID.raw(sha256: content)
        }
    }

    private static func directory(
        _ entries: [(name: String, cid: CID, size: UInt64)]
    ) -> (cid: CID, block: [UInt8]) {
        let node = DAGNode(
            links: entries.map {
                DAGLink(cid: $0.cid, name: Array($0.name.utf8), treeSize: $0.size)
            },
            data: UnixFSData(kind: .directory).encoded())
        let block = node.encoded()
        return (CID.dagPB(sha256: block, version: 1), block)
    }

    @Test(arguments: TestNode.kinds) func forcedCopyReplacesFilesButNoDirectories(
        _ kind: TestNode.Kind
    ) throws {
        let session = try Session(kind)
        let (first, second) = (try session.putBlock(), try session.putBlock())
        let path = session.directory + "/f"
        #expect(try session.call("files/cp?arg=/ipfs/\(first)&arg=\(path)").status == 200)
        #expect(try session.call("files/cp?arg=/ipfs/\(second)&arg=\(path)").status == 500)
        #expect(try session.hash(path) == first.description)
        #expect(
            try session.call("files/cp?arg=/ipfs/\(second)&arg=\(path)&force=true").status == 200)
        #expect(try session.hash(path) == second.description)
        let response = try session.call(
            "files/cp?arg=/ipfs/\(second)&arg=\(session.directory)&force=true")
        #expect(response.status == 500)
        #expect(response.text.contains("not a file"))
    }

    @Test(arguments: TestNode.kinds) func copiedDirectoryHasTheCIDThatWasGiven(
        _ kind: TestNode.Kind
    ) throws {
        let session = try Session(kind)
        let leaf = try session.putBlock()
        let (cid, block) = Self.directory([("b", leaf, 36), ("a", leaf, 36)])
        #expect(try session.call("block/put?cid-codec=dag-pb", [block]).status == 200)
        let path = session.directory + "/d"
        #expect(try session.call("files/cp?arg=/ipfs/\(cid)&arg=\(path)").status == 200)
        #expect(try session.hash(path) == cid.description)
        // Adding a name and removing it again leads back.
        #expect(try session.call("files/cp?arg=/ipfs/\(leaf)&arg=\(path)/c").status == 200)
        #expect(try session.hash(path) != cid.description)
        #expect(try session.call("files/rm?arg=\(path)/c").status == 200)
        #expect(try session.hash(path) == cid.description)
    }

    @Test(arguments: TestNode.kinds) func anUpdatedPinKeepsItsName(_ kind: TestNode.Kind) throws {
        let session = try Session(kind)
        let (old, new) = (try session.putBlock(), try session.putBlock())
        #expect(try session.call("pin/add?arg=\(old)&name=mine").status == 200)
        #expect(try session.call("pin/update?arg=\(old)&arg=\(new)").status == 200)
        let pins = try session.call("pin/ls?names=true&arg=\(new)")
        #expect(
            pins.text
                == "{\"Keys\":{\"\(new)\":{\"Type\":\"recursive\",\"Name\":\"mine\"}}}\n")
        #expect(try session.call("pin/ls?arg=\(old)").status == 500)
        let again = try session.call("pin/update?arg=\(old)&arg=\(new)")
        #expect(again.text.contains("'from' cid was not recursively pinned already"))
    }

    @Test(arguments: TestNode.kinds) func aDAGWithAHoleIsNotPinned(_ kind: TestNode.Kind) throws {
        let session = try Session(kind)
        let missing = CID.raw(sha256: Array(UUID().uuidString.utf8))
        let (cid, block) = Self.directory([("gone", missing, 36)])
        #expect(try session.call("block/put?cid-codec=dag-pb", [block]).status == 200)
        #expect(try session.call("pin/add?arg=\(cid)&timeout=1s").status == 500)
        #expect(try session.call("pin/ls?arg=\(cid)").status == 500)
        // A lazy copy asks for the root only.
        let path = session.directory + "/lazy"
        #expect(try session.call("files/cp?arg=/ipfs/\(cid)&arg=\(path)").status == 200)
        let stat = try session.call("files/stat?arg=\(path)&with-local=true")
        #expect(stat.text.contains("\"WithLocality\":true"))
        #expect(!stat.text.contains("\"Local\":true"))
    }

    @Test(arguments: TestNode.kinds) func aBrokenArchiveIsAnErrorThatNamesTheBlock(
        _ kind: TestNode.Kind
    ) throws {
        let session = try Session(kind)
        let good = Array(UUID().uuidString.utf8)
        let bad = CID.raw(sha256: Array("something else".utf8))
        var archive: [UInt8] = []
        var writer = CARWriter<Never>(roots: []) { archive += $0 }
        writer.write(CID.raw(sha256: good), good)
        writer.write(bad, Array("not what it says".utf8))
        let response = try session.call("dag/import?pin-roots=false", [archive], name: "path")
        #expect(response.status == 500)
        #expect(response.text.contains("mismatch in content integrity, expected: \(bad)"))
        // What was not committed yet is not stored.
        let stat = try session.call("block/stat?offline=true&arg=\(CID.raw(sha256: good))")
        #expect(stat.status == 500)
    }

    @Test(arguments: TestNode.kinds) func removingWhatIsMissingIsAnErrorInTheTrailer(
        _ kind: TestNode.Kind
    ) throws {
        let session = try Session(kind)
        let response = try session.call("files/rm?arg=\(session.directory)/none")
        #expect(response.status == 200)
        #expect(response.streamError == "can't remove some files")
        #expect(response.text.contains("file does not exist"))
    }

    @Test(arguments: TestNode.kinds) func aMoveBetweenParentsOfOneNameLeavesItsSource(
        _ kind: TestNode.Kind
    ) throws {
        let session = try Session(kind)
        let leaf = try session.putBlock()
        for side in ["x", "y"] {
            let path = "\(session.directory)/\(side)/same"
            #expect(try session.call("files/mkdir?arg=\(path)&parents=true").status == 200)
        }
        let (source, target) = (
            session.directory + "/x/same/f", session.directory + "/y/same/f"
        )
        #expect(try session.call("files/cp?arg=/ipfs/\(leaf)&arg=\(source)").status == 200)
        #expect(try session.call("files/mv?arg=\(source)&arg=\(target)").status == 200)
        #expect(try session.hash(source) == leaf.description)
        #expect(try session.hash(target) == leaf.description)
        #expect(try session.call("files/mv?arg=\(source)&arg=\(target)2").status == 200)
        #expect(try session.hash(source) == nil)
    }

    @Test(arguments: TestNode.kinds) func addedFilesHaveTheCIDsOfTheProfile(
        _ kind: TestNode.Kind
    ) throws {
        let session = try Session(kind)
        for count in [0, 1, 1 << 20, (1 << 20) + 1, 3_000_000] {
            let content = (0..<count).map { UInt8($0 % 251) }
            var rest = content[...]
            let root = ImportProfile.unixfsV1_2025.importFile(
                read: { (buffer: UnsafeMutableRawBufferPointer) -> Int in
                    let piece = rest.prefix(buffer.count)
                    buffer.copyBytes(from: piece)
                    rest = rest.dropFirst(piece.count)
                    return piece.count
                }, emit: nil)
            let response = try session.call("add?pin=false", [content], name: "file")
            #expect(response.text.contains("\"Hash\":\"\(root.cid)\""), "\(count) bytes")
            let back = try session.call("cat?arg=\(root.cid)")
            #expect(back.body == content)
        }
    }

    @Test(arguments: TestNode.kinds) func aLargeDirectoryIsShardedAsTheProfileSays(
        _ kind: TestNode.Kind
    ) throws {
        let session = try Session(kind)
        let leaf = try session.putBlock()
        var builder = DirectoryBuilder(profile: .unixfsV1_2025)
        for index in 0..<5000 {
            builder.add(
                name: Array("a-name-\(index)-of-many".utf8), cid: leaf, treeSize: 36)
        }
        var blocks: [[UInt8]] = []
        let root = try builder.finish { (_, block) throws(Never) in blocks.append(block) }
        #expect(
            try session.call("block/put?cid-codec=dag-pb", blocks).status == 200)
        let path = session.directory + "/many"
        #expect(try session.call("files/cp?arg=/ipfs/\(root.cid)&arg=\(path)").status == 200)
        // One more and one less: the node's shards are the same as ours.
        #expect(try session.call("files/cp?arg=/ipfs/\(leaf)&arg=\(path)/more").status == 200)
        #expect(try session.hash(path) != root.cid.description)
        #expect(try session.call("files/rm?arg=\(path)/more").status == 200)
        #expect(try session.hash(path) == root.cid.description)
    }
}
