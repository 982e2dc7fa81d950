import Base
import Checking
import Foundation
import Glibc
import MerkleDAG
import Multiformats
import Remotes
import Testing
import Volume

import struct SystemPackage.Errno

/// Trees that come with all that UnixFS cannot say of them: snapshots with a portable manifest, and volumes from one.
@Suite struct ManifestTreeTests {
    private static let large = content(seed: 1, count: 3_500_000)

    private func setAttributes(
        _ volume: Volume, _ inode: Inode, mode: UInt32, uid: UInt32, gid: UInt32, seconds: Int64
    ) throws {
        var change = AttributeChange()
        (change.mode, change.uid, change.gid) = (mode, uid, gid)
        change.modified = .at(Timestamp(nanoseconds: seconds * 1_000_000_000 + 123_456_789))
        _ = try volume.setAttributes(of: inode, change, handle: nil, caller: root)
    }

    private func fill(_ volume: Volume) throws {
        let inner = try volume.makeDirectory("inner")
        let deep = try volume.makeDirectory("deep", in: inner)
        let file = try volume.makeFile("large", in: inner, Self.large)
        let linked = try volume.makeFile("linked", in: deep, [1, 2, 3])
        _ = try volume.link(linked, as: "again", in: .root)
        _ = try volume.link(linked, as: "third", in: inner)
        let link = try volume.makeSymlink("link", in: deep, target: [0x78], caller: root).inode
        let pipe = try volume.makeNode(
            "pipe", in: deep, kind: .fifo, mode: 0o620, rdev: 0, caller: root
        ).inode
        _ = try volume.makeNode(
            "null", in: .root, kind: .characterDevice, mode: 0o666, rdev: 0x103, caller: root)
        for number in 0..<300 {
            try volume.makeFile(FileName("many\(number)"), in: deep, [UInt8(number & 0xff)])
        }
        try setAttributes(volume, file, mode: 0o4751, uid: 12, gid: 34, seconds: 1_000_000_000)
        try setAttributes(volume, linked, mode: 0o600, uid: 5, gid: 6, seconds: -1000)
        try setAttributes(volume, pipe, mode: 0o610, uid: 7, gid: 8, seconds: 77)
        try setAttributes(volume, link, mode: 0o777, uid: 70, gid: 80, seconds: 78)
        try volume.setExtendedAttribute(
            "user.a", of: file, to: [5, 0, 6], flags: 0, clearSetGID: false, caller: root)
        try volume.setExtendedAttribute(
            "trusted.t", of: deep, to: content(seed: 4, count: 6000), flags: 0,
            clearSetGID: false, caller: root)
        try setAttributes(volume, deep, mode: 0o2750, uid: 9, gid: 10, seconds: 2_000_000_000)
        try setAttributes(volume, .root, mode: 0o700, uid: 11, gid: 12, seconds: 5)
    }

    /// All that rsync -aHAX compares.
    private func seen(_ volume: Volume) throws -> [String] {
        var lines: [String] = []
        var first: [UInt64: String] = [:]
        func look(_ inode: Inode, _ path: String) throws {
            let found = try volume.attributes(of: inode)
            var line = "\(path) \(found.kind) \(found.mode) \(found.uid) \(found.gid) "
            line += "\(found.modified.nanoseconds) \(found.rdev) \(found.linkCount) \(found.size)"
            if found.kind != .directory {
                line += " as \(first[inode.number] ?? "none")"
                first[inode.number] = first[inode.number] ?? path
            }
            for name in try volume.extendedAttributeNames(of: inode).split(separator: 0) {
                let value = try volume.extendedAttribute(FileName(Array(name)), of: inode)
                line += " \(Array(name)) = \(value.hashValue)"
            }
            if found.kind == .symlink { line += " \(try volume.readSymlink(inode))" }
            if found.kind == .regular { line += " \(try volume.contents(of: inode).hashValue)" }
            lines.append(line)
            guard found.kind == .directory else { return }
            let entries = try volume.entries(of: inode)
                .sorted { $0.name.bytes.lexicographicallyPrecedes($1.name.bytes) }
            for entry in entries { try look(Inode(entry.inode), path + "/\(entry.name)") }
        }
        try look(.root, "")
        return lines
    }

    private func options(_ source: OtherVolume, _ root: CID) -> VolumeOptions {
        var options = VolumeOptions()
        options.sealDelayMilliseconds = 10
        options.sources = FetchOptions(source)
        options.origin = OriginOptions(reference: "/ipfs/\(root)") { _ throws(OriginError) in
            OriginRoot(cid: root)
        }
        return options
    }

