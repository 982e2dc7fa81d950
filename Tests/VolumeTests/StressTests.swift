import Base
import Checking
import Foundation
import Glibc
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// What the threads of a stress do; every error that a race can bring is fine.
private final class Stress: Sendable {
    let volume: Volume
    let directories: [Inode]
    private let surprise = Monitor<String?>(nil)

    init(_ volume: Volume) throws {
        self.volume = volume
        var directories = [Inode.root]
        for name: FileName in ["p", "q", "r"] {
            directories.append(try volume.makeDirectory(name))
        }
        self.directories = directories
    }

    var complaint: String? { surprise.withLock { $0 } }

    private static let names: [FileName] = ["a", "b", "c", "d", "e"]
    private static let expected: Set<Errno> = [
        .noSuchFileOrDirectory, .fileExists, .isDirectory, .notDirectory, .directoryNotEmpty,
        .invalidArgument, .notPermitted, .tooManySymbolicLinkLevels, .noSuchAddressOrDevice,
        Errno(rawValue: ESTALE), Errno(rawValue: ENODATA), .resourceTemporarilyUnavailable,
    ]

    func run(seed: UInt64, operations: Int) {
        var random = SeededGenerator(seed: seed)
        var handles: [HandleID] = []
        for _ in 0..<operations {
            let kind = random.below(20)
            do throws(Errno) {
                try step(kind, &random, &handles)
            } catch {
                guard !Self.expected.contains(error) else { continue }
                surprise.withLock { $0 = "an unexpected \(error) in step \(kind)" }
            }
        }
        for handle in handles { volume.release(handle) }
    }

    /// A directory, one made by the threads themselves among them.
    private func directory(_ random: inout SeededGenerator) throws(Errno) -> Inode {
        let fixed = random.pick(directories)
        guard random.oneIn(3) else { return fixed }
        let found = try volume.lookup(random.pick(Self.names), in: fixed)
        volume.forget(found.inode, count: 1)
        return found.kind == .directory ? found.inode : fixed
    }

    private func step(
        _ kind: Int, _ random: inout SeededGenerator, _ handles: inout [HandleID]
    ) throws(Errno) {
        let parent = try directory(&random)
        let name = random.pick(Self.names)
        switch kind {
        case 0...2:
            let (attributes, opened) = try volume.create(
                name, in: parent, mode: 0o644, flags: .both, caller: root)
            volume.forget(attributes.inode, count: 1)
            handles.append(opened.handle)
        case 3:
            let made = try volume.makeDirectory(name, in: parent, mode: 0o755, caller: root)
            volume.forget(made.inode, count: 1)
        case 4:
            let made = try volume.makeSymlink(name, in: parent, target: [1, 2], caller: root)
            volume.forget(made.inode, count: 1)
        case 5: try volume.unlink(name, in: parent)
        case 6: try volume.removeDirectory(name, in: parent)
        case 7...8:
            let flags = random.pick([RenameFlags(), .exchange, .noReplace])
            try volume.rename(
                name, in: parent, to: random.pick(Self.names), in: try directory(&random),
                flags: flags)
        case 9:
            let found = try volume.lookup(name, in: parent)
            defer { volume.forget(found.inode, count: 1) }
            let linked = try volume.link(
                found.inode, as: random.pick(Self.names), in: try directory(&random))
            volume.forget(linked.inode, count: 1)
        case 10...13:
            guard !handles.isEmpty else { return }
            try volume.write(
                random.pick(handles), at: UInt64(random.below(40_000)),
                content(seed: UInt64(random.below(3)), count: random.below(30_000)))
        case 14:
            guard !handles.isEmpty else { return }
            _ = try volume.read(random.pick(handles), at: 0, count: 50_000)
        case 15:
            let found = try volume.lookup(name, in: parent)
            defer { volume.forget(found.inode, count: 1) }
            try volume.setSize(of: found.inode, to: UInt64(random.below(60_000)))
        case 16:
            guard !handles.isEmpty else { return }
            _ = try volume.copyRange(
                from: random.pick(handles), at: 0, to: random.pick(handles),
                at: UInt64(random.pick([0, 100])), length: 100_000)
        case 17:
            var count = 0
            try volume.readDirectoryPlus(parent, from: 0) { entry, attributes in
                count += 1
                if let attributes, attributes.kind != entry.kind { count = -1000 }
                return false
            }
            if count < 0 { surprise.withLock { $0 = "an entry of another kind than its inode" } }
        case 18:
            if random.oneIn(4) { _ = try volume.cid(of: parent) }
            if random.oneIn(8), let handle = handles.first {
                try volume.synchronize(handle, dataOnly: false)
            }
        default:
            guard !handles.isEmpty else { return }
            volume.release(handles.remove(at: random.below(handles.count)))
        }
    }
}

@Suite struct StressTests {
    @Test(arguments: 0..<2)
    func threadsOnTheSameNamesKeepTheTreeWhole(_ round: Int) throws {
        let scratch = ScratchDirectory()
        let seed = testSeed() &+ UInt64(round)
        var options = VolumeOptions()
        options.sealDelayMilliseconds = 0
        options.commitIntervalMilliseconds = 20
        options.inlineSizeMax = 8 << 10
        var volume = try openVolume(scratch, options)
        let stress = try Stress(volume)
        // Under Thread Sanitizer each step takes its time.
        let operations =
            getenv("REGISTRYFS_TEST_STEPS").flatMap { Int(String(cString: $0)) } ?? 4000
        var threads: [JoinableThread] = []
        for number in 0..<8 {
            threads.append(
                try Threads.start(name: "stress") {
                    stress.run(seed: seed &* 31 &+ UInt64(number), operations: operations)
                })
        }
        for thread in threads { thread.join() }
        #expect(stress.complaint == nil, "REGISTRYFS_TEST_SEED=\(seed)")

        let names = try checkInvariants(of: volume, "REGISTRYFS_TEST_SEED=\(seed)")
        try volume.close()
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "REGISTRYFS_TEST_SEED=\(seed): \(found.problems)")
        var pending = found.pending
        // Directories whose CIDs were asked for while a file below was open for writing.
        pending.outdatedTrees = 0
        #expect(pending == CheckReport.Pending())
        #expect(found.inodes == UInt64(Set(names.places.map(\.inode)).count), "no orphan is left")
        volume = try openVolume(scratch, options)
        #expect(try checkInvariants(of: volume, "opened again") == names)
        try volume.close()
    }

    private func checkInvariants(of volume: Volume, _ title: String) throws -> Names {
        let names = try Names(volume)
        let links = Dictionary(grouping: names.places, by: \.inode)
        for place in names.places {
            let expected =
                place.kind == .directory
                ? 2
                    + names.places.filter {
                        $0.kind == .directory && $0.path.count == place.path.count + 1
                            && $0.path.starts(with: place.path)
                    }.count
                : links[place.inode]?.count
            #expect(Int(place.linkCount) == expected, "\(place.path): \(title)")
            guard let name = place.path.last else { continue }
            let parent = try volume.resolve(path: Array(place.path.dropLast()))
            #expect(try volume.lookup(name, in: parent).inode.number == place.inode)
            volume.forget(Inode(place.inode), count: 1)
        }
        #expect(
            try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid, "\(title)")
        return names
    }
}
