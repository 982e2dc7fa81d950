import Base
import Foundation
import Glibc
import MerkleDAG
import Testing
import Volume

import struct SystemPackage.Errno

/// Something that is done to a volume, killed at every system call and commit in turn.
enum Deed: String, CaseIterable, Codable, Sendable {
    case rewriteOfSealedFile
    case writeAfterTreeCIDWithoutClose
    case growthOutOfManifest
    case replacementByRename
    case exchangeOfDirectories
    case truncationOfSharedFile
    case removalOfLastName
    case sealing

    static let old = content(seed: 1, count: 60_000)
    static let new = content(seed: 2, count: 50_000)
    static let small = content(seed: 3, count: 3_000)

    /// The state before, which is durable.
    func prepare(_ volume: Volume) throws {
        switch self {
        case .rewriteOfSealedFile, .removalOfLastName:
            try volume.makeFile("file", Self.old)
            _ = try volume.cid(of: .root)
        case .writeAfterTreeCIDWithoutClose, .sealing:
            try volume.makeFile("file", Self.old)
        case .growthOutOfManifest:
            try volume.makeFile("file", Self.small)
            _ = try volume.cid(of: .root)
        case .replacementByRename:
            try volume.makeFile("file", Self.old)
        case .exchangeOfDirectories:
            try volume.makeFile("file", in: volume.makeDirectory("one"), Self.old)
            try volume.makeFile("file", in: volume.makeDirectory("two"), Self.new)
            _ = try volume.cid(of: .root)
        case .truncationOfSharedFile:
            for name: FileName in ["file", "twin"] {
                try volume.makeFile(name, Self.old)
                _ = try volume.cid(of: .root)
            }
        }
        try volume.synchronizeAll()
    }

    func perform(_ volume: Volume) throws {
        switch self {
        case .rewriteOfSealedFile:
            let file = try volume.resolve(path: ["file"])
            let opened = try volume.open(file, flags: .both, caller: root)
            try volume.write(opened.handle, at: 20_000, Self.small)
            try volume.synchronize(opened.handle, dataOnly: true)
            volume.release(opened.handle)
        case .writeAfterTreeCIDWithoutClose:
            let file = try volume.resolve(path: ["file"])
            let opened = try volume.open(file, flags: .both, caller: root)
            _ = try volume.cid(of: .root)
            try volume.synchronizeAll()
            try volume.write(opened.handle, at: 20_000, Self.small)
            try volume.write(opened.handle, at: 40_000, Self.small)
        case .growthOutOfManifest:
            let file = try volume.resolve(path: ["file"])
            let opened = try volume.open(file, flags: .both, caller: root)
            try volume.write(opened.handle, at: 3_000, Self.new)
            try volume.synchronize(opened.handle, dataOnly: true)
        case .replacementByRename:
            try volume.makeFile("new", Self.new)
            try volume.rename("new", in: .root, to: "file", in: .root, flags: [])
            try volume.synchronizeDirectory(.root)
        case .exchangeOfDirectories:
            try volume.rename("one", in: .root, to: "two", in: .root, flags: .exchange)
            try volume.synchronizeDirectory(.root)
        case .truncationOfSharedFile:
            try volume.setSize(of: try volume.resolve(path: ["file"]), to: 40_000)
            try volume.synchronizeAll()
        case .removalOfLastName:
            try volume.unlink("file", in: .root)
            try volume.synchronizeDirectory(.root)
            try volume.close()
        case .sealing:
            _ = try volume.cid(of: .root)
            try volume.synchronizeAll()
        }
    }

    /// Whether content is a possible one, wherever the deed was cut off.
    func allows(_ path: String, _ bytes: [UInt8]) -> Bool {
        func patched(_ offsets: Int...) -> [UInt8] {
            var bytes = Self.old
            for offset in offsets {
                bytes.replaceSubrange(offset..<offset + Self.small.count, with: Self.small)
            }
            return bytes
        }
        let states: [[UInt8]] =
            switch self {
            case .rewriteOfSealedFile: [Self.old, patched(20_000)]
            case .writeAfterTreeCIDWithoutClose:
                [Self.old, patched(20_000), patched(20_000, 40_000)]
            case .growthOutOfManifest: [Self.small, Self.small + Self.new]
            case .replacementByRename:
                path == "/new" ? [[], Self.new] : [Self.old, Self.new]
            case .exchangeOfDirectories: [Self.old, Self.new]
            case .truncationOfSharedFile:
                path == "/twin" ? [Self.old] : [Self.old, Array(Self.old[..<40_000])]
            case .removalOfLastName, .sealing: [Self.old]
            }
        return states.contains(bytes)
    }
}

/// One death, described for the process that dies it.
struct Death: Codable, Sendable {
    let deed: Deed
    let directory: String
    let callsToDeath: Int

    var marker: String { directory + "/done" }

    func die() throws {
        let volume = try Volume.open(
            stateDirectory: directory + "/state", options: stillOptions, log: quietLog)
        try deed.prepare(volume)
        Faults.arm(Set(Faults.Call.allCases), passing: callsToDeath, outcome: .death)
        try deed.perform(volume)
        Faults.disarm()
        close(open(marker, O_RDWR | O_CREAT, 0o600))
        kill(getpid(), SIGKILL)
    }
}

@Suite struct DeathTests {
    @Test(arguments: Deed.allCases)
    func deathAtAnyCallLeavesTheStateBeforeOrAfter(_ deed: Deed) async throws {
        for calls in 0... {
            let scratch = ScratchDirectory()
            let death = Death(deed: deed, directory: scratch.path, callsToDeath: calls)
            await #expect(processExitsWith: .signal(SIGKILL)) { [death = death as Death] in
                try death.die()
            }
            try check(death, scratch)
            guard access(death.marker, F_OK) != 0 else {
                #expect(calls > 0, "the deed makes at least one call")
                return
            }
        }
    }

    private func check(_ death: Death, _ scratch: ScratchDirectory) throws {
        let title = "\(death.deed), killed after \(death.callsToDeath) calls"
        let found = try Volume.check(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(title): \(found.problems)")
        let volume = try openVolume(scratch, stillOptions)
        try checkFiles(in: .root, path: "", of: volume, death.deed, title)
        #expect(
            try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid, "\(title)")
        try volume.close()
        let settled = try Volume.check(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(settled.isClean, "\(title): \(settled.problems)")
        #expect(settled.pending == CheckReport.Pending(), "\(title)")
    }

    private func checkFiles(
        in directory: Inode, path: String, of volume: Volume, _ deed: Deed, _ title: String
    ) throws {
        for entry in try volume.entries(of: directory) {
            let path = path + "/\(entry.name)"
            if entry.kind == .directory {
                try checkFiles(in: Inode(entry.inode), path: path, of: volume, deed, title)
                continue
            }
            let bytes = try volume.contents(of: Inode(entry.inode))
            #expect(deed.allows(path, bytes), "\(path) with \(bytes.count) bytes: \(title)")
            // What is told without hashing must be the hash.
            let report = try volume.report(of: Inode(entry.inode))
            if let cid = report.cid {
                #expect(cid == volume.profile.root(of: bytes).cid, "\(path): \(title)")
            }
        }
    }
}
