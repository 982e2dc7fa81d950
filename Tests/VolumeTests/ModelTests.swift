import Base
import Checking
import Glibc
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// Where the volume and the model part.
struct Mismatch: Error, CustomStringConvertible {
    let description: String
}

/// The volume and the model, side by side.
final class ModelRun {
    private let directory = ScratchDirectory()
    private let options: VolumeOptions
    let model: ModelFilesystem
    private let driver: VolumeDriver
    private var generator: OperationGenerator
    private let title: String
    private var recent: [String] = []
    private var stepCount = 0
    /// Reads and writes that did not go to the volume.
    private(set) var passedCount = 0

    init(
        seed: UInt64, profile: ImportProfile, inlineSizeMax: Int, sealDelay: Int,
        usesBackingFiles: Bool
    ) throws {
        var options = VolumeOptions()
        options.profile = profile
        options.inlineSizeMax = inlineSizeMax
        options.sealDelayMilliseconds = sealDelay
        options.commitIntervalMilliseconds = 50
        options.logSegmentByteCount = logSegmentByteCount(seed: seed)
        self.options = options
        model = ModelFilesystem(profile: profile)
        driver = try VolumeDriver(
            try openVolume(directory, options), usesBackingFiles: usesBackingFiles)
        generator = OperationGenerator(
            seed: seed, inlineSizeMax: inlineSizeMax, chunkSize: profile.chunkSize)
        generator.snapshotPermille = seed % 3 == 0 ? 0 : 20
        if usesBackingFiles {
            generator.handlesMax = 24
            generator.reopenPercent = 8
        }
        title =
            "REGISTRYFS_TEST_SEED=\(seed) \(profile.name) inline \(inlineSizeMax) delay \(sealDelay)"
            + (usesBackingFiles ? " backing files" : "")
    }

    private func fail(_ what: String) -> Mismatch {
        Mismatch(
            description: "\(title), step \(stepCount): \(what)\n"
                + recent.suffix(12).joined(separator: "\n"))
    }

    /// One operation on both; throws where they answer differently.
    func step() throws {
        stepCount += 1
        let operation = generator.next(model)
        let answer: Result<Answer, Errno>
        do throws(Errno) {
            answer = .success(try driver.apply(operation))
        } catch {
            answer = .failure(error)
        }
        recent.append("  \(operation)".prefix(120) + " -> " + "\(answer)".prefix(120))
        if recent.count > 200 { recent.removeFirst(100) }
        if let violation = driver.kernel.violation { throw fail(violation) }
        if case .seek(let handle, let offset, let whence) = operation {
            let found = answer.map { answer -> UInt64 in
                if case .count(let offset) = answer { offset } else { .max }
            }
            guard model.checkSeek(handle, from: offset, whence: whence, found) else {
                throw fail("a wrong place of data or hole")
            }
            return
        }
        switch Result(catching: { () throws(ModelFailure) in try model.apply(operation) }) {
        case .success(let expected):
            guard answer == .success(expected) else {
                throw fail("expected \("\(expected)".prefix(300))")
            }
        case .failure(let failure):
            guard case .failure(let error) = answer, failure.allowed.contains(error) else {
                throw fail("expected one of \(failure.allowed)")
            }
        }
    }

    /// Compares everything that can be seen.
    func compare() throws {
        for inode in model.order {
            guard let node = model.nodes[inode] else { continue }
            let status = Status(try driver.volume.attributes(of: Inode(inode)))
            guard status == model.status(of: node) else {
                throw fail("inode \(inode): \(status), expected \(model.status(of: node))")
            }
            try compareContent(of: node)
            let names: [UInt8] = node.attributes.keys
                .sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
                .flatMap { name in name.bytes + [0 as UInt8] }
            guard try driver.volume.extendedAttributeNames(of: Inode(inode)) == names else {
                throw fail("inode \(inode): other extended attributes")
            }
            for (name, value) in node.attributes
            where try driver.volume.extendedAttribute(name, of: Inode(inode)) != value {
                throw fail("inode \(inode): another value of \(name)")
            }
        }
    }

