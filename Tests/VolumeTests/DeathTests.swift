import Base
import Checking
import Foundation
import Glibc
import MerkleDAG
import Multiformats
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
    case whiteoutByRename
    case truncationOfSharedFile
    case removalOfLastName
    case sealing
    case growthAfterSynchronizing
    case writeToSharedFileWithReader
    case mappedWritesWithoutDescriptor
    case manySmallFiles
    case importOfTrees

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
        case .replacementByRename, .whiteoutByRename:
            try volume.makeFile("file", Self.old)
        case .growthAfterSynchronizing, .mappedWritesWithoutDescriptor, .manySmallFiles,
            .importOfTrees:
            break
        case .exchangeOfDirectories:
            try volume.makeFile("file", in: volume.makeDirectory("one"), Self.old)
            try volume.makeFile("file", in: volume.makeDirectory("two"), Self.new)
            _ = try volume.cid(of: .root)
        case .truncationOfSharedFile, .writeToSharedFileWithReader:
            for name: FileName in ["file", "twin"] {
                try volume.makeFile(name, Self.old)
                _ = try volume.cid(of: .root)
            }
        }
        try volume.synchronizeAll()
    }

    func perform(_ volume: Volume, _ kernel: KernelStand) throws {
        switch self {
        case .rewriteOfSealedFile:
            let file = try volume.resolve(path: ["file"])
            let opened = try kernel.open(file, .both)
            try kernel.write(opened, at: 20_000, Self.small)
            try volume.synchronize(opened, dataOnly: true)
            kernel.release(opened)
        case .writeAfterTreeCIDWithoutClose:
            let file = try volume.resolve(path: ["file"])
            let opened = try kernel.open(file, .both)
            _ = try volume.cid(of: .root)
            try volume.synchronizeAll()
            try kernel.write(opened, at: 20_000, Self.small)
            try kernel.write(opened, at: 40_000, Self.small)
        case .growthOutOfManifest:
            let file = try volume.resolve(path: ["file"])
            let opened = try kernel.open(file, .both)
            try kernel.write(opened, at: 3_000, Self.new)
            try volume.synchronize(opened, dataOnly: true)
        case .replacementByRename:
            try kernel.makeFile("new", Self.new)
            try volume.rename("new", in: .root, to: "file", in: .root, flags: [])
            try volume.synchronizeDirectory(.root)
        case .exchangeOfDirectories:
            try volume.rename("one", in: .root, to: "two", in: .root, flags: .exchange)
            try volume.synchronizeDirectory(.root)
        case .whiteoutByRename:
            try volume.rename("file", in: .root, to: "moved", in: .root, flags: .whiteout)
            try volume.synchronizeDirectory(.root)
        case .truncationOfSharedFile:
            try volume.setSize(of: try volume.resolve(path: ["file"]), to: 40_000)
            try volume.synchronizeAll()
        case .removalOfLastName:
            try volume.unlink("file", in: .root)
            try volume.synchronizeDirectory(.root)
            kernel.releaseAll()
            try volume.close()
        case .growthAfterSynchronizing:
            let (_, opened) = try kernel.create("file")
            try kernel.write(opened, at: 0, Self.small)
            try volume.synchronize(opened, dataOnly: true)
            close(open(Self.synchronizedMarker(volume), O_RDWR | O_CREAT, 0o600))
            try kernel.write(opened, at: 3_000, Self.new)
            try volume.synchronize(opened, dataOnly: true)
            try volume.synchronizeAll()
            kernel.release(opened)
        case .writeToSharedFileWithReader:
            let file = try volume.resolve(path: ["file"])
            let reader = try kernel.open(file, .read)
            let opened = try kernel.open(file, .both)
            try kernel.write(opened, at: 20_000, Self.small)
            try volume.synchronize(opened, dataOnly: true)
            try volume.unlink("twin", in: .root)
            try volume.synchronizeAll()
            kernel.release(opened)
            kernel.release(reader)
        case .mappedWritesWithoutDescriptor:
            let (_, opened) = try kernel.create("file")
            try kernel.write(opened, at: 0, Self.old)
            let mapping = kernel.registry == nil ? nil : try kernel.map(opened, count: 60_000)
            kernel.release(opened)
            try volume.synchronizeAll()
            mapping?.bytes.copyBytes(from: Self.new)
            mapping?.end()
            try volume.synchronizeAll()
        case .manySmallFiles:
            for name: FileName in ["a", "b", "c"] {
                try kernel.makeFile(name, Self.small)
                try volume.synchronizeAll()
            }
            try volume.unlink("a", in: .root)
            kernel.releaseAll()
            try volume.close()
        case .importOfTrees:
            let (roots, source) = Self.trees()
            _ = try volume.importTrees(roots, from: source, as: "trees", in: .root) { _ in true }
        case .sealing:
            _ = try volume.cid(of: .root)
            try volume.synchronizeAll()
        }
    }

    /// A directory with a file in it, and a file whose DAG is another than the profile's.
    static func trees() -> (roots: [CID], BlockTable) {
        let blocks = ForeignBlocks()
        let directory = blocks.directory([
            link("file", blocks.raw(old), UInt64(old.count)),
            link("more", blocks.raw(new), UInt64(new.count)),
        ])
        let foreign = blocks.bytewise(small, width: 1000)
        return ([directory, foreign], blocks.take())
    }

    /// Stands beside the state directory once the first part of a deed is durable.
    static func synchronizedMarker(_ volume: Volume) -> String {
        volume.stateDirectoryPath + "/../synchronized"
    }

    /// Whether content is a possible one, wherever the deed was cut off.
    func allows(_ path: String, _ bytes: [UInt8], isSynchronized: Bool) -> Bool {
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
            case .removalOfLastName, .sealing, .whiteoutByRename: [Self.old]
            case .growthAfterSynchronizing:
                isSynchronized
                    ? [Self.small, Self.small + Self.new]
                    : [[], Self.small, Self.small + Self.new]
            case .writeToSharedFileWithReader:
                path == "/twin" ? [Self.old] : [Self.old, patched(20_000)]
            case .mappedWritesWithoutDescriptor:
                [[], Self.old, Self.new + Self.old.dropFirst(Self.new.count)]
            case .manySmallFiles: [[], Self.small]
            case .importOfTrees: [Self.old, Self.new, Self.small]
            }
        return states.contains(bytes)
    }
}

