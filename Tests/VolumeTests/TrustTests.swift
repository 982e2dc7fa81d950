import Base
import Checking
import Foundation
import Glibc
import InodeManifest
import MerkleDAG
import ObjectStore
import Testing
import Volume

import struct SystemPackage.Errno

/// A state directory in which another user may have a hand.
@Suite struct TrustTests {
    private static let files = [
        "lock", "manifest.redo", "manifest.sqlite", "manifest.sqlite-wal", "manifest.sqlite-shm",
        "manifest.sqlite-journal", "manifest.sqlite.reserve",
    ]
    private static let names = files + ["objects", "cache"]

    private func makeVolume(_ scratch: ScratchDirectory) throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.makeFile("file", content(seed: 1, count: 100_000))
        try volume.close()
    }

    /// Why neither a mount nor a check opens the directory; nil where they do.
    private func distrust(_ scratch: ScratchDirectory) throws -> Distrust? {
        func failure(_ body: () throws -> Void) -> Distrust? {
            do {
                try body()
                return nil
            } catch VolumeError.stateDirectory(.untrusted(_, let distrust)),
                CheckError.stateDirectory(.untrusted(_, let distrust))
            {
                return distrust
            } catch {
                Issue.record("\(error)")
                return nil
            }
        }
        let opening = failure { try openVolume(scratch, stillOptions).close() }
        let checking = failure {
            _ = try Check.run(stateDirectory: scratch.state, repair: true) { _, _ in }
        }
        #expect(opening == checking)
        return opening
    }

    @Test(arguments: names)
    func symlinkInAStateDirectoryIsRefusedAndItsTargetStays(_ name: String) throws {
        let scratch = ScratchDirectory()
        try makeVolume(scratch)
        let target = scratch.path + "/precious"
        try Data("precious".utf8).write(to: URL(fileURLWithPath: target))
        let path = scratch.state + "/" + name
        let aside = scratch.path + "/aside"
        let isThere = rename(path, aside) == 0
        #expect(symlink(target, path) == 0)
        guard case .kind(.symlink, _) = try distrust(scratch) else {
            Issue.record("\(name) was followed")
            return
        }
        #expect(try Data(contentsOf: URL(fileURLWithPath: target)) == Data("precious".utf8))
        unlink(path)
        if isThere { rename(aside, path) }
        #expect(try distrust(scratch) == nil, "nothing was changed")
    }

    @Test(arguments: ["lock", "manifest.redo"])
    func fifoInPlaceOfAFileHoldsNobodyUp(_ name: String) throws {
        let scratch = ScratchDirectory()
        try makeVolume(scratch)
        unlink(scratch.state + "/" + name)
        #expect(mkfifo(scratch.state + "/" + name, 0o600) == 0)
        #expect(try distrust(scratch) == .kind(.fifo, expected: .regular))
    }

    @Test(.enabled(if: geteuid() == 0), arguments: [""] + names)
    func whatBelongsToAnotherUserIsRefused(_ name: String) throws {
        let scratch = ScratchDirectory()
        try makeVolume(scratch)
        let path = scratch.state + "/" + name
        if access(path, F_OK) != 0 { close(open(path, O_RDWR | O_CREAT, 0o600)) }
        #expect(chown(path, 65_534, 65_534) == 0)
        #expect(try distrust(scratch) == .owner(65_534))
    }

    @Test(arguments: [""] + names)
    func whatEveryUserMayWriteIsRefused(_ name: String) throws {
        let scratch = ScratchDirectory()
        try makeVolume(scratch)
        let path = scratch.state + "/" + name
        if access(path, F_OK) != 0 { close(open(path, O_RDWR | O_CREAT, 0o600)) }
        #expect(chmod(path, 0o777) == 0)
        #expect(try distrust(scratch) == .writable)
        // Others may look, and the group is whom the owner chose.
        #expect(chmod(path, 0o775) == 0)
        guard name != "manifest.sqlite-journal", name != "manifest.sqlite-wal" else { return }
        #expect(try distrust(scratch) == nil)
    }

    @Test func flatFileThatIsASymlinkIsNotFollowed() throws {
        let scratch = ScratchDirectory()
        try makeVolume(scratch)
        let target = scratch.path + "/precious"
        try Data(count: 100_000).write(to: URL(fileURLWithPath: target))
        let id = try #require(try flatFiles(in: scratch).first)
        let digits = String(id, radix: 16)
        let name = String(repeating: "0", count: 16 - digits.count) + digits
        let flat = "\(scratch.state)/objects/\(name.prefix(13))/\(name)"
        #expect(unlink(flat) == 0)
        #expect(symlink(target, flat) == 0)
        let volume = try openVolume(scratch, stillOptions)
        let file = try volume.resolve(path: ["file"])
        #expect(throws: (any Error).self) { try volume.contents(of: file) }
        try volume.close()
        #expect(try Data(contentsOf: URL(fileURLWithPath: target)) == Data(count: 100_000))
    }

    @Test func stateDirectoryBehindASymlinkIsOpened() throws {
        let scratch = ScratchDirectory()
        try makeVolume(scratch)
        let link = scratch.path + "/link"
        #expect(symlink("state", link) == 0)
        let volume = try Volume.open(stateDirectory: link, options: stillOptions, log: quietLog)
        let file = try volume.resolve(path: ["file"])
        #expect(try volume.contents(of: file) == content(seed: 1, count: 100_000))
        try volume.close()
        let report = try Check.run(stateDirectory: link, repair: false) { _, _ in }
        #expect(report.isClean)
    }

    /// A child has a copy of every descriptor from its fork to its exec; a duplicate is the same to the
    /// kernel.
    @Test func openingThatFailsUnlocksForCopiesOfTheDescriptor() throws {
        let scratch = ScratchDirectory()
        try makeVolume(scratch)
        var options = stillOptions
        options.profile = .unixfsV0_2015
        var copy: Int32 = -1
        for _ in 0..<200 where copy < 0 {
            let copier = DescriptorCopier(of: scratch.state + "/lock")
            #expect(throws: VolumeError.self) {
                try Volume.open(stateDirectory: scratch.state, options: options, log: quietLog)
            }
            copy = copier.end()
        }
        try #require(copy >= 0, "no copy was made in time")
        defer { close(copy) }
        try openVolume(scratch, stillOptions).close()
    }
}

/// Duplicates a descriptor of a file as soon as this process has one.
private final class DescriptorCopier: Sendable {
    private struct State {
        var isEnding = false
        var copy: Int32 = -1
        var hasEnded = false
    }

    private let state = Monitor(State())

    init(of path: String) {
        let target = URL(fileURLWithPath: path).resolvingSymlinksInPath().path
        Thread.detachNewThread { [state] in
            while state.withLock({ !$0.isEnding && $0.copy < 0 }) {
                for name in (try? Sys.names(in: AT_FDCWD, path: "/proc/self/fd")) ?? [] {
                    guard let descriptor = Int32(name),
                        (try? FileManager.default.destinationOfSymbolicLink(
                            atPath: "/proc/self/fd/" + name)) == target
                    else { continue }
                    state.withLock { $0.copy = dup(descriptor) }
                    break
                }
            }
            state.withLock { $0.hasEnded = true }
            state.wakeAll()
        }
    }

    /// The copy; negative where there was none to be made.
    func end() -> Int32 {
        state.withLock { state in
            state.isEnding = true
            while !state.hasEnded { self.state.wait(&state) }
            return state.copy
        }
    }
}
