import Base
import Glibc
import Testing
import Volume

import struct SystemPackage.Errno

/// What the kernel asks for a file handle whose inode it has dropped: `.` and `..` by node id.
@Suite struct HandleTests {
    private let scratch = ScratchDirectory()

    @Test func dotOfAnyInodeIsTheInodeItself() throws {
        var volume = try openVolume(scratch, stillOptions)
        var inodes: [Inode] = [.root, try volume.makeDirectory("directory")]
        inodes.append(try volume.makeFile("file", [1]))
        inodes.append(
            try volume.makeSymlink("symlink", in: .root, target: [0x78], caller: root).inode)
        for kind in [FileKind.fifo, .socket, .characterDevice, .blockDevice] {
            inodes.append(
                try volume.makeNode(
                    FileName("\(kind)"), in: .root, kind: kind, mode: 0o600, rdev: 0, caller: root
                ).inode)
        }
        for _ in 0..<2 {
            for inode in inodes {
                // `/`: the name of what the kernel has by its handle alone.
                for name: FileName in [".", "/"] {
                    let found = try volume.lookup(name, in: inode)
                    #expect(found.inode == inode)
                    #expect(try found.kind == volume.attributes(of: inode).kind)
                }
                #expect(try volume.lookup("..", in: inode).inode == .root)
            }
            try volume.close()
            volume = try openVolume(scratch, stillOptions)
        }
        try volume.close()
    }

    @Test func whatHasNoNameIsStale() throws {
        let volume = try openVolume(scratch, stillOptions)
        let directory = try volume.makeDirectory("directory")
        let file = try volume.makeFile("file", [1])
        // As long as somebody has it open, only the kernel's own inode leads to it.
        let opened = try volume.open(file, flags: .both, caller: root)
        let (temporary, unnamed) = try volume.makeTemporary(
            in: .root, mode: 0o600, flags: .both, caller: root)
        try volume.unlink("file", in: .root)
        try volume.removeDirectory("directory", in: .root)
        let stale = Errno(rawValue: ESTALE)
        for inode in [directory, file, temporary.inode, Inode(1 << 40)] {
            for name: FileName in [".", ".."] {
                #expect(errno { () throws(Errno) in try volume.lookup(name, in: inode) } == stale)
            }
        }
        _ = try volume.link(temporary.inode, as: "named", in: .root)
        #expect(try volume.lookup(".", in: temporary.inode).inode == temporary.inode)
        volume.release(opened.handle)
        volume.release(unnamed.handle)
        try volume.close()
    }

    @Test func dotDotOfAFileIsADirectoryThatHasIt() throws {
        let volume = try openVolume(scratch, stillOptions)
        let (one, two) = (try volume.makeDirectory("one"), try volume.makeDirectory("two"))
        let file = try volume.makeFile("file", in: one, [1])
        _ = try volume.link(file, as: "link", in: two)
        #expect([one, two].contains(try volume.lookup("..", in: file).inode))
        try volume.unlink("file", in: one)
        #expect(try volume.lookup("..", in: file).inode == two)
        try volume.rename("link", in: two, to: "moved", in: .root, flags: [])
        #expect(try volume.lookup("..", in: file).inode == .root)
        // A directory that moves takes those below it along.
        let below = try volume.makeDirectory("below", in: two)
        try volume.rename("two", in: .root, to: "in", in: one, flags: .whiteout)
        #expect(try volume.lookup("..", in: two).inode == one)
        #expect(try volume.lookup("..", in: below).inode == two)
        try volume.close()
    }
}