    private func compareContent(of node: ModelFilesystem.Node) throws {
        let inode = Inode(node.inode)
        switch node.kind {
        case .regular:
            let bytes = try driver.volume.contents(of: inode)
            guard bytes == node.bytes else {
                let place = zip(bytes, node.bytes).enumerated().first { $1.0 != $1.1 }?.offset
                throw fail("\(inode): other bytes from \(place ?? -1) on")
            }
        case .directory:
            guard try driver.listing(of: inode, portion: 7) == model.listing(of: node) else {
                throw fail("\(inode): another listing")
            }
        case .symlink:
            guard try driver.volume.readSymlink(inode) == node.target else {
                throw fail("\(inode): another target")
            }
        default: break
        }
    }

    /// Each snapshot is whole, and of the tree that it was made of.
    func compareSnapshots() throws {
        let made = driver.volume.snapshots()
        guard
            Dictionary(uniqueKeysWithValues: made.map { ($0.name, $0.root) }) == model.snapshots
        else { throw fail("other snapshots: \(made), expected \(model.snapshots)") }
        for snapshot in made {
            do {
                try driver.volume.exportCAR(snapshot.root) { (_) throws(Never) in }
            } catch {
                throw fail("snapshot \(snapshot.name): \(error)")
            }
        }
    }

    func compareCIDs() throws {
        for inode in model.order {
            guard let node = model.nodes[inode], let dag = model.dag(of: node) else { continue }
            let cid = try driver.volume.cid(of: Inode(inode))
            guard cid == dag.cid else { throw fail("inode \(inode): \(cid), expected \(dag.cid)") }
        }
    }

    /// Closes and opens the volume, which ends all handles; every file can then be had by CID.
    func reopen() throws {
        try close()
        model.dropUsers()
        try driver.replaceVolume(try openVolume(directory, options))
        recent.append("  reopened")
        try compareSnapshots()
        try compare()
        try compareCIDs()
        let root = try driver.volume.cid(of: .root)
        var byteCount = 0
        do {
            try driver.volume.exportCAR(root) { (bytes) throws(Never) in byteCount += bytes.count }
        } catch {
            throw fail("the tree cannot be exported: \(error)")
        }
        guard byteCount > 0 else { throw fail("an empty archive") }
    }

    /// Closes the volume; nothing is left over then, and everything is in order.
    func close() throws {
        try driver.close()
        if let registry = driver.kernel.registry {
            guard registry.count == 0 else { throw fail("\(registry.count) files registered") }
            passedCount += driver.kernel.passedCount
        }
        let found = try Check.run(stateDirectory: directory.state, repair: false) { _, _ in }
        guard found.isClean, found.pending.unnamedFiles == 0, found.pending.lostFiles == 0 else {
            throw fail("check: \(found.problems), \(found.pending)")
        }
    }
}

@Suite struct ModelTests {
    struct Setting: Sendable, CustomTestStringConvertible {
        let profile: ImportProfile
        let inlineSizeMax: Int
        let sealDelay: Int

        var testDescription: String {
            "\(profile.name), inline to \(inlineSizeMax), sealed after \(sealDelay) ms"
        }
    }

    @Test(
        arguments: [
            Setting(profile: .unixfsV1_2025, inlineSizeMax: 16 << 10, sealDelay: 200),
            Setting(profile: .unixfsV1_2025, inlineSizeMax: 512, sealDelay: 0),
            Setting(profile: .unixfsV0_2015, inlineSizeMax: 16 << 10, sealDelay: 0),
            Setting(profile: .unixfsV0_2015, inlineSizeMax: 0, sealDelay: 5),
        ], [false, true])
    func volumeAnswersAsTheModelDoes(_ setting: Setting, usesBackingFiles: Bool) throws {
        for round in 0..<3 {
            let run = try ModelRun(
                seed: testSeed() &+ UInt64(round), profile: setting.profile,
                inlineSizeMax: setting.inlineSizeMax, sealDelay: setting.sealDelay,
                usesBackingFiles: usesBackingFiles)
            for index in 1...3000 {
                try run.step()
                if index % 250 == 0 {
                    try run.compare()
                }
                if index % 500 == 0 {
                    try run.compareCIDs()
                    try run.compareSnapshots()
                }
                if index % 1000 == 0 { try run.reopen() }
            }
            try run.close()
            #expect(run.passedCount > 200 || !usesBackingFiles)
        }
    }
}
