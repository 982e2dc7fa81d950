import Base
import Checking
import Glibc
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

private let large = content(seed: 2, count: 3 << 20)

/// Names and attributes of the view of snapshots.
@Suite struct SnapshotViewTests {
    private let scratch = ScratchDirectory()

    @Test func theViewIsThereAndInNoListing() throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.makeFile("file", [1])
        let count = try volume.status().directories
        let top = try volume.lookup(".registryfs", in: .root)
        #expect(top.kind == .directory && top.mode == 0o700)
        #expect(try volume.names() == ["file"])
        try volume.readDirectoryPlus(.root, from: 0) { entry, _ in
            #expect(entry.name != ".registryfs")
            return true
        }
        #expect(try volume.names(in: top.inode) == ["snapshots"])
        let snapshots = try volume.lookup("snapshots", in: top.inode)
        #expect(snapshots.kind == .directory)
        #expect(try volume.names(in: snapshots.inode).isEmpty)
        for name: FileName in ["x", "file"] {
            for inode in [top.inode, snapshots.inode] {
                #expect(
                    errno { () throws(Errno) in try volume.lookup(name, in: inode) }
                        == .noSuchFileOrDirectory)
            }
        }
        // Elsewhere the name is one as any other.
        let inner = try volume.makeDirectory("inner")
        #expect(
            errno { () throws(Errno) in try volume.lookup(".registryfs", in: inner) }
                == .noSuchFileOrDirectory)
        #expect(try volume.makeDirectory(".registryfs", in: inner).number < 1 << 62)
        // Nothing of it is the tree's: two were made here.
        #expect(try volume.status().directories == count + 2)
        try volume.close()
        try expectClean(scratch)
    }

    @Test(arguments: ["unixfs-v1-2025", "unixfs-v0-2015"], [true, false])
    func aSnapshotReadsAsTheTreeWas(_ profile: String, _ isStill: Bool) throws {
        var options = isStill ? stillOptions : VolumeOptions()
        options.profile = ImportProfile(name: profile)
        let volume = try openVolume(scratch, options)
        try volume.fillForSnapshot(large: large)
        let many = try volume.makeDirectory("many")
        for number in 0..<300 { try volume.makeFile(FileName("\(number)"), in: many, [7]) }
        var expected = try volume.everything(below: .root)
        let shown = ShownSnapshots(in: volume)
        let root = try shown.add("one", of: volume).root
        expected[Array("inner/fifo".utf8)] = nil
        #expect(try volume.everything(below: volume.view("one")) == expected)
        // As well when the tree has changed, and after it was opened again.
        try volume.makeFile("later", [1])
        try volume.unlink("later", in: .root)
        #expect(try volume.everything(below: volume.view("one")) == expected)
        #expect(try volume.cid(of: .root) == root)
        #expect(try volume.cid(of: volume.view("one")) == root)
        try volume.close()
        let again = try openVolume(scratch, options)
        try ShownSnapshots(in: again).add("one", of: again, root: root)
        #expect(try again.everything(below: again.view("one")) == expected)
        try again.close()
        try expectClean(scratch)
    }

    @Test func aShardedDirectoryIsListedWholeInAnyPortions() throws {
        let volume = try openVolume(scratch, stillOptions)
        let many = try volume.makeDirectory("many")
        let names = (0..<6_000).map { "\($0)-" + String(repeating: "n", count: 60) }
        for name in names { try volume.makeFile(FileName(name), in: many, []) }
        let shown = ShownSnapshots(in: volume)
        try shown.add("one", of: volume)
        let block = try volume.block(volume.cid(of: many))
        let fields = try UnixFSData(decoding: try #require(DAGNode(decoding: block).data))
        #expect(fields.kind == .hamtShard)
        let inode = try volume.view("one", "many")
        for portion in [1_000, 999, .max] {
            let entries = try volume.entries(of: inode, portion: portion)
            #expect(entries.map { "\($0.name)" }.sorted() == names.sorted())
            #expect(Set(entries.map(\.inode)).count == names.count)
        }
        for name in [names[0], names[5_999]] {
            let found = try volume.lookup(FileName(name), in: inode)
            #expect(found.size == 0)
            let listed = try volume.entries(of: inode).first { "\($0.name)" == name }
            #expect(listed?.inode == found.inode.number)
            #expect(try volume.contents(of: found.inode).isEmpty)
            volume.forget(found.inode, count: 1)
        }
        try volume.close()
    }

    @Test func whatTheKernelForgetsIsKnownNoLonger() throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.fillForSnapshot(large: [1])
        let shown = ShownSnapshots(in: volume)
        try shown.add("one", of: volume)
        #expect(volume.shownSnapshotInodes == 0)
        let snapshots = try volume.lookup(
            "snapshots", in: volume.lookup(".registryfs", in: .root).inode)
        let one = try volume.lookup("one", in: snapshots.inode)
        let inner = try volume.lookup("inner", in: one.inode)
        let deep = try volume.lookup("deep", in: inner.inode)
        _ = try volume.lookup("deep", in: inner.inode)
        #expect(volume.shownSnapshotInodes == 3)
        // Directories stay as long as something in them is known.
        volume.forget(one.inode, count: 1)
        volume.forget(inner.inode, count: 1)
        #expect(volume.shownSnapshotInodes == 3)
        #expect(try volume.lookup("..", in: deep.inode).inode == inner.inode)
        volume.forget(inner.inode, count: 1)
        volume.forget(deep.inode, count: 1)
        #expect(try volume.attributes(of: deep.inode).kind == .directory)
        volume.forget(deep.inode, count: 1)
        #expect(volume.shownSnapshotInodes == 0)
        let stale = Errno(rawValue: ESTALE)
        for inode in [one, inner, deep].map(\.inode) {
            #expect(errno { () throws(Errno) in try volume.attributes(of: inode) } == stale)
            #expect(errno { () throws(Errno) in try volume.lookup(".", in: inode) } == stale)
            #expect(errno { () throws(Errno) in try volume.entries(of: inode) } == stale)
            #expect(
                errno { () throws(Errno) in
                    try volume.open(inode, flags: .read, caller: root)
                } == stale)
        }
        // A listing with attributes counts one reference for each entry that was taken.
        let again = try volume.lookup("one", in: snapshots.inode)
        #expect(again.inode == one.inode)
        _ = try volume.lookup("inner", in: again.inode)
        var taken: [Inode] = []
        try volume.readDirectoryPlus(inner.inode, from: 0) { entry, attributes in
            guard let attributes else { return true }
            #expect(attributes.inode == entry.inode)
            guard taken.count < 3 else { return false }
            taken.append(attributes.inode)
            return true
        }
        #expect(volume.shownSnapshotInodes == 5)
        for inode in taken + [inner.inode, one.inode] { volume.forget(inode, count: 1) }
        #expect(volume.shownSnapshotInodes == 0)
        // Paths are known for a while, and there are no more of them than fit.
        for number in 0..<600 {
            try shown.add("s\(number)", of: volume)
            _ = try volume.view(FileName("s\(number)"), "inner")
        }
        #expect((1...513).contains(volume.shownSnapshotInodes))
        try volume.close()
    }

    @Test func dotAndDotDotOfTheViewAreWhatTheyAre() throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.fillForSnapshot(large: [1])
        try ShownSnapshots(in: volume).add("one", of: volume)
        let path: [FileName] = [".registryfs", "snapshots", "one", "inner", "inline"]
        var above = Inode.root
        for count in 1...path.count {
            let inode = try volume.resolve(path: Array(path[..<count]))
            for name: FileName in [".", "/"] {
                #expect(try volume.lookup(name, in: inode).inode == inode)
                volume.forget(inode, count: 1)
            }
            #expect(try volume.lookup("..", in: inode).inode == above)
            volume.forget(above, count: 1)
            if count < path.count {
                var dots: [Inode] = []
                try volume.readDirectory(inode, from: 0) { entry in
                    dots.append(entry.inode)
                    return dots.count < 2
                }
                #expect(dots == [inode, above])
            }
            #expect(
                volume.shownPath(of: inode) == "/"
                    + path[..<count].map { "\($0)" }.joined(separator: "/"))
            above = inode
        }
        try volume.close()
    }

    @Test func aSnapshotThatTakesTheNameOfAnotherHasOtherInodes() throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.makeFile("file", [1])
        let observer = SeenNames()
        volume.observeNames(observer)
        let shown = ShownSnapshots(in: volume)
        try shown.add("one", of: volume)
        volume.snapshotsChanged("one")
        let old = try volume.view("one", "file")
        let oldTop = try volume.view("one")
        #expect(try volume.view("one", "file") == old)
        try volume.unlink("file", in: .root)
        try volume.makeFile("file", [1, 2])
        shown.remove("one")
        volume.snapshotsChanged("one")
        #expect(errno { () throws(Errno) in try volume.view("one") } == .noSuchFileOrDirectory)
        try shown.add("one", of: volume)
        volume.snapshotsChanged("one")
        let new = try volume.view("one", "file")
        #expect(new != old)
        #expect(try volume.view("one") != oldTop)
        #expect(try volume.contents(of: new) == [1, 2])
        #expect(observer.count(of: "one", in: try volume.view()) == 3)
        #expect(volume.namesChangeUnseen(in: try volume.view()))
        #expect(!volume.namesChangeUnseen(in: oldTop) && !volume.namesChangeUnseen(in: .root))
        try volume.close()
    }

    @Test func attributesAreThoseOfUnixFSAndTheOwnerOfTheRoot() throws {
        var options = stillOptions
        let volume = try openVolume(scratch, options)
        try volume.fillForSnapshot(large: large)
        var change = AttributeChange()
        (change.uid, change.gid) = (1234, 5678)
        _ = try volume.setAttributes(of: .root, change, handle: nil, caller: root)
        let shown = ShownSnapshots(in: volume)
        let snapshot = try shown.add("one", of: volume, at: 7_000_000_123)
        let time = Timestamp(nanoseconds: snapshot.createdAt)
        for (path, mode, size, blocks) in [
            ([FileName](), UInt32(0o755), UInt64(4096), UInt64(8)),
            (["one"], 0o755, 4096, 8),
            (["one", "inner"], 0o755, 4096, 8),
            (["one", "inner", "large"], 0o644, 3 << 20, 6144),
            (["one", "inner", "inline"], 0o644, 3, 1),
            (["one", "inner", "empty"], 0o644, 0, 0),
            (["one", "inner", "link"], 0o777, 3, 0),
        ] {
            let inode = try volume.resolve(path: [".registryfs", "snapshots"] + path)
            let found = try volume.attributes(of: inode)
            #expect(found.mode == mode && found.size == size && found.blocks == blocks)
            #expect(found.uid == 1234 && found.gid == 5678 && found.linkCount == 1)
            #expect(found.modified == time && found.changed == time)
        }
        let top = try volume.attributes(of: volume.resolve(path: [".registryfs"]))
        #expect(top.mode == 0o700 && top.uid == 1234)
        try volume.close()
        // Who may not know the CID of his directory may not see what was in it.
        options.directoryCIDs = .root
        let again = try openVolume(scratch, options)
        #expect(try again.lookup(".registryfs", in: .root).uid == geteuid())
        try again.close()
    }

    @Test func extendedAttributesAreTheCIDAlone() throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.fillForSnapshot(large: large)
        let live = try volume.inode("inner", "large")
        try volume.setExtendedAttribute(
            "user.x", of: live, to: [1], flags: 0, clearSetGID: false, caller: root)
        try ShownSnapshots(in: volume).add("one", of: volume)
        for path: [FileName] in [["inner"], ["inner", "large"], ["inner", "link"]] {
            let inode = try volume.resolve(path: [".registryfs", "snapshots", "one"] + path)
            let own = try volume.cid(of: volume.resolve(path: path))
            #expect(try volume.cid(of: inode) == own)
            for name: FileName in ["ipfs.cid", "user.ipfs.cid"] {
                #expect(
                    try volume.extendedAttribute(name, of: inode) == Array("\(own)".utf8))
            }
            #expect(try volume.extendedAttributeNames(of: inode).isEmpty)
            #expect(
                errno { () throws(Errno) in try volume.extendedAttribute("user.x", of: inode) }
                    == .noData)
            #expect(
                errno { () throws(Errno) in
                    try volume.extendedAttribute("security.selinux", of: inode)
                }?.rawValue == EOPNOTSUPP)
        }
        // As of all directories, for their owner alone.
        let inner = try volume.view("one", "inner")
        #expect(
            errno { () throws(Errno) in
                try volume.extendedAttribute("ipfs.cid", of: inner, for: 4321)
            } == .permissionDenied)
        #expect(
            errno { () throws(Errno) in try volume.extendedAttribute("ipfs.cid", of: volume.view())
            }
                == .noData)
        try volume.close()
    }

    @Test func aReportTellsOfTheContent() throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.fillForSnapshot(large: large)
        try ShownSnapshots(in: volume).add("one", of: volume)
        let live = try volume.report(of: volume.inode("inner", "large"))
        let shown = try volume.report(of: volume.view("one", "inner", "large"))
        #expect(shown.cid == live.cid && shown.treeSize == live.treeSize && shown.isSealed)
        #expect(shown.leaves.map(\.cid) == live.leaves.map(\.cid) && shown.leafCount == 3)
        let inner = try volume.report(of: volume.view("one", "inner"))
        #expect(try inner.childCount == 7 && inner.cid == volume.cid(of: volume.inode("inner")))
        #expect(try volume.report(of: volume.view("one", "inner", "link")).target?.count == 3)
        #expect(try volume.report(of: volume.view()).childCount == 1)
        #expect(try volume.report(of: volume.view()).cid == nil)
        try volume.close()
    }

    @Test func aTreeThatHasTheNameShowsItsOwn() throws {
        let source = try VolumeSource()
        let first = source.volume
        let made = try first.makeDirectory("made")
        let own = try first.makeDirectory(".registryfs", in: made)
        try first.makeFile("mine", in: own, [5])
        try first.makeFile("file", in: made, [6])
        let cid = try first.cid(of: made)
        var options = stillOptions
        options.sources = FetchOptions(source)
        options.origin = OriginOptions(reference: "/ipfs/\(cid)") { _ throws(OriginError) in
            OriginRoot(cid: cid)
        }
        let volume = try openVolume(scratch, options)
        try ShownSnapshots(in: volume).add("one", of: volume, root: cid)
        #expect(try volume.names() == [".registryfs", "file"])
        let real = try volume.lookup(".registryfs", in: .root)
        #expect(real.inode.number < 1 << 62 && !real.nameMayChangeUnseen)
        #expect(try volume.contents(of: volume.inode(".registryfs", "mine")) == [5])
        #expect(errno { () throws(Errno) in try volume.view() } == .noSuchFileOrDirectory)
        // It is as any other name, until it is gone.
        try volume.rename(".registryfs", in: .root, to: "moved", in: .root, flags: [])
        #expect(try volume.view().number > 1 << 62)
        #expect(try volume.lookup(".registryfs", in: .root).nameMayChangeUnseen)
        #expect(
            errno { () throws(Errno) in
                try volume.rename("moved", in: .root, to: ".registryfs", in: .root, flags: [])
            } == .readOnlyFileSystem)
        #expect(try volume.contents(of: volume.view("one", ".registryfs", "mine")) == [5])
        try volume.close()
        try first.close()
    }
}

/// Names that the kernel was told of.
private final class SeenNames: NamesObserver {
    private let seen = Monitor<[(FileName, Inode)]>([])

    func nameChanged(_ name: FileName, in parent: Inode) {
        seen.withLock { $0.append((name, parent)) }
    }

    func count(of name: FileName, in parent: Inode) -> Int {
        seen.withLock { $0.count { $0 == (name, parent) } }
    }
}
