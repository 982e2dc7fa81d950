import Base
import Glibc
import Testing
import Volume

import struct SystemPackage.Errno

/// Set-user-id, set-group-id and `security.capability` go with a change of bytes (Privileges.swift).
/// Callers of whom /proc shows nothing have no capability; with root's process it is the other way.
@Suite struct PrivilegeTests {
    private static let capability = FileName("security.capability")
    private static let stranger = Caller(uid: 7, gid: 7, pid: 0, umask: 0)
    private static let owner = Caller(uid: 1, gid: 7, pid: 0, umask: 0)

    private let directory = ScratchDirectory()
    private let volume: Volume
    private let told = Monitor<[Inode]>([])

    init() throws {
        volume = try openVolume(directory, stillOptions)
        volume.observePrivileges { [told] inode in told.withLock { $0.append(inode) } }
    }

    private func file(
        _ name: FileName, mode: UInt32, size: Int, hasCapability: Bool = true
    ) throws -> Inode {
        let inode = try volume.makeFile(name, content(seed: 1, count: size))
        var change = AttributeChange()
        (change.uid, change.gid) = (1, 2)
        _ = try volume.setAttributes(of: inode, change, handle: nil, caller: root)
        change = AttributeChange()
        change.mode = mode
        _ = try volume.setAttributes(of: inode, change, handle: nil, caller: root)
        if hasCapability {
            try volume.setExtendedAttribute(
                Self.capability, of: inode, to: [1], flags: 0, clearSetGID: false, caller: root)
        }
        return inode
    }

    private func mode(_ inode: Inode) throws -> UInt32 { try volume.attributes(of: inode).mode }

    private func hasCapability(_ inode: Inode) -> Bool {
        (try? volume.extendedAttribute(Self.capability, of: inode)) != nil
    }

    /// The operations that change bytes; with what the kernel says of a caller without CAP_FSETID.
    private static let changes:
        [(String, @Sendable (Volume, Inode, Inode, Caller) throws -> Void)] =
            [
                (
                    "write",
                    { volume, inode, _, caller in
                        try writing(volume, inode) { handle in
                            _ = try [UInt8](repeating: 1, count: 3).withBytes {
                                (bytes) throws(Errno) in
                                try volume.write(
                                    handle, at: 5, bytes, clearSetID: caller.pid == 0,
                                    caller: caller)
                            }
                        }
                    }
                ),
                (
                    "truncate",
                    { volume, inode, _, caller in
                        var change = AttributeChange()
                        change.size = 50
                        change.clearSetID = caller.pid == 0
                        _ = try volume.setAttributes(of: inode, change, handle: nil, caller: caller)
                    }
                ),
                (
                    "open with O_TRUNC",
                    { volume, inode, _, caller in
                        let opened = try volume.open(
                            inode, flags: OpenFlags(rawValue: O_WRONLY | O_TRUNC), caller: caller,
                            clearSetID: caller.pid == 0)
                        volume.release(opened.handle)
                    }
                ),
                (
                    "allocate",
                    { volume, inode, _, caller in
                        try writing(volume, inode) { handle in
                            try volume.allocate(
                                handle, mode: 0, offset: 0, length: 100_000, caller: caller)
                        }
                    }
                ),
                (
                    "allocate what is there",
                    { volume, inode, _, caller in
                        try writing(volume, inode) { handle in
                            try volume.allocate(
                                handle, mode: 0, offset: 0, length: 10, caller: caller)
                        }
                    }
                ),
                (
                    "punch",
                    { volume, inode, _, caller in
                        try writing(volume, inode) { handle in
                            try volume.allocate(
                                handle, mode: 3, offset: 5, length: 5, caller: caller)
                        }
                    }
                ),
                (
                    "copy", { try copy($0, $2, to: $1, at: 1, $3) }
                ),
                (
                    "share",
                    { volume, inode, source, caller in
                        try writing(volume, inode) { handle in
                            var change = AttributeChange()
                            change.size = 0
                            _ = try volume.setAttributes(
                                of: inode, change, handle: handle, caller: root)
                        }
                        try copy(volume, source, to: inode, at: 0, caller)
                    }
                ),
            ]