    @Test func treeFromAManifestIsTheSameInAllThatCanBeSeen() throws {
        let source = try OtherVolume(fill)
        let made = try source.volume.createSnapshot(named: "one", withManifest: true)
        let manifest = try #require(made.manifest)
        let expected = try seen(source.volume)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, options(source, manifest))
        let found = try seen(volume)
        for (one, other) in zip(found, expected) { #expect(one == other) }
        #expect(found.count == expected.count)
        #expect(try volume.cid(of: .root) == made.root)
        #expect(volume.originStatus()?.root == made.root)
        try volume.close()
        let report = try Check.run(stateDirectory: directory.state, repair: false) { _, _ in }
        #expect(report.isClean, "\(report.problems)")
        // It is whole, and needs nobody for its names.
        let again = try openVolume(directory, options(source, manifest))
        #expect(try seen(again) == expected)
        try again.close()
    }

    @Test func sameTreeHasTheSameManifestAndAChangeNewBlocksForWhatChanged() throws {
        let source = try OtherVolume(fill)
        let volume = source.volume
        let one = try volume.createSnapshot(named: "one", withManifest: true)
        let two = try volume.createSnapshot(named: "two", withManifest: true)
        #expect(one.manifest == two.manifest && one.manifest != nil)
        func blocks(_ snapshot: Snapshot) throws -> Set<[UInt8]> {
            var found: Set<[UInt8]> = []
            var waiting = [try #require(snapshot.manifest)]
            while let cid = waiting.popLast() {
                guard cid.codec == .dagCBOR, found.insert(cid.bytes).inserted else { continue }
                waiting += cid.links(of: try volume.block(cid))
            }
            return found
        }
        let before = try blocks(one)
        let inner = try volume.inode("inner")
        var change = AttributeChange()
        change.mode = 0o700
        _ = try volume.setAttributes(of: inner, change, handle: nil, caller: root)
        let three = try volume.createSnapshot(named: "three", withManifest: true)
        #expect(three.root == one.root && three.manifest != one.manifest)
        // The entry of `inner` is in the root's directory.
        #expect(try blocks(three).subtracting(before).count == 2)
        for name in ["one", "two"] { try volume.deleteSnapshot(named: name) }
        #expect(try blocks(three).count == before.count)
        try volume.deleteSnapshot(named: "three")
        #expect(throws: VolumeError.self) { try volume.block(try #require(three.manifest)) }
    }

    @Test func loadingThatWasCutOffGoesOnAtTheNextOpening() async throws {
        let source = try OtherVolume(fill)
        let made = try source.volume.createSnapshot(named: "one", withManifest: true)
        let manifest = try #require(made.manifest)
        let expected = try seen(source.volume)
        let directory = ScratchDirectory()
        var refused = options(source, manifest)
        // Somebody has the first blocks alone.
        let part = try source.volume.cid(of: source.volume.inode("inner", "deep"))
        source.lose(part)
        #expect(throws: VolumeError.self) { try openVolume(directory, refused) }
        refused.origin = nil
        #expect(throws: VolumeError.self) { try openVolume(directory, refused) }
        source.find(part)
        let volume = try openVolume(directory, refused)
        #expect(try seen(volume) == expected)
        try volume.close()
        try expectClean(directory)
    }

    @Test func damagedManifestIsAnErrorThatNamesTheBlock() throws {
        let source = try OtherVolume { volume in
            try volume.makeFile("file", [1])
            _ = try volume.makeNode(
                "pipe", in: .root, kind: .fifo, mode: 0o600, rdev: 0, caller: root)
        }
        let made = try source.volume.createSnapshot(named: "one", withManifest: true)
        let manifest = try #require(made.manifest)
        let other = try OtherVolume { volume in try volume.makeFile("other", [2]) }
        let otherTree = try other.root
        let directory = try #require(
            manifest.links(of: try source.volume.block(manifest)).first { $0.codec == .dagCBOR })
        // A root block that says the tree is another one.
        let tree = made.root
        var block = try source.volume.block(manifest)
        let place = try #require(block.firstRange(of: tree.bytes))
        block.replaceSubrange(place, with: otherTree.bytes)
        let strange = CID(codec: .dagCBOR, multihash: .sha256(of: block))
        let scratch = ScratchDirectory()
        var options = VolumeOptions()
        options.sources = FetchOptions(
            FixedBlocks(source: [source, other], blocks: [strange: block]))
        options.origin = OriginOptions(reference: "/ipfs/\(strange)") { _ throws(OriginError) in
            OriginRoot(cid: strange)
        }
        let error = #expect(throws: VolumeError.self) { try openVolume(scratch, options) }
        #expect("\(error as Any)".contains("\(directory)"))
    }
}

/// Blocks of others, and some that nobody else has.
private struct FixedBlocks: RemoteBlocks {
    let source: [OtherVolume]
    let blocks: [CID: [UInt8]]

    var address: String { "fixed blocks" }

    func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
        if let block = blocks[request.cid] { return block }
        for other in source {
            if let found = try? other.block(request, memory: memory) { return found }
        }
        throw RemoteError(.notFound, "\(address): there is no block \(request.cid)")
    }
}
