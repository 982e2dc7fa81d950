import Base
import Foundation
import Glibc
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// What a process that is killed did before: written so that kill -9 takes nothing of it back.
struct Progress {
    /// Operations that were begun.
    var begun: Int
    /// Operations that are durable for sure.
    var durable: Int
    /// Operations that the disk refused, by their places in the sequence.
    private(set) var refused: Set<Int> = []

    static func path(_ directory: String) -> String { directory + "/progress" }

    init(directory: String) throws {
        let bytes = try Data(contentsOf: URL(fileURLWithPath: Self.path(directory)))
        let numbers = bytes.withUnsafeBytes { Array($0.bindMemory(to: Int.self)) }
        begun = numbers.first ?? 0
        durable = numbers.dropFirst().first ?? 0
        refused = Set(numbers.dropFirst(2))
    }

    init() {
        begun = 0
        durable = 0
    }

    func write(to descriptor: Int32) {
        withUnsafeBytes(of: (begun, durable)) { bytes in
            _ = pwrite(descriptor, bytes.baseAddress, bytes.count, 0)
        }
    }

    mutating func noteRefused(_ index: Int, in descriptor: Int32) {
        refused.insert(index)
        let place = off_t((1 + refused.count) * MemoryLayout<Int>.size)
        withUnsafeBytes(of: index) { _ = pwrite(descriptor, $0.baseAddress, $0.count, place) }
    }
}

/// What fails of the disk below, in place of an early end.
struct DiskFailure: Codable, Sendable {
    /// The kinds of call, each by what it does to a state directory.
    enum Kind: String, Codable, CaseIterable, Sendable {
        case write, flush, rename

        var calls: Set<Faults.Call> {
            switch self {
            case .write: [.write, .truncate, .allocate, .copy, .beginCommit, .beginTransaction]
            case .flush: [.synchronize, .endCommit, .endTransaction]
            case .rename: [.rename, .exchange, .unlink]
            }
        }
    }

    let kind: Kind
    let errno: Int32
    /// Whether it goes on failing once it has.
    let isForGood: Bool
}

/// A sequence of operations that ends by kill -9, and the model of it.
struct CrashScenario: Codable, Sendable {
    let seed: UInt64
    let directory: String
    /// System calls and commits until the end; with a failure, until that.
    let callsToDeath: Int
    /// What fails in place of the death, which then comes after all operations.
    var failure: DiskFailure?

    private var operationsMax: Int { failure == nil ? 4000 : 300 }

    private var inlineSizeMax: Int { seed % 2 == 0 ? 2048 : 16 << 10 }
    private var profile: ImportProfile { seed % 3 == 0 ? .unixfsV1_2025 : .unixfsV0_2015 }

    private var usesBackingFiles: Bool { seed % 4 < 2 }

    private var options: VolumeOptions {
        var options = VolumeOptions()
        options.profile = profile
        options.inlineSizeMax = inlineSizeMax
        options.sealDelayMilliseconds = seed % 2 == 0 ? 0 : 20
        options.commitIntervalMilliseconds = 30
        options.logSegmentByteCount = logSegmentByteCount(seed: seed)
        return options
    }

    func open() throws -> Volume {
        try Volume.open(stateDirectory: directory + "/state", options: options, log: quietLog)
    }

    private func generator() -> OperationGenerator {
        var generator = OperationGenerator(
            seed: seed, inlineSizeMax: inlineSizeMax, chunkSize: 1 << 18)
        generator.nodesMax = 30
        generator.synchronizePercent = 4
        generator.snapshotPermille = 20
        // A write that fails half way may have cleared the bits all the same.
        if failure != nil { generator.clearsSetID = false }
        return generator
    }

    /// What the process that was to be killed has to say of an answer that is not the model's.
    static func mismatchPath(_ directory: String) -> String { directory + "/mismatch" }