/// One death, described for the process that dies it.
struct Death: Codable, Sendable {
    let deed: Deed
    let directory: String
    let callsToDeath: Int
    let usesBackingFiles: Bool

    var marker: String { directory + "/done" }

    func die() throws {
        let volume = try Volume.open(
            stateDirectory: directory + "/state", options: stillOptions, log: quietLog)
        try deed.prepare(volume)
        let kernel = try KernelStand(volume, usesBackingFiles: usesBackingFiles)
        Faults.arm(Set(Faults.Call.allCases), passing: callsToDeath, outcome: .death)
        try deed.perform(volume, kernel)
        if kernel.violation != nil { exit(1) }
        Faults.disarm()
        close(open(marker, O_RDWR | O_CREAT, 0o600))
        kill(getpid(), SIGKILL)
    }
}

@Suite struct DeathTests {
    @Test(arguments: Deed.allCases, [false, true])
    func deathAtAnyCallLeavesTheStateBeforeOrAfter(
        _ deed: Deed, usesBackingFiles: Bool
    ) async throws {
        var calls = 0
        while true {
            // Of a long deed, each of the first calls, and of the others about one in eight.
            defer { calls += deed == .importOfTrees ? 1 + calls / 8 : 1 }
            let scratch = ScratchDirectory()
            let death = Death(
                deed: deed, directory: scratch.path, callsToDeath: calls,
                usesBackingFiles: usesBackingFiles)
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
        let title =
            "\(death.deed), killed after \(death.callsToDeath) calls"
            + (death.usesBackingFiles ? ", with backing files" : "")
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(title): \(found.problems)")
        let volume = try openVolume(scratch, stillOptions)
        let isSynchronized = access(Deed.synchronizedMarker(volume), F_OK) == 0
        if isSynchronized { #expect(try volume.entries(of: .root).count == 1, "\(title)") }
        if death.deed == .whiteoutByRename {
            let entries = try volume.entries(of: .root)
            let kinds = Dictionary(uniqueKeysWithValues: entries.map { ($0.name, $0.kind) })
            #expect(
                kinds == ["file": .regular]
                    || kinds == ["file": .characterDevice, "moved": .regular],
                "\(title)")
        }
        if death.deed == .importOfTrees, try !volume.entries(of: .root).isEmpty {
            let trees = try volume.inode("trees")
            let (roots, _) = Deed.trees()
            #expect(try volume.names(in: trees) == roots.map { "\($0)" }.sorted(), "\(title)")
            let directory = try volume.inode("trees", FileName("\(roots[0])"))
            #expect(try volume.names(in: directory) == ["file", "more"], "\(title)")
        }
        try checkFiles(
            in: .root, path: "", of: volume, death.deed, isSynchronized: isSynchronized, title)
        #expect(
            try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid, "\(title)")
        try volume.close()
        let settled = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(settled.isClean, "\(title): \(settled.problems)")
        #expect(settled.pending == CheckReport.Pending(), "\(title)")
    }

    private func checkFiles(
        in directory: Inode, path: String, of volume: Volume, _ deed: Deed, isSynchronized: Bool,
        _ title: String
    ) throws {
        for entry in try volume.entries(of: directory) {
            let path = path + "/\(entry.name)"
            if entry.kind == .directory {
                try checkFiles(
                    in: Inode(entry.inode), path: path, of: volume, deed,
                    isSynchronized: isSynchronized, title)
                continue
            }
            guard entry.kind == .regular else { continue }
            let bytes = try volume.contents(of: Inode(entry.inode))
            #expect(
                deed.allows(path, bytes, isSynchronized: isSynchronized),
                "\(path) with \(bytes.count) bytes: \(title)")
            // What is told without hashing must be the hash.
            let report = try volume.report(of: Inode(entry.inode))
            if let cid = report.cid {
                #expect(cid == volume.profile.root(of: bytes).cid, "\(path): \(title)")
            }
        }
    }
}
