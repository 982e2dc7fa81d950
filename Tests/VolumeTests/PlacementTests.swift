import Base
import Checking
import Foundation
import GRDB
import Glibc
import InodeManifest
import MerkleDAG
import Multiformats
import ObjectStore
import Testing
import Volume

import struct SystemPackage.Errno

/// What the manifest in a state directory says, past the volume.
private struct Rows {
    private let database: DatabaseQueue

    init(_ stateDirectory: String) throws {
        database = try DatabaseQueue(path: stateDirectory + "/manifest.sqlite")
    }

    func integer(_ sql: String, _ arguments: StatementArguments = []) throws -> Int {
        try #require(
            try database.inDatabase { try Int.fetchOne($0, sql: sql, arguments: arguments) })
    }

    func hasNode(_ cid: CID) throws -> Bool {
        try integer(
            "SELECT count(*) FROM dag_node WHERE multihash = ?", [Data(cid.multihash.bytes)]) == 1
    }
}

@Suite struct PlacementTests {
    @Test func volumeWithoutANodePaysForNone() throws {
        let directory = ScratchDirectory()
        let volume = try openVolume(directory)
        try volume.makeFile("file", content(seed: 1, count: 3 << 20))
        _ = try volume.cid(of: .root)
        try volume.close()
        let rows = try Rows(directory.state)
        #expect(try rows.integer("SELECT count(*) FROM placement") == 0)
        #expect(try rows.integer("SELECT count(*) FROM remote") == 0)
        #expect(try rows.integer("SELECT count(*) FROM dag_reference WHERE kind = 3") == 0)
    }

    @Test func placementGoesWithTheCIDThatItIsOf() throws {
        let stand = try NodeStand()
        let directory = ScratchDirectory()
        var volume = try openVolume(directory, stand.options())
        let inner = try volume.makeDirectory("inner", in: .root, mode: 0o755, caller: root).inode
        try volume.makeFile("changed", in: inner, [1])
        try volume.makeFile("removed", in: inner, [2])
        try volume.makeFile("kept", [3])
        try volume.published()
        try volume.close()
        var rows: Rows? = try Rows(directory.state)
        #expect(try rows?.integer("SELECT count(*) FROM placement WHERE kind = 1") == 3)
        #expect(try rows?.integer("SELECT count(*) FROM placement WHERE kind = 2") == 2)
        rows = nil

        volume = try openVolume(directory)
        let handle = try volume.open(
            volume.inode("inner", "changed"), flags: OpenFlags(rawValue: O_RDWR), caller: root
        ).handle
        try volume.put([9], to: handle, at: 0)
        volume.release(handle)
        try volume.unlink("removed", in: inner)
        try volume.close()
        rows = try Rows(directory.state)
        #expect(try rows?.integer("SELECT count(*) FROM placement WHERE kind = 1") == 1)
        #expect(try rows?.integer("SELECT count(*) FROM placement WHERE kind = 2") == 0)
        rows = nil
        let report = try Check.run(stateDirectory: directory.state, repair: false) { _, _ in }
        #expect(report.isClean, "\(report.problems)")
    }

    /// All of a remote's placements at once, at the cost of one row.
    @Test func newEpochLeavesRowsAloneAndNothingCounts() throws {
        let scratch = ScratchDirectory()
        let manifest = try InodeManifest.open(
            directory: scratch.path, profileName: "unixfs-v1-2025", log: quietLog)
        func seal() throws -> UInt64 {
            try manifest.withLock { (state) throws(Errno) in
                let object = state.makeObject(id: nil, size: 1, inlineBytes: [1])
                state.seal(object, as: .sealing([1], profile: .unixfsV1_2025), size: 1)
                return object.id
            }
        }
        func waiting() throws -> (UInt64, [UInt64], Int) {
            try manifest.checkpoint()
            return try manifest.withLock { (state) throws(Errno) in
                (
                    try state.rows.unpublishedTotals().count,
                    try state.rows.unpublishedObjects(after: 0, limit: 10),
                    try state.rows.publishedFlatObjects(after: 0, limit: 10).count
                )
            }
        }
        let (first, second) = (try seal(), try seal())
        #expect(try waiting() == (2, [first, second], 0))
        manifest.withLock { state in
            state.published = PublishedState(
                peer: "peer", epoch: 1, path: "/x", root: nil, mirror: nil, time: .now())
        }
        try manifest.withLock { (state) throws(Errno) in
            guard let object = try state.object(first) else { throw .ioError }
            state.notePublished(object)
            #expect(state.isPublished(object))
        }
        #expect(try waiting() == (1, [second], 0))
        manifest.withLock { $0.published?.epoch += 1 }
        #expect(try waiting() == (2, [first, second], 0))
        try manifest.withLock { (state) throws(Errno) in
            guard let object = try state.object(first) else { throw .ioError }
            #expect(!state.isPublished(object))
        }
        try manifest.close(marksClean: true)
    }