    /// Runs in a process of its own, which does not return.
    func runToDeath() throws {
        let driver = try VolumeDriver(try open(), usesBackingFiles: usesBackingFiles)
        let model = ModelFilesystem(profile: profile)
        var generator = generator()
        var progress = Progress()
        let file = Glibc.open(Progress.path(directory), O_RDWR | O_CREAT, 0o600)
        progress.write(to: file)
        if let failure {
            Faults.arm(
                failure.kind.calls, passing: callsToDeath, striking: failure.isForGood ? .max : 1,
                outcome: .failure(Errno(rawValue: failure.errno)))
        } else {
            Faults.arm(Set(Faults.Call.allCases), passing: callsToDeath, outcome: .death)
        }
        for index in 0..<operationsMax {
            let operation = generator.next(model)
            progress.begun = index + 1
            progress.write(to: file)
            let answer = Result { () throws(Errno) in try driver.apply(operation) }
            if failure != nil, case .failure(let error) = answer,
                error == .noSpace || error == .ioError
            {
                progress.noteRefused(index, in: file)
                continue
            }
            let expected = apply(operation, to: model)
            guard operation.isSeek || expected == (try? answer.get()) else {
                let text =
                    "operation \(index): \(operation) -> " + "\(answer)".prefix(300) + ", expected "
                    + "\(expected as Any)".prefix(300)
                try text.write(
                    toFile: Self.mismatchPath(directory), atomically: false, encoding: .utf8)
                exit(3)
            }
            if case .success = answer, operation.isSynchronizing {
                progress.durable = index + 1
                progress.write(to: file)
            }
        }
        kill(getpid(), SIGKILL)
    }

    /// The model's answer; nil for an error, and for a seek, which changes nothing.
    private func apply(_ operation: Operation, to model: ModelFilesystem) -> Answer? {
        if case .seek = operation { return nil }
        return try? model.apply(operation)
    }

    /// The inode whose bytes an operation makes durable; 0 for all.
    private func synchronizedInode(_ operation: Operation, _ model: ModelFilesystem) -> UInt64? {
        switch operation {
        case .synchronize(let number, _):
            model.handles.first { $0.number == number }?.inode
        case .synchronizeAll: 0
        default: nil
        }
    }

    /// All states of the model that a crash may have left behind.
    func possibleStates(_ progress: Progress) -> PossibleStates {
        let model = ModelFilesystem(profile: profile)
        var generator = generator()
        var states = PossibleStates(mayBeUnsettled: usesBackingFiles)
        for index in 0..<progress.durable {
            let operation = generator.next(model)
            let synchronized = synchronizedInode(operation, model)
            let isDone =
                !progress.refused.contains(index) && apply(operation, to: model) != nil
            // What is written to a backing file comes with its own fsync, not with another one.
            guard usesBackingFiles else { continue }
            states.remember(model)
            if isDone, let synchronized { states.forget(synchronized) }
        }
        states.add(model)
        for index in progress.durable..<progress.begun {
            let operation = generator.next(model)
            if !progress.refused.contains(index) { _ = apply(operation, to: model) }
            states.add(model)
        }
        return states
    }

    /// What is wrong with the snapshots of a volume; nil for nothing.
    func snapshotObjection(to volume: Volume, _ progress: Progress) -> String? {
        let model = ModelFilesystem(profile: profile)
        var generator = generator()
        var roots: [String: CID] = [:]
        // Whether the end may have come before a snapshot was made, or after it was deleted.
        var certain: Set<String> = []
        for index in 0..<progress.begun {
            let operation = generator.next(model)
            let isDurable = index < progress.durable
            guard !progress.refused.contains(index) else {
                if case .deleteSnapshot(let name) = operation { certain.remove(name) }
                continue
            }
            let isDone = apply(operation, to: model) != nil
            switch operation {
            case .snapshot(let name) where isDone:
                roots[name] = model.snapshots[name]
                if isDurable { certain.insert(name) }
            case .deleteSnapshot(let name) where isDone:
                certain.remove(name)
                if isDurable { roots[name] = nil }
            default: break
            }
        }
        let found = volume.snapshots()
        if let missing = certain.subtracting(found.map(\.name)).first {
            return "snapshot \(missing) is gone"
        }
        for snapshot in found {
            // What the disk refused may have come to it all the same.
            guard failure != nil || roots[snapshot.name] == snapshot.root else {
                return "snapshot \(snapshot.name) is \(snapshot.root), expected \(roots)"
            }
            do {
                try volume.exportCAR(snapshot.root) { (_) throws(Never) in }
            } catch {
                return "snapshot \(snapshot.name): \(error)"
            }
        }
        return nil
    }