    private static func writing(
        _ volume: Volume, _ inode: Inode, _ body: (HandleID) throws -> Void
    ) throws {
        let opened = try volume.open(inode, flags: .both, caller: root)
        defer { volume.release(opened.handle) }
        try body(opened.handle)
    }

    private static func copy(
        _ volume: Volume, _ source: Inode, to inode: Inode, at offset: UInt64, _ caller: Caller
    ) throws {
        let from = try volume.open(source, flags: .read, caller: root)
        defer { volume.release(from.handle) }
        try writing(volume, inode) { handle in
            _ = try volume.copyRange(
                from: from.handle, at: 0, to: handle, at: offset, length: 1 << 20, caller: caller)
        }
    }

    @Test(arguments: [300, 40_000])
    func everyChangeOfBytesTakesPrivileges(size: Int) throws {
        let source = try volume.makeFile("source", content(seed: 2, count: size))
        _ = try volume.cid(of: source)
        for (name, change) in Self.changes {
            let inode = try file(FileName("s \(name)"), mode: 0o6777, size: size)
            told.withLock { $0 = [] }
            try change(volume, inode, source, Self.stranger)
            #expect(try mode(inode) == 0o777, "\(name)")
            #expect(!hasCapability(inode), "\(name)")
            // The answer of a SETATTR has the mode; after others the kernel must ask for it.
            #expect(told.withLock { $0 } == [inode] || name == "truncate", "\(name)")
        }
        try volume.close()
    }

    @Test func aStoreToAMappingTakesNothing() throws {
        let inode = try file("f", mode: 0o6777, size: 300)
        try Self.writing(volume, inode) { handle in
            _ = try volume.write(handle, at: 0, [1, 2, 3])
        }
        #expect(try mode(inode) == 0o6777)
        #expect(hasCapability(inode))
        #expect(told.withLock { $0 }.isEmpty)
        try volume.close()
    }

    @Test func withoutGroupExecutionSetGroupIDStaysWithTheGroupAlone() throws {
        for (gid, expected) in [(UInt32(2), UInt32(0o2767)), (7, 0o767)] {
            let inode = try file(FileName("f\(gid)"), mode: 0o6767, size: 300)
            let caller = Caller(uid: 7, gid: gid, pid: 0, umask: 0)
            for (_, change) in Self.changes.prefix(2) { try change(volume, inode, inode, caller) }
            #expect(try mode(inode) == expected)
        }
        try volume.close()
    }

    @Test func aSetattrOfNothingIsChownUnlessSomebodyMayWrite() throws {
        let nothing = AttributeChange()
        let inode = try file("f", mode: 0o6777, size: 300, hasCapability: false)
        #expect(
            errno { () throws(Errno) in
                try volume.setAttributes(of: inode, nothing, handle: nil, caller: Self.stranger)
            } == .notPermitted)
        #expect(try mode(inode) == 0o6777)
        let opened = try volume.open(inode, flags: .both, caller: root)
        // A write may follow, by a request that tells who may keep what.
        _ = try volume.setAttributes(of: inode, nothing, handle: nil, caller: Self.stranger)
        #expect(try mode(inode) == 0o6777)
        volume.release(opened.handle)
        _ = try volume.setAttributes(of: inode, nothing, handle: nil, caller: Self.owner)
        #expect(try mode(inode) == 0o777)
        try volume.close()
    }

    @Test func aWriterOfABackingFileIsHeededByTheSetattrBeforeIt() throws {
        let kernel = try KernelStand(volume, usesBackingFiles: true)
        let inode = try kernel.makeFile("f", content(seed: 1, count: 40_000))
        let handle = try kernel.open(inode, .both)
        var change = AttributeChange()
        change.mode = 0o6777
        _ = try volume.setAttributes(of: inode, change, handle: nil, caller: root)
        _ = try volume.setAttributes(
            of: inode, AttributeChange(), handle: nil, caller: Self.stranger)
        #expect(try mode(inode) == 0o777)
        kernel.release(handle)
        try volume.close()
    }
}
