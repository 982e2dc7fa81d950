import Base
import Glibc
import Testing
import Volume

import struct SystemPackage.Errno

/// What would change the view of snapshots.
@Suite struct SnapshotViewChangeTests {
    private let scratch = ScratchDirectory()

    private enum Target: CaseIterable {
        case top, snapshots, snapshot, inner
    }

    /// A volume with a snapshot, and the directories of its view.
    private func stand() throws -> (Volume, [Target: Inode]) {
        let volume = try openVolume(scratch, stillOptions)
        try volume.fillForSnapshot(large: content(seed: 1, count: 100_000))
        try volume.makeFile("live", [9])
        try ShownSnapshots(in: volume).add("one", of: volume)
        return (
            volume,
            [
                .top: try volume.resolve(path: [".registryfs"]), .snapshots: try volume.view(),
                .snapshot: try volume.view("one"), .inner: try volume.view("one", "inner"),
            ]
        )
    }

    private enum Change: CaseIterable {
        case mkdir, mknod, symlink, create, tmpfile, link, unlink, rmdir
        case rename, renameOut, renameOutOver, renameIn, renameInNew, exchangeOut, exchangeIn
        case whiteout
    }

    /// - Parameter live: a file that has the name `live` in the root.
    private func make(
        _ change: Change, of name: FileName, in directory: Inode, _ live: Inode, _ volume: Volume
    ) throws(Errno) {
        func move(
            _ name: FileName, _ parent: Inode, _ newName: FileName, _ newParent: Inode,
            _ flags: RenameFlags = []
        ) throws(Errno) {
            try volume.rename(name, in: parent, to: newName, in: newParent, flags: flags)
        }
        switch change {
        case .mkdir: _ = try volume.makeDirectory(name, in: directory, mode: 0o755, caller: root)
        case .mknod:
            _ = try volume.makeNode(
                name, in: directory, kind: .fifo, mode: 0o600, rdev: 0, caller: root)
        case .symlink: _ = try volume.makeSymlink(name, in: directory, target: [1], caller: root)
        case .create:
            _ = try volume.create(name, in: directory, mode: 0o644, flags: .both, caller: root)
        case .tmpfile:
            _ = try volume.makeTemporary(in: directory, mode: 0o600, flags: .both, caller: root)
        case .link: _ = try volume.link(live, as: name, in: directory)
        case .unlink: try volume.unlink(name, in: directory)
        case .rmdir: try volume.removeDirectory(name, in: directory)
        case .rename: try move(name, directory, "other", directory)
        case .renameOut: try move(name, directory, "other", .root)
        case .renameOutOver: try move(name, directory, "live", .root)
        case .renameIn: try move("live", .root, name, directory)
        case .renameInNew: try move("live", .root, name, directory, .noReplace)
        case .exchangeOut: try move(name, directory, "live", .root, .exchange)
        case .exchangeIn: try move("live", .root, name, directory, .exchange)
        case .whiteout: try move(name, directory, "other", directory, .whiteout)
        }
    }