    func openToDeath() throws {
        Faults.arm(Set(Faults.Call.allCases), passing: callsToDeath, outcome: .death)
        _ = try open()
        kill(getpid(), SIGKILL)
    }
}

extension Operation {
    fileprivate var isSeek: Bool {
        if case .seek = self { true } else { false }
    }

    fileprivate var isSynchronizing: Bool {
        switch self {
        case .synchronize, .synchronizeDirectory, .synchronizeAll, .snapshot, .deleteSnapshot: true
        default: false
        }
    }
}

/// The names of a tree and what they stand for, without the bytes of files.
struct Names: Equatable, CustomStringConvertible {
    struct Place: Equatable {
        var path: [FileName]
        var inode: UInt64
        var kind: FileKind
        var mode: UInt32
        var linkCount: UInt32
        var uid: UInt32
        var gid: UInt32
        var rdev: UInt64
        var target: [UInt8]
        var attributes: [FileName: [UInt8]]
    }

    var places: [Place] = []

    init(_ model: ModelFilesystem) {
        add(1, [], model)
    }

    private mutating func add(_ inode: UInt64, _ path: [FileName], _ model: ModelFilesystem) {
        guard let node = model.nodes[inode] else { return }
        places.append(
            Place(
                path: path, inode: inode, kind: node.kind, mode: node.mode,
                linkCount: node.linkCount, uid: node.uid, gid: node.gid, rdev: node.rdev,
                target: node.target, attributes: node.attributes))
        for child in model.listing(of: node) { add(child.inode, path + [child.name], model) }
    }

    init(_ volume: Volume) throws(Errno) {
        try add(.root, [], volume)
    }

    private mutating func add(
        _ inode: Inode, _ path: [FileName], _ volume: Volume
    ) throws(Errno) {
        let status = try volume.attributes(of: inode)
        var attributes: [FileName: [UInt8]] = [:]
        for name in try volume.extendedAttributeNames(of: inode).split(separator: 0) {
            let name = FileName(Array(name))
            attributes[name] = try volume.extendedAttribute(name, of: inode)
        }
        places.append(
            Place(
                path: path, inode: inode.number, kind: status.kind, mode: status.mode,
                linkCount: status.linkCount, uid: status.uid, gid: status.gid, rdev: status.rdev,
                target: status.kind == .symlink ? try volume.readSymlink(inode) : [],
                attributes: attributes))
        guard status.kind == .directory else { return }
        let children = try volume.entries(of: inode)
            .sorted { $0.name.bytes.lexicographicallyPrecedes($1.name.bytes) }
        for child in children { try add(Inode(child.inode), path + [child.name], volume) }
    }

    var description: String {
        places.map { place in
            "\(place.path) \(place.inode) \(place.kind) \(place.mode) \(place.linkCount) "
                + "\(place.uid):\(place.gid)"
        }.joined(separator: "\n")
    }
}

/// The states of a model, one after each operation.
struct PossibleStates {
    /// A commit may come at any moment, with names newer than the bytes that it has of a file: what is
    /// written to a backing file is taken over by the file's own fsync, and each second.
    private let mayBeUnsettled: Bool
    private(set) var names: [Names] = []
    private var contents: [[UInt64: [UInt8]]] = []
    /// Older bytes that an inode may have, because it was not synchronized since.
    private var older: [UInt64: [[UInt8]]] = [:]

    init(mayBeUnsettled: Bool) { self.mayBeUnsettled = mayBeUnsettled }

    /// Keeps the bytes of all files as ones that they may have.
    mutating func remember(_ model: ModelFilesystem) {
        for (inode, node) in model.nodes
        where node.kind == .regular && older[inode]?.last != node.bytes {
            older[inode, default: [[]]].append(node.bytes)
        }
    }

    /// Forgets all but the last bytes of an inode; 0 stands for all inodes.
    mutating func forget(_ inode: UInt64) {
        for key in older.keys where inode == 0 || inode == key {
            older[key] = older[key].map { Array($0.suffix(1)) }
        }
    }

