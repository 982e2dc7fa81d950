import Base
import Checking
import Foundation
import MerkleDAG
import Multiformats
import Remotes
import Testing
import Volume

import struct SystemPackage.Errno

private let large = content(seed: 1, count: 3_500_000)

/// A directory of two files, one of which has leaves of another size than the profile's.
private struct Trees {
    let root: CID
    let foreign: CID
    /// A leaf of the first file.
    let leaf: CID
    let source: BlockTable
    static let bytes = content(seed: 2, count: 5_000)

    init() throws {
        let blocks = ForeignBlocks()
        let profile = ImportProfile.unixfsV1_2025
        let parts = stride(from: 0, to: large.count, by: profile.chunkSize).map { start in
            Array(large[start..<min(start + profile.chunkSize, large.count)])
        }
        let leaves = parts.map { (blocks.raw($0), UInt64($0.count)) }
        leaf = leaves[2].0
        // With a Tsize that is right: what the profile makes has that as well.
        let file = profile.root(of: large)
        try #require(blocks.file(leaves) == file.cid)
        foreign = blocks.bytewise(Self.bytes, width: 100)
        root = blocks.directory([
            link("foreign", foreign, 9), link("large", file.cid, file.treeSize),
        ])
        source = blocks.take()
    }
}

private func quiet() -> VolumeOptions {
    var options = VolumeOptions()
    options.sealDelayMilliseconds = 10
    options.commitIntervalMilliseconds = 50
    return options
}

/// An import of which each call that changes the disk fails in turn, in a process of its own.
private func importWithFaults(_ directory: String) throws {
    let trees = try Trees()
    // Each of the first calls, and of the others about one in ten.
    var passing = 0
    while true {
        defer { passing += 1 + passing / 10 }
        let state = "\(directory)/state-\(passing)"
        let volume = try Volume.open(
            stateDirectory: state, options: stillOptions, log: quietLog)
        Faults.arm(
            [.write, .synchronize, .makeDirectory, .rename, .beginCommit, .beginTransaction],
            passing: passing, outcome: .failure(.ioError))
        var isDone = true
        do throws(VolumeError) {
            _ = try volume.importTrees(
                [trees.root, trees.foreign], from: trees.source, as: "trees", in: .root
            ) { _ in true }
        } catch {
            isDone = false
        }
        let isStruck = Faults.disarm() > 0
        let title = "call \(passing) fails"
        guard try volume.names() == (isDone ? ["trees"] : []) else {
            throw Mismatch(description: "\(title): \(try volume.names())")
        }
        if isDone {
            let inner = try volume.inode("trees", FileName("\(trees.root)"), "large")
            guard try volume.contents(of: inner) == large else {
                throw Mismatch(description: "\(title): other bytes")
            }
        }
        try volume.close()
        let report = try Check.run(stateDirectory: state, repair: false) { _, _ in }
        guard report.isClean else {
            throw Mismatch(description: "\(title): \(report.problems)")
        }
        guard isStruck else { return }
    }
}

