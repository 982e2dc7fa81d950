import Base
import Checking
import Glibc
import MerkleDAG
import Testing
import Volume

import struct SystemPackage.Errno

/// RENAME_WHITEOUT of renameat2(2).
@Suite struct WhiteoutTests {
    private let scratch = ScratchDirectory()

    @Test func whiteoutTakesTheOldNameWithItsPlaceInAListing() throws {
        var volume = try openVolume(scratch, stillOptions)
        let caller = Caller(uid: 7, gid: 8, pid: 1, umask: 0o022)
        let file = try volume.makeFile("file", [1, 2])
        try volume.makeFile("other", [3])
        let (source, target) = (try volume.makeDirectory("source"), try volume.makeDirectory("to"))
        let moved = try volume.makeDirectory("moved", in: source)
        try volume.rename(
            "file", in: .root, to: "other", in: .root, flags: .whiteout, caller: caller)
        try volume.rename(
            "moved", in: source, to: "new", in: target, flags: [.whiteout, .noReplace],
            caller: caller)
        for _ in 0..<2 {
            for (name, directory) in [(FileName("file"), Inode.root), ("moved", source)] {
                let whiteout = try volume.lookup(name, in: directory)
                #expect(whiteout.kind == .characterDevice && whiteout.rdev == 0)
                #expect(whiteout.mode == 0 && whiteout.linkCount == 1)
                #expect(whiteout.uid == 7 && whiteout.gid == 8)
            }
            #expect(try volume.lookup("other", in: .root).inode == file)
            #expect(try volume.lookup("new", in: target).inode == moved)
            #expect(try volume.attributes(of: source).linkCount == 2)
            #expect(try volume.attributes(of: target).linkCount == 3)
            let names = try volume.entries(of: .root).map(\.name)
            #expect(names == ["file", "other", "source", "to"])
            #expect(try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid)
            try volume.close()
            volume = try openVolume(scratch, stillOptions)
        }
        try volume.close()
    }

    @Test func refusedRenameLeavesNoWhiteout() throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.makeFile("file", [1])
        try volume.makeFile("other", [2])
        try volume.makeFile("in", in: volume.makeDirectory("full"), [3])
        func error(_ name: FileName, _ new: FileName, _ flags: RenameFlags) -> Errno? {
            errno { () throws(Errno) in
                try volume.rename(name, in: .root, to: new, in: .root, flags: flags)
            }
        }
        #expect(error("file", "other", [.whiteout, .exchange]) == .invalidArgument)
        #expect(error("file", "other", [.whiteout, .noReplace]) == .fileExists)
        #expect(error("file", "full", .whiteout) == .isDirectory)
        #expect(error("full", "file", .whiteout) == .notDirectory)
        #expect(error("nothing", "other", .whiteout) == .noSuchFileOrDirectory)
        #expect(error("file", "other", RenameFlags(rawValue: 8)) == .invalidArgument)
        // Two names of one file: nothing happens.
        _ = try volume.link(volume.resolve(path: ["file"]), as: "same", in: .root)
        #expect(error("file", "same", .whiteout) == nil)
        let entries = try volume.entries(of: .root)
        #expect(!entries.contains { $0.kind == .characterDevice } && entries.count == 4)
        try volume.close()
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean)
    }
}