    mutating func add(_ model: ModelFilesystem) {
        names.append(Names(model))
        contents.append(model.nodes.compactMapValues { $0.kind == .regular ? $0.bytes : nil })
    }

    /// Why the volume is in none of the states; nil where it is in one. Bytes of a file may be
    /// newer than its name tells, because they are changed in place, or older (`mayBeUnsettled`).
    func objection(to volume: Volume) throws(Errno) -> String? {
        let found = try Names(volume)
        guard let state = names.firstIndex(of: found) else {
            return "the names are of no state among \(names.count):\n\(found)\n"
                + "expected at first:\n\(names[0])\nor at last:\n\(names[names.count - 1])"
        }
        for place in found.places where place.kind == .regular {
            let bytes = try volume.contents(of: Inode(place.inode))
            let first = mayBeUnsettled ? 0 : state
            let candidates =
                (older[place.inode] ?? []) + contents[first...].compactMap { $0[place.inode] }
            guard Self.isMixture(bytes, of: candidates) else {
                return "inode \(place.inode) has bytes of no state after \(state): "
                    + "\(Self.summary(bytes)); it may have \(Set(candidates.map(Self.summary)))"
            }
        }
        return nil
    }

    private static func summary(_ bytes: [UInt8]) -> String {
        "\(bytes.count) bytes \(bytes.prefix(8))…\(bytes.suffix(8))"
    }

    private static func isMixture(_ bytes: [UInt8], of states: [[UInt8]]) -> Bool {
        if states.contains(bytes) { return true }
        let sizes = states.map(\.count)
        guard let least = sizes.min(), let most = sizes.max(), (least...most).contains(bytes.count)
        else { return false }
        return bytes.indices.allSatisfy { index in
            states.contains { (index < $0.count ? $0[index] : 0) == bytes[index] }
        }
    }
}

