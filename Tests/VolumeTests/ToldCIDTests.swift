import Base
import Foundation
import KuboDouble
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// What was told as a CID can be had, and whom it is told to.
@Suite struct ToldCIDTests {
    /// Has the block of a CID and all that is below it, as `block` and `export-car` do.
    private func have(_ cid: CID, _ volume: Volume, _ what: String) {
        #expect(throws: Never.self, "\(what)") {
            let block = try volume.block(cid)
            try block.withUnsafeBytes { try cid.verify($0) }
            var byteCount = 0
            try volume.exportCAR(cid) { (bytes) throws(Never) in byteCount += bytes.count }
            #expect(byteCount > block.count, "\(what)")
        }
    }

    private typealias Maker = @Sendable (Volume) throws -> Inode

    /// One of each kind, none of them in a directory that was sealed.
    private static let makers: [(String, Maker)] = [
        (
            "symlink",
            {
                try $0.makeSymlink("symlink", in: .root, target: Array("to".utf8), caller: root)
                    .inode
            }
        ),
        (
            "empty file",
            {
                try $0.makeNode(
                    "empty", in: .root, kind: .regular, mode: 0o644, rdev: 0, caller: root
                ).inode
            }
        ),
        ("inline file", { try $0.makeFile("inline", [1, 2, 3]) }),
        ("flat file", { try $0.makeFile("flat", content(seed: 1, count: 100_000)) }),
        ("file of leaves", { try $0.makeFile("leaves", content(seed: 2, count: 5 << 20)) }),
        (
            "empty directory",
            { try $0.makeDirectory("none", in: .root, mode: 0o755, caller: root).inode }
        ),
        (
            "directory",
            {
                let inode = try $0.makeDirectory("some", in: .root, mode: 0o755, caller: root).inode
                try $0.makeFile("inside", in: inode, [4])
                _ = try $0.makeSymlink("link", in: inode, target: [0x61], caller: root)
                return inode
            }
        ),
        (
            "directory of shards",
            {
                let inode = try $0.makeDirectory("many", in: .root, mode: 0o755, caller: root).inode
                for number in 0..<1_500 {
                    let name = "\(number)" + String(repeating: "x", count: 240)
                    _ = try $0.makeNode(
                        FileName(name), in: inode, kind: .regular, mode: 0o644, rdev: 0,
                        caller: root)
                }
                return inode
            }
        ),
    ]

    @Test(arguments: [ImportProfile.unixfsV1_2025, .unixfsV0_2015])
    func whatWasToldIsHadAtOnceAndAfterARemount(_ profile: ImportProfile) throws {
        let directory = ScratchDirectory()
        var options = stillOptions
        options.profile = profile
        var told: [(String, Inode, CID)] = []
        for (what, make) in Self.makers {
            let volume = try openVolume(directory, options)
            let inode = try make(volume)
            let cid = try volume.cid(of: inode)
            have(cid, volume, what)
            told.append((what, inode, cid))
            try volume.close()
        }
        let volume = try openVolume(directory, options)
        for (what, inode, cid) in told {
            have(cid, volume, what + ", after a remount")
            #expect(try volume.cid(of: inode) == cid, "\(what)")
        }
        have(try volume.cid(of: .root), volume, "root")
        try volume.close()
        try expectClean(directory)
    }

    /// `inspect` tells it, too.
    @Test func whatAReportToldIsHad() throws {
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stillOptions)
        let link = try volume.makeSymlink("link", in: .root, target: [0x61], caller: root).inode
        have(try #require(try volume.report(of: link).cid), volume, "symlink")
        try volume.close()
        try expectClean(directory)
    }

    /// A directory that nobody looked into, and files whose bytes are at the node.
    @Test(arguments: TestNode.kinds)
    func whatIsAtTheNodeIsHadAsWell(_ kind: TestNode.Kind) throws {
        let stand = try NodeStand(kind)
        let directory = ScratchDirectory()
        try stand.put(try stand.add(content(seed: 3, count: 3 << 20)), at: "dir/sub/file")
        try stand.put(try stand.add([1, 2, 3]), at: "dir/sub/small")
        for isRemount in [false, true] {
            let volume = try openVolume(directory, stand.options())
            #expect(eventually { (try? volume.inode("dir")) != nil })
            have(try volume.cid(of: volume.inode("dir")), volume, "directory, \(isRemount)")
            if isRemount {
                for name: FileName in ["file", "small"] {
                    let inode = try volume.inode("dir", "sub", name)
                    have(try volume.cid(of: inode), volume, "\(name)")
                }
            }
            let unknown = CID.raw(sha256: Array("nobody has this".utf8))
            #expect(throws: VolumeError.self) { try volume.block(unknown) }
            try volume.close()
        }
    }

    // MARK: Whom it is told to

    @Test func aDirectorysIsForItsOwnerUnlessOthersAreLet() throws {
        let directory = ScratchDirectory()
        for whom in DirectoryCIDs.allCases {
            var options = stillOptions
            options.directoryCIDs = whom
            let volume = try openVolume(directory, options)
            let name = FileName(whom.rawValue)
            let theirs = try volume.makeDirectory(
                name, in: .root, mode: 0o755, caller: Caller(uid: 7, gid: 7, pid: 1, umask: 0)
            ).inode
            let file = try volume.makeFile("file", in: theirs, [1])
            func isTold(_ inode: Inode, to uid: UInt32) -> Bool {
                ["ipfs.cid", "user.ipfs.cid"].allSatisfy { (name: FileName) in
                    (try? volume.extendedAttribute(name, of: inode, for: uid)) != nil
                }
            }
            #expect(isTold(theirs, to: 0))
            #expect(isTold(theirs, to: 7) == (whom != .root))
            #expect(isTold(theirs, to: 8) == (whom == .readers))
            // The kernel sees to it that only those ask who may read it.
            #expect(isTold(file, to: 8))
            #expect(throws: Errno.permissionDenied) {
                guard whom == .readers else {
                    _ = try volume.extendedAttribute("ipfs.cid", of: theirs, for: 8)
                    return
                }
                throw Errno.permissionDenied
            }
            try volume.unlink("file", in: theirs)
            try volume.removeDirectory(name, in: .root)
            try volume.close()
        }
    }

    @Test func namesOfTrustedAttributesAreListedToWhoMayKnowOfThem() throws {
        let volume = try openVolume(ScratchDirectory(), stillOptions)
        let file = try volume.makeFile("file", [1])
        func set(_ name: FileName) throws {
            try volume.setExtendedAttribute(
                name, of: file, to: [1], flags: 0, clearSetGID: false, caller: root)
        }
        func names(_ seesTrusted: () -> Bool) throws -> String {
            String(
                decoding: try volume.extendedAttributeNames(of: file, seesTrusted: seesTrusted),
                as: UTF8.self)
        }
        try set("user.a")
        var isAsked = false
        #expect(
            try names {
                isAsked = true
                return false
            } == "user.a\0")
        #expect(!isAsked)
        try set("trusted.a")
        try set("trusted.b")
        #expect(try names { false } == "user.a\0")
        #expect(try names { true } == "trusted.a\0trusted.b\0user.a\0")
        try volume.close()
    }
}
