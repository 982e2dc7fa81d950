import Base
import Checking
import Glibc
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

@Suite struct NameTests {
    private let scratch = ScratchDirectory()

    @Test func namesAreAnyBytesUpTo255() throws {
        let names = [
            FileName([UInt8](repeating: UInt8(ascii: "x"), count: 255)),
            FileName((1...255).map { UInt8($0) }.filter { $0 != UInt8(ascii: "/") }),
            FileName([0xff]), FileName([0xc3, 0x28]), " ", "\n", "...", "-",
        ]
        var volume = try openVolume(scratch, stillOptions)
        for name in names { try volume.makeFile(name, name.bytes) }
        let tooLong = FileName([UInt8](repeating: UInt8(ascii: "x"), count: 256))
        #expect(errno { () throws(Errno) in try volume.makeFile(tooLong, []) } == .fileNameTooLong)
        try volume.close()
        volume = try openVolume(scratch, stillOptions)
        for name in names {
            #expect(try volume.contents(of: volume.resolve(path: [name])) == name.bytes)
        }
        #expect(Set(try volume.entries(of: .root).map(\.name)) == Set(names))
        #expect(try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid)
        try volume.close()
    }

    /// Each change of an inode writes the directories of all of its links.
    @Test func hardLinksAreBoundedAsOnExt4() throws {
        let volume = try openVolume(scratch, stillOptions)
        let file = try volume.makeFile("f", [1])
        let other = try volume.makeDirectory("d")
        for number in 1..<Int(Volume.linkCountMax) {
            _ = try volume.link(
                file, as: FileName("\(number)"), in: number % 2 == 0 ? .root : other)
        }
        #expect(
            errno { () throws(Errno) in try volume.link(file, as: "more", in: .root) }
                == .tooManyLinks)
        try volume.unlink("2", in: .root)
        _ = try volume.link(file, as: "more", in: .root)
        try volume.close()
        let again = try openVolume(scratch, stillOptions)
        #expect(try again.attributes(of: file).linkCount == Volume.linkCountMax)
        try again.close()
        let report = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(report.isClean, "\(report.problems)")
    }

    @Test func directoriesNestDeeperThanAnyPath() throws {
        var volume = try openVolume(scratch, stillOptions)
        var path: [FileName] = []
        var directory = Inode.root
        for _ in 0..<3000 {
            directory = try volume.makeDirectory("d", in: directory)
            path.append("d")
        }
        try volume.makeFile("leaf", in: directory, [1])
        let cid = try volume.cid(of: .root)
        try volume.close()
        volume = try openVolume(scratch, stillOptions)
        let leaf = try volume.resolve(path: path + ["leaf"])
        #expect(try volume.contents(of: leaf) == [1])
        #expect(try volume.cid(of: .root) == cid)
        // A directory far above must not move below itself.
        #expect(
            errno { () throws(Errno) in
                try volume.rename("d", in: .root, to: "e", in: directory, flags: [])
            } == .invalidArgument)
        let opened = try volume.open(leaf, flags: .both, caller: root)
        try volume.write(opened.handle, at: 0, [2])
        volume.release(opened.handle)
        #expect(try volume.cid(of: .root) != cid)
        #expect(try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid)
        try volume.close()
    }

    @Test func listingSeesEveryLastingNameOnceWhileOthersComeAndGo() throws {
        let volume = try openVolume(scratch, VolumeOptions())
        let directory = try volume.makeDirectory("directory")
        let count = 100_000
        for index in 0..<count {
            _ = try volume.makeNode(
                FileName("n\(index)"), in: directory, kind: .regular, mode: 0o644, rdev: 0,
                caller: root)
        }
        // Even names stay; between two portions odd ones go and new ones come.
        var random = SeededGenerator(seed: testSeed())
        var seen: [FileName: Int] = [:]
        var cookie: UInt64 = 0
        var nextVictim = 1
        var made = 0
        while true {
            var taken = 0
            try volume.readDirectory(directory, from: cookie) { entry in
                guard taken < 500 else { return false }
                taken += 1
                cookie = entry.cookie
                seen[entry.name, default: 0] += 1
                return true
            }
            if taken < 500 { break }
            for _ in 0..<random.below(200) where nextVictim < count {
                try volume.unlink(FileName("n\(nextVictim)"), in: directory)
                nextVictim += 2
            }
            if made < 20_000 {
                for _ in 0..<50 {
                    _ = try volume.makeNode(
                        FileName("m\(made)"), in: directory, kind: .regular, mode: 0o644,
                        rdev: 0, caller: root)
                    made += 1
                }
            }
        }
        #expect(seen.values.allSatisfy { $0 == 1 }, "no name comes twice")
        let missing = stride(from: 0, to: count, by: 2).filter { seen[FileName("n\($0)")] == nil }
        #expect(missing.isEmpty, "\(missing.prefix(5))")
        #expect(seen["."] == 1 && seen[".."] == 1)
        let left = try volume.entries(of: directory, portion: 1000)
        #expect(left.count == count - (nextVictim - 1) / 2 + made)
        try volume.close()
    }

    /// Removing what a listing gave, portion by portion, as `rm -r` does.
    @Test func listingWhileEverythingListedIsRemovedReachesTheEnd() throws {
        let volume = try openVolume(scratch, VolumeOptions())
        for index in 0..<20_000 {
            _ = try volume.makeNode(
                FileName("n\(index)"), in: .root, kind: .fifo, mode: 0o644, rdev: 0, caller: root)
        }
        var cookie: UInt64 = 0
        var removed = 0
        while true {
            var portion: [FileName] = []
            try volume.readDirectory(.root, from: cookie) { entry in
                guard portion.count < 100 else { return false }
                cookie = entry.cookie
                if entry.cookie > 2 { portion.append(entry.name) }
                return true
            }
            if portion.isEmpty { break }
            for name in portion { try volume.unlink(name, in: .root) }
            removed += portion.count
        }
        #expect(removed == 20_000)
        #expect(try volume.entries(of: .root).isEmpty)
        try volume.close()
    }

    @Test func hardLinkChangesTheCIDOfEveryDirectoryThatHoldsIt() throws {
        let volume = try openVolume(scratch, stillOptions)
        var directories: [Inode] = []
        for name: FileName in ["a", "b", "c"] {
            directories.append(try volume.makeDirectory(name))
        }
        let deep = try volume.makeDirectory("deep", in: directories[2])
        let file = try volume.makeFile("file", in: directories[0], [1, 2, 3])
        _ = try volume.link(file, as: "link", in: directories[1])
        _ = try volume.link(file, as: "second", in: directories[1])
        _ = try volume.link(file, as: "link", in: deep)
        let before = try directories.map { try volume.cid(of: $0) }
        let rootBefore = try volume.cid(of: .root)
        let opened = try volume.open(file, flags: .both, caller: root)
        try volume.write(opened.handle, at: 1, [9])
        volume.release(opened.handle)
        for (directory, cid) in zip(directories, before) {
            #expect(try volume.cid(of: directory) != cid)
            #expect(
                try volume.cid(of: directory)
                    == independentRoot(of: directory, in: volume).cid)
        }
        #expect(try volume.cid(of: .root) != rootBefore)

        // One link moves, one goes: the directories that still hold one hear of the next change.
        try volume.rename("link", in: directories[1], to: "moved", in: .root, flags: [])
        try volume.unlink("file", in: directories[0])
        _ = try volume.cid(of: .root)
        try volume.setSize(of: file, to: 1)
        #expect(try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid)
        try volume.close()
    }

    @Test func timesKeepTheirNanosecondsFromEndToEnd() throws {
        let times: [Int64] = [.min, .min + 1, -1, 0, 1, 999_999_999, 1_000_000_000, .max - 1, .max]
        var volume = try openVolume(scratch, stillOptions)
        for (index, time) in times.enumerated() {
            let inode = try volume.makeFile(FileName("\(index)"), [])
            var change = AttributeChange()
            change.accessed = .at(Timestamp(nanoseconds: time))
            change.modified = .at(Timestamp(nanoseconds: time))
            _ = try volume.setAttributes(of: inode, change, handle: nil, caller: root)
        }
        try volume.close()
        volume = try openVolume(scratch, stillOptions)
        for (index, time) in times.enumerated() {
            let status = try volume.attributes(of: volume.resolve(path: [FileName("\(index)")]))
            #expect(status.accessed.nanoseconds == time)
            #expect(status.modified.nanoseconds == time)
            let modified = status.modified
            #expect((0..<1_000_000_000).contains(modified.subsecondNanoseconds))
            let again = Timestamp(
                seconds: modified.seconds, nanoseconds: modified.subsecondNanoseconds)
            #expect(again.nanoseconds == time || time < .min + 1_000_000_000)
        }
        #expect(Timestamp(seconds: .max, nanoseconds: 999_999_999).nanoseconds == .max)
        #expect(Timestamp(seconds: .min, nanoseconds: 0).nanoseconds == .min)
        try volume.close()
    }

    @Test func closingReleasesHandlesThatAreStillOpen() throws {
        var volume = try openVolume(scratch)
        let (attributes, opened) = try volume.create(
            "file", in: .root, mode: 0o644, flags: .both, caller: root)
        let bytes = content(seed: 1, count: 50_000)
        try volume.write(opened.handle, at: 0, bytes)
        try volume.close()
        #expect(
            errno { () throws(Errno) in try volume.write(opened.handle, at: 0, [1]) }
                == .badFileDescriptor)
        volume = try openVolume(scratch)
        #expect(try volume.contents(of: attributes.inode) == bytes)
        try volume.close()
    }

    @Test func removedDirectoryTakesNoNewNames() throws {
        let volume = try openVolume(scratch, stillOptions)
        let directory = try volume.makeDirectory("directory")
        try volume.makeFile("file", [1])
        try volume.removeDirectory("directory", in: .root)
        #expect(try volume.attributes(of: directory).linkCount == 0)
        #expect(
            errno { () throws(Errno) in try volume.makeFile("x", in: directory, []) }
                == .noSuchFileOrDirectory)
        #expect(
            errno { () throws(Errno) in try volume.makeDirectory("x", in: directory) }
                == .noSuchFileOrDirectory)
        #expect(
            errno { () throws(Errno) in
                try volume.rename("file", in: .root, to: "x", in: directory, flags: [])
            } == .noSuchFileOrDirectory)
        #expect(try volume.entries(of: directory).isEmpty)
        volume.forget(directory, count: 1)
        #expect(
            errno { () throws(Errno) in try volume.attributes(of: directory) }
                == Errno(rawValue: ESTALE))
        try volume.close()
    }

    @Test func newInodesInheritTheDefaultACL() throws {
        // The kernel's format: version 2, then tag, permissions, id for each entry.
        func list(_ entries: [(UInt16, UInt16, UInt32)]) -> [UInt8] {
            func bytes(_ value: UInt32, _ count: Int) -> [UInt8] {
                (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
            }
            return bytes(2, 4)
                + entries.flatMap { entry in
                    bytes(UInt32(entry.0), 2) + bytes(UInt32(entry.1), 2) + bytes(entry.2, 4)
                }
        }
        let none = UInt32.max
        let access: FileName = "system.posix_acl_access"
        let initial: FileName = "system.posix_acl_default"
        // user::rwx user:1000:rwx group::r-x mask::rwx other::---
        let given = list([
            (0x01, 7, none), (0x02, 7, 1000), (0x04, 5, none), (0x10, 7, none), (0x20, 0, none),
        ])
        let volume = try openVolume(scratch, stillOptions)
        let directory = try volume.makeDirectory("directory")
        try volume.setExtendedAttribute(
            initial, of: directory, to: given, flags: 0, clearSetGID: false, caller: root)
        let caller = Caller(uid: 1, gid: 1, pid: 1, umask: 0o077)
        let file = try volume.makeNode(
            "file", in: directory, kind: .regular, mode: 0o640, rdev: 0, caller: caller)
        // acl(5): the umask does not count; the mode is cut to the list, and the list to the mode.
        #expect(file.mode == 0o640)
        #expect(
            try volume.extendedAttribute(access, of: file.inode)
                == list([
                    (0x01, 6, none), (0x02, 7, 1000), (0x04, 5, none), (0x10, 4, none),
                    (0x20, 0, none),
                ]))
        let child = try volume.makeDirectory("child", in: directory, mode: 0o777, caller: caller)
        #expect(child.mode == 0o770)
        #expect(try volume.extendedAttribute(initial, of: child.inode) == given)
        // chmod(2) changes the mask.
        var change = AttributeChange()
        change.mode = 0o600
        _ = try volume.setAttributes(of: file.inode, change, handle: nil, caller: root)
        #expect(
            try volume.extendedAttribute(access, of: file.inode)
                == list([
                    (0x01, 6, none), (0x02, 7, 1000), (0x04, 5, none), (0x10, 0, none),
                    (0x20, 0, none),
                ]))
        // A list that says no more than a mode is one.
        let minimal = list([(0x01, 7, none), (0x04, 5, none), (0x20, 1, none)])
        try volume.setExtendedAttribute(
            access, of: file.inode, to: minimal, flags: 0, clearSetGID: false, caller: root)
        #expect(try volume.attributes(of: file.inode).mode == 0o751)
        #expect(
            errno { () throws(Errno) in
                try volume.extendedAttribute(access, of: file.inode)
            } == Errno(rawValue: ENODATA))
        for malformed in [[1, 0, 0, 0, 1, 2], list([(0x01, 7, none)]), list([(0x99, 7, none)])] {
            #expect(
                errno { () throws(Errno) in
                    try volume.setExtendedAttribute(
                        access, of: file.inode, to: malformed, flags: 0, clearSetGID: false,
                        caller: root)
                } == .invalidArgument)
        }
        try volume.close()
    }
}