@Suite struct CrashTests {
    /// Dies somewhere in the first thousands of system calls.
    @Test(arguments: 0..<16)
    func killedVolumeIsAPrefixOfItsOperations(_ round: Int) async throws {
        let scratch = ScratchDirectory()
        let seed = testSeed() &+ UInt64(round)
        var random = SeededGenerator(seed: seed)
        let scenario = CrashScenario(
            seed: seed, directory: scratch.path, callsToDeath: random.below(3000))
        await #expect(processExitsWith: .signal(SIGKILL)) {
            [scenario = scenario as CrashScenario] in
            try scenario.runToDeath()
        }
        // Recovery is killed, too, and begins again.
        for _ in 0..<3 {
            let opening = CrashScenario(
                seed: seed, directory: scratch.path, callsToDeath: random.below(60))
            await #expect(processExitsWith: .signal(SIGKILL)) {
                [opening = opening as CrashScenario] in
                try opening.openToDeath()
            }
        }
        try check(scenario, scratch)
    }

    /// Dies at a moment of the clock, which may be inside SQLite.
    @Test(arguments: 0..<8)
    func volumeKilledAtAnyTimeIsAPrefixOfItsOperations(_ round: Int) async throws {
        let scratch = ScratchDirectory()
        let seed = testSeed() &+ 1000 &+ UInt64(round)
        var random = SeededGenerator(seed: seed)
        let scenario = CrashScenario(seed: seed, directory: scratch.path, callsToDeath: .max)
        let microseconds = UInt32(20_000 + random.below(600_000))
        await #expect(processExitsWith: .signal(SIGKILL)) {
            [scenario = scenario as CrashScenario, microseconds = microseconds as UInt32] in
            try Threads.startDetached(name: "killer") {
                usleep(microseconds)
                kill(getpid(), SIGKILL)
            }
            try scenario.runToDeath()
        }
        try check(scenario, scratch)
    }

    /// The n-th write, flush or rename of the state directory fails, once or from then on; then the
    /// process is killed. What was acknowledged is there.
    @Test(
        arguments: DiskFailure.Kind.allCases.flatMap { kind in
            [EIO, ENOSPC].flatMap { errno in
                [false, true].map { DiskFailure(kind: kind, errno: errno, isForGood: $0) }
            }
        }, 0..<3)
    func whatWasAcknowledgedOnAFailingDiskIsThereAfterTheEnd(
        _ failure: DiskFailure, _ round: Int
    ) async throws {
        let scratch = ScratchDirectory()
        let seed = testSeed() &+ 2000 &+ UInt64(round)
        var random = SeededGenerator(seed: seed)
        let scenario = CrashScenario(
            seed: seed, directory: scratch.path,
            callsToDeath: random.below(failure.kind == .rename ? 20 : 150), failure: failure)
        await #expect(processExitsWith: .signal(SIGKILL)) {
            [scenario = scenario as CrashScenario] in
            try scenario.runToDeath()
        }
        try check(scenario, scratch)
    }

    private func check(_ scenario: CrashScenario, _ scratch: ScratchDirectory) throws {
        let progress = (try? Progress(directory: scratch.path)) ?? Progress()
        let states = scenario.possibleStates(progress)
        let title = "REGISTRYFS_TEST_SEED=\(scenario.seed), \(progress)"
        let mismatch = try? String(
            contentsOfFile: CrashScenario.mismatchPath(scratch.path), encoding: .utf8)
        #expect(mismatch == nil, "\(title)")
        var volume = try scenario.open()
        let objection = try states.objection(to: volume)
        #expect(objection == nil, "\(title)")
        #expect(scenario.snapshotObjection(to: volume, progress) == nil, "\(title)")
        let names = try Names(volume)
        let cid = try volume.cid(of: .root)
        let expected = try independentRoot(of: .root, in: volume).cid
        #expect(cid == expected, "\(title)")
        try volume.close()

        // What recovery did, it does not do again.
        volume = try scenario.open()
        let namesAgain = try Names(volume)
        #expect(namesAgain == names, "\(title)")
        #expect(try states.objection(to: volume) == nil, "\(title)")
        #expect(scenario.snapshotObjection(to: volume, progress) == nil, "\(title)")
        for snapshot in volume.snapshots() { try volume.deleteSnapshot(named: snapshot.name) }
        let objects = try flatObjects(of: names, in: volume)
        try volume.close()
        #expect(try flatFiles(in: scratch) == objects, "no flat file is left over: \(title)")
    }

    private func flatObjects(of names: Names, in volume: Volume) throws -> Set<UInt64> {
        var objects: Set<UInt64> = []
        for place in names.places {
            if case .object(let id) = try volume.report(of: Inode(place.inode)).placement {
                objects.insert(id)
            }
        }
        return objects
    }
}

/// When a file of a state directory was last written; nil where there is none.
func modificationTime(of name: String, in scratch: ScratchDirectory) throws -> Date? {
    let path = scratch.state + "/" + name
    return try FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date
}

/// When the manifest's log was last written.
func redoLogTime(in scratch: ScratchDirectory) throws -> Date? {
    try modificationTime(of: "manifest.redo", in: scratch)
}

/// The numbers of the flat files in a state directory.
func flatFiles(in scratch: ScratchDirectory) throws -> Set<UInt64> {
    let objects = scratch.state + "/objects"
    var ids: Set<UInt64> = []
    for path in try FileManager.default.subpathsOfDirectory(atPath: objects) {
        let parts = path.split(separator: "/")
        if parts.count == 2, let id = UInt64(parts[1], radix: 16) { ids.insert(id) }
    }
    return ids
}

/// The DAG of a tree, built from what can be read of it.
func independentRoot(of inode: Inode, in volume: Volume) throws -> DAGRoot {
    switch try volume.attributes(of: inode).kind {
    case .regular:
        return volume.profile.root(of: try volume.contents(of: inode))
    case .symlink:
        return volume.profile.symlink(target: try volume.readSymlink(inode)).root
    default:
        var builder = DirectoryBuilder(profile: volume.profile)
        for entry in try volume.entries(of: inode) {
            guard [.regular, .directory, .symlink].contains(entry.kind) else { continue }
            let child = try independentRoot(of: Inode(entry.inode), in: volume)
            builder.add(name: entry.name.bytes, cid: child.cid, treeSize: child.treeSize)
        }
        return try builder.finish { (_, _) throws(Never) in }
    }
}