    @Test func nothingIsMadeOrRemovedInTheView() throws {
        let (volume, directories) = try stand()
        let live = try volume.inode("live")
        let rootCID = try volume.cid(of: .root)
        for (target, directory) in directories {
            let name: FileName =
                switch target {
                case .top: "snapshots"
                case .snapshots: "one"
                case .snapshot: "inner"
                case .inner: "inline"
                }
            for name in [name, "new"] {
                for change in Change.allCases {
                    #expect(
                        errno { () throws(Errno) in
                            try make(change, of: name, in: directory, live, volume)
                        } == .readOnlyFileSystem, "\(change) of \(name) in \(target)")
                }
            }
        }
        #expect(try volume.cid(of: .root) == rootCID)
        try volume.close()
        try expectClean(scratch)
    }

    @Test func nothingOfWhatIsInTheViewIsChanged() throws {
        let (volume, directories) = try stand()
        let inline = try volume.view("one", "inner", "inline")
        let link = try volume.view("one", "inner", "link")
        func set(_ change: (inout AttributeChange) -> Void) -> AttributeChange {
            var changes = AttributeChange()
            change(&changes)
            return changes
        }
        let changes = [
            set { $0.mode = 0o777 }, set { $0.uid = 0 }, set { $0.gid = 0 }, set { _ in },
            set { $0.modified = .now }, set { $0.accessed = .at(Timestamp(nanoseconds: 1)) },
        ]
        for inode in directories.values + [inline, link] {
            for change in changes {
                #expect(
                    errno { () throws(Errno) in
                        try volume.setAttributes(of: inode, change, handle: nil, caller: root)
                    } == .readOnlyFileSystem)
            }
            for name: FileName in ["user.x", "security.capability", "system.posix_acl_access"] {
                #expect(
                    errno { () throws(Errno) in
                        try volume.setExtendedAttribute(
                            name, of: inode, to: [1], flags: 0, clearSetGID: false, caller: root)
                    } == .readOnlyFileSystem)
                #expect(
                    errno { () throws(Errno) in
                        try volume.removeExtendedAttribute(name, of: inode)
                    } == .readOnlyFileSystem)
            }
        }
        #expect(
            errno { () throws(Errno) in try volume.setSize(of: inline, to: 0) }
                == .readOnlyFileSystem)
        #expect(
            errno { () throws(Errno) in try volume.link(inline, as: "new", in: .root) }
                == .readOnlyFileSystem)
        for flags in [O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_APPEND] {
            #expect(
                errno { () throws(Errno) in
                    try volume.open(inline, flags: OpenFlags(rawValue: flags), caller: root)
                } == .readOnlyFileSystem)
        }
        #expect(
            errno { () throws(Errno) in try volume.open(link, flags: .read, caller: root) }
                == .tooManySymbolicLinkLevels)
        for directory in directories.values {
            for flags in [OpenFlags.read, .both] {
                #expect(
                    errno { () throws(Errno) in
                        try volume.open(directory, flags: flags, caller: root)
                    } == .isDirectory)
            }
            try volume.synchronizeDirectory(directory)
            #expect(
                errno { () throws(Errno) in try volume.readSymlink(directory) } == .invalidArgument)
        }
        #expect(
            errno { () throws(Errno) in try volume.synchronizeDirectory(inline) } == .notDirectory)
        #expect(errno { () throws(Errno) in try volume.entries(of: inline) } == .notDirectory)
        #expect(
            errno { () throws(Errno) in try volume.lookup("x", in: inline) } == .notDirectory)
        #expect(throws: VolumeError.self) {
            try volume.graft(volume.cid(of: .root), as: "new", in: volume.view("one"))
        }
        try volume.close()
    }

    @Test func aHandleOfTheViewReadsAndNoMore() throws {
        let (volume, _) = try stand()
        let opened = try volume.open(
            volume.view("one", "inner", "large"), flags: .read, caller: root)
        let live = try volume.open(volume.inode("live"), flags: .both, caller: root)
        let handle = opened.handle
        #expect(handle.number >= 1 << 62)
        try volume.flush(handle)
        try volume.synchronize(handle, dataOnly: false)
        #expect(
            errno { () throws(Errno) in try volume.write(handle, at: 0, [1]) }
                == .badFileDescriptor)
        #expect(
            errno { () throws(Errno) in
                try volume.allocate(handle, mode: 0, offset: 0, length: 1)
            } == .badFileDescriptor)
        // The kernel goes on by reading.
        #expect(
            errno { () throws(Errno) in
                try volume.copyRange(from: handle, at: 0, to: live.handle, at: 0, length: 10)
            } == .improperLink)
        #expect(
            errno { () throws(Errno) in
                try volume.copyRange(from: live.handle, at: 0, to: handle, at: 0, length: 10)
            } == .badFileDescriptor)
        #expect(
            errno { () throws(Errno) in
                try volume.copyRange(from: handle, at: 0, to: handle, at: 0, length: 10)
            } == .badFileDescriptor)
        #expect(try volume.seek(handle, from: 5, whence: SEEK_DATA) == 5)
        #expect(try volume.seek(handle, from: 5, whence: SEEK_HOLE) == 100_000)
        #expect(
            errno { () throws(Errno) in try volume.seek(handle, from: 100_000, whence: SEEK_DATA) }
                == .noSuchAddressOrDevice)
        volume.release(handle)
        volume.release(handle)
        #expect(
            errno { () throws(Errno) in try volume.read(handle, at: 0, count: 1) }
                == .badFileDescriptor)
        // One that is open is released with the volume.
        _ = try volume.open(volume.view("one", "inner", "large"), flags: .read, caller: root)
        try volume.close()
        try expectClean(scratch)
    }

    @Test func theNameOfTheViewIsTaken() throws {
        let (volume, _) = try stand()
        let name: FileName = ".registryfs"
        let live = try volume.inode("live")
        for change in [Change.mkdir, .mknod, .symlink, .link, .renameInNew] {
            #expect(
                errno { () throws(Errno) in try make(change, of: name, in: .root, live, volume) }
                    == .fileExists, "\(change)")
        }
        let others: [Change] = [
            .unlink, .rmdir, .rename, .renameOutOver, .renameIn, .exchangeOut, .exchangeIn,
            .whiteout,
        ]
        for change in others {
            #expect(
                errno { () throws(Errno) in try make(change, of: name, in: .root, live, volume) }
                    == .readOnlyFileSystem, "\(change)")
        }
        #expect(
            errno { () throws(Errno) in
                try volume.rename("inner", in: .root, to: name, in: .root, flags: [])
            } == .readOnlyFileSystem)
        #expect(errno { () throws(Errno) in try volume.makeFile(name, [1]) } == .isDirectory)
        #expect(
            errno { () throws(Errno) in
                try volume.create(
                    name, in: .root, mode: 0o644, flags: OpenFlags(rawValue: O_RDWR | O_EXCL),
                    caller: root)
            } == .fileExists)
        #expect(throws: VolumeError.self) {
            try volume.graft(volume.cid(of: live), as: name, in: .root)
        }
        #expect(try volume.names() == ["inner", "live"])
        try volume.close()
    }
}