    @Test func equalNodesAreStoredOnce() throws {
        let directory = ScratchDirectory()
        let volume = try openVolume(directory)
        for name in ["one", "two", "three"] {
            let inner = try volume.makeDirectory(
                FileName(name), in: .root, mode: 0o755, caller: root
            ).inode
            try volume.makeFile("same", in: inner, [1])
        }
        let cid = try volume.cid(of: .root)
        let inner = try volume.cid(of: volume.inode("one"))
        try volume.close()
        var rows: Rows? = try Rows(directory.state)
        #expect(try rows?.hasNode(cid) == true && rows?.hasNode(inner) == true)
        #expect(try rows?.integer("SELECT count(*) FROM dag_node") == 2)
        #expect(try rows?.integer("SELECT count(*) FROM dag_reference") == 4)
        rows = nil

        let again = try openVolume(directory)
        try again.unlink("same", in: again.inode("one"))
        try again.close()
        rows = try Rows(directory.state)
        // The two others need it still.
        #expect(try rows?.hasNode(cid) == false && rows?.hasNode(inner) == true)
        #expect(try rows?.integer("SELECT count(*) FROM dag_reference") == 2)
    }

    @Test func publishedRootStaysWholeUntilTheNextOne() throws {
        let stand = try NodeStand()
        let directory = ScratchDirectory()
        var volume = try openVolume(directory, stand.options())
        let inner = try volume.makeDirectory("inner", in: .root, mode: 0o755, caller: root).inode
        let large = content(seed: 5, count: 3 << 20)
        try volume.makeFile("large", in: inner, large)
        let first = try #require(try volume.published())
        let (directoryCID, fileCID) = (
            try volume.cid(of: inner), try volume.cid(of: volume.inode("inner", "large"))
        )
        try volume.close()

        // Without the node, so that no other root is published.
        volume = try openVolume(directory)
        try volume.unlink("large", in: inner)
        let later = try volume.cid(of: .root)
        try volume.makeFile("new", [1])
        _ = try volume.cid(of: .root)
        try volume.close()
        var rows: Rows? = try Rows(directory.state)
        for cid in [first, directoryCID, fileCID] { #expect(try rows?.hasNode(cid) == true) }
        #expect(try rows?.hasNode(later) == false)
        rows = nil
        let report = try Check.run(stateDirectory: directory.state, repair: false) { _, _ in }
        #expect(report.isClean, "\(report.problems)")

        volume = try openVolume(directory, stand.options())
        let next = try #require(try volume.published())
        try volume.close()
        rows = try Rows(directory.state)
        #expect(try rows?.hasNode(next) == true)
        for cid in [first, directoryCID, fileCID] { #expect(try rows?.hasNode(cid) == false) }
        #expect(try rows?.integer("SELECT count(*) FROM dag_reference WHERE kind = 3") == 0)
    }
}

/// A manifest whose changes are in the redo log alone when its process dies, opened again each time.
@Suite struct PlacementLogTests {
    private let scratch = ScratchDirectory()

    private func opened<Result>(
        _ body: (ManifestState) throws -> Result
    ) throws -> Result {
        let manifest = try InodeManifest.open(
            directory: scratch.path, profileName: "unixfs-v1-2025", log: quietLog)
        defer { manifest.abandon() }
        try manifest.startLog(segmentByteCount: 64 << 10)
        let result = try manifest.withLock { (state) throws in try body(state) }
        try manifest.commit()
        return result
    }

    private func object(_ id: UInt64, _ state: ManifestState) throws -> ObjectRecord {
        try #require(try state.object(id))
    }

    @Test func placementsAndWhatRootsNeedAreThereAfterACrash() throws {
        let leaves = (0..<2).map { leaf in
            CID(codec: .raw, multihash: .sha256(of: [UInt8(leaf)])).multihash.bytes
        }
        let cid = CID.dagPB(sha256: [7], version: 1)
        let node = StoredNode(multihash: cid.multihash.bytes, bytes: [7])
        let id = try opened { (state) throws in
            state.published = PublishedState(
                peer: "peer", epoch: 3, path: "/x", root: nil, mirror: nil, time: .now())
            let object = state.makeObject(id: state.numbers.reserve(), size: 2)
            state.seal(
                object, as: SealResult(cid: cid, treeSize: 2, leaves: leaves, nodes: [node]),
                size: 2)
            state.notePublished(object)
            return object.id
        }
        try opened { (state) throws in
            #expect(state.isPublished(try object(id, state)))
            #expect(state.published?.epoch == 3 && state.published?.peer == "peer")
            #expect(try state.rows.isLeafPublished(leaves[1]))
            #expect(try state.rows.unpublishedTotals().count == 0)
            let count = state.roots.begin()
            state.published?.root = cid
            state.published?.rootCount = count
            state.roots.end()
        }
        try opened { (state) throws in
            #expect(state.published?.root == cid && state.published?.rootCount == 1)
            state.unseal(try object(id, state))
        }
        try opened { (state) throws in
            #expect(!state.isPublished(try object(id, state)))
            #expect(try !state.rows.isLeafPublished(leaves[1]))
            // The root has it.
            #expect(try state.rows.node(with: node.multihash) == node.bytes)
            #expect(try state.rows.nodes(of: id).isEmpty)
            let count = state.roots.begin()
            state.published?.root = CID.dagPB(sha256: [8], version: 1)
            state.published?.rootCount = count
            state.roots.end()
        }
        try opened { (state) throws in
            #expect(try state.rows.node(with: node.multihash) == nil)
        }
    }
}