@Suite struct ImportTests {
    @Test func aCallThatFailsLeavesAllOrNothing() async {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .success) { [path = scratch.path as String] in
            do {
                try importWithFaults(path)
            } catch {
                Issue.record("\(error)")
                exit(1)
            }
        }
    }

    @Test func filesOfAnotherLayoutAreKeptAsWell() throws {
        let trees = try Trees()
        let directory = ScratchDirectory()
        var volume = try openVolume(directory, quiet())
        let found = try volume.importTrees(
            [trees.root, trees.root], from: trees.source, as: "tree", in: .root
        ) { _ in true }
        #expect(found.files == 2 && found.bytes == UInt64(large.count + Trees.bytes.count))
        #expect(found.cachedFiles == 0 && found.convertedFiles == 1)
        #expect(try volume.names() == ["tree"])
        try volume.close()
        volume = try openVolume(directory, quiet())
        #expect(try volume.contents(of: volume.inode("tree", "foreign")) == Trees.bytes)
        #expect(try volume.contents(of: volume.inode("tree", "large")) == large)
        #expect(
            try volume.cid(of: volume.inode("tree", "foreign"))
                == volume.profile.root(of: Trees.bytes).cid)
        try volume.close()
        try expectClean(directory)
    }

    @Test func aTreeIsThereOnlyOnceItIsWhole() throws {
        let trees = try Trees()
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, quiet())
        var rounds = 0
        _ = try volume.importTrees([trees.root], from: trees.source, as: "tree", in: .root) { _ in
            rounds += 1
            return (try? volume.names()) == []
        }
        #expect(rounds > 0)
        #expect(try volume.names() == ["tree"])
        try volume.close()
        try expectClean(directory)
    }

    @Test(arguments: [false, true])
    func aBlockThatIsMissingOrDamagedIsNamedAndNothingStays(_ isDamaged: Bool) throws {
        let trees = try Trees()
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, quiet())
        for lost in [trees.root, trees.leaf, trees.foreign] {
            let error = #expect(throws: VolumeError.self) {
                try volume.importTrees(
                    [trees.root], from: trees.source.without(lost, isDamaged: isDamaged),
                    as: "tree", in: .root
                ) { _ in true }
            }
            let words = "\(try #require(error))"
            #expect(words.contains("\(lost)"), "\(words)")
            #expect(words.contains(isDamaged ? "at byte 9" : "there is no block"), "\(words)")
        }
        #expect(try volume.names().isEmpty)
        try volume.close()
        try expectNothing(in: directory)
    }

    @Test func aNameThatCameMeanwhileStays() throws {
        let trees = try Trees()
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, quiet())
        #expect(throws: VolumeError.self) {
            try volume.importTrees([trees.root], from: trees.source, as: "tree", in: .root) { _ in
                (try? volume.makeFile("tree", [1])) != nil
            }
        }
        #expect(try volume.contents(of: volume.inode("tree")) == [1])
        try volume.unlink("tree", in: .root)
        try volume.close()
        try expectNothing(in: directory)
    }

    @Test func whoEndsAnImportHasNothingOfIt() throws {
        let trees = try Trees()
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, quiet())
        #expect(throws: VolumeError.self) {
            try volume.importTrees([trees.root], from: trees.source, as: "tree", in: .root) { _ in
                false
            }
        }
        #expect(throws: VolumeError.self) {
            try volume.importTrees([], from: trees.source, as: "tree", in: .root) { _ in true }
        }
        #expect(try volume.names().isEmpty)
        try volume.close()
        try expectNothing(in: directory)
    }

    @Test func whatIsThereOfAnImportThatDidNotEndGoesAtTheNextOpening() throws {
        let trees = try Trees()
        let directory = ScratchDirectory()
        let killed = ScratchDirectory()
        // Nothing goes on while it is copied.
        let volume = try openVolume(directory, stillOptions)
        _ = try volume.importTrees([trees.root], from: trees.source, as: "tree", in: .root) { _ in
            guard (try? volume.synchronizeAll()) != nil else { return false }
            let copy: Void? = try? FileManager.default.copyItem(
                atPath: directory.state, toPath: killed.state)
            return copy != nil
        }
        try volume.close()
        let left = try Check.run(stateDirectory: killed.state, repair: false) { _, _ in }
        #expect(left.problems.isEmpty, "\(left.problems)")
        #expect(left.pending.unfinishedImports == 1)
        // A repair leaves it to the next opening as well.
        let again = try Check.run(stateDirectory: killed.state, repair: true) { _, _ in }
        #expect(again.isClean && again.repaired.isEmpty)
        let opened = try openVolume(killed, quiet())
        #expect(try opened.names().isEmpty)
        try opened.close()
        try expectNothing(in: killed)
    }

    /// The volume is empty, and no flat file is left.
    private func expectNothing(in directory: ScratchDirectory) throws {
        let report = try Check.run(stateDirectory: directory.state, repair: false) { _, _ in }
        #expect(report.problems.isEmpty, "\(report.problems)")
        #expect(report.inodes == 1 && report.objects == 0)
        #expect(report.pending == CheckReport.Pending())
    }
}
