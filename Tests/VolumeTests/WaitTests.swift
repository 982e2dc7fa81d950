import Base
import Foundation
import KuboDouble
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// An operation on a thread of its own, and what came of it.
private final class Pending: Sendable {
    private let outcome = Monitor<Result<Void, any Error>?>(nil)

    init(_ body: @escaping @Sendable () throws -> Void) throws {
        try Threads.startDetached(name: "pending") { [outcome] in
            let result = Result { try body() }
            outcome.withLock { $0 = result }
        }
    }

    var hasEnded: Bool { outcome.withLock { $0 != nil } }

    /// The error that it ended with; nil for success. Fails where it does not end.
    func error() throws -> (any Error)? {
        try #require(eventually { hasEnded })
        if case .failure(let error) = outcome.withLock({ $0 }) { return error }
        return nil
    }
}

/// Takes the waits that are under way, to interrupt them.
private final class Waits: RemoteWaitObserver {
    private let waits = Monitor<[ObjectIdentifier: RemoteWait]>([:])

    func willWait(_ wait: RemoteWait) { waits.withLock { $0[ObjectIdentifier(wait)] = wait } }
    func didWait(_ wait: RemoteWait) { waits.withLock { $0[ObjectIdentifier(wait)] = nil } }

    var count: Int { waits.withLock { $0.count } }

    func interruptAll() { for wait in waits.withLock({ Array($0.values) }) { wait.interrupt() } }
}

/// A volume with content at a node that never answers from now on.
private final class StoppedNode {
    let stand: NodeStand
    let directory = ScratchDirectory()
    let volume: Volume
    let waits = Waits()
    let bytes = content(seed: 1, count: 3 << 20)
    private let registry = FakeRegistry()
    /// Files of the node whose content is not here.
    let source: Inode
    let written: Inode
    let folder: Inode
    let own: Inode

    init(usesBackingFiles: Bool) throws {
        stand = try NodeStand()
        try stand.put(try stand.add(bytes), at: "source")
        try stand.put(try stand.add(bytes.reversed()), at: "written")
        let options = stand.options { options in
            options.adoptsTree = true
            // Longer than any test waits for anything.
            options.fetch.fetchMilliseconds = 600_000
        }
        volume = try openVolume(directory, options)
        if usesBackingFiles { try volume.useBackingFiles(registry) }
        volume.observeWaits(waits)
        (source, written) = (try volume.inode("source"), try volume.inode("written"))
        folder = try volume.makeDirectory("folder", in: .root, mode: 0o755, caller: root).inode
        own = try volume.makeFile("own", in: folder, content(seed: 2, count: 100_000))
    }

    func stop() throws {
        try #require(stand.double).add(Fault(.hang, command: "block/get"))
    }

    func answerAgain() throws { try #require(stand.double).clearFaults() }
}

/// Operations that wait for a node, and those that must not wait with them.
@Suite(.timeLimit(.minutes(10)))
struct WaitTests {
    /// What anybody does while an operation on a file waits ends, and the operation waits still.
    private func expectOthersGoOn(
        _ stopped: StoppedNode, beside pending: Pending, on file: Inode, handle: HandleID
    ) throws {
        let volume = stopped.volume
        let (folder, own) = (stopped.folder, stopped.own)
        let opened = try volume.open(own, flags: .both, caller: root)
        let others: [(String, @Sendable () throws -> Void)] = [
            ("write to another file", { try volume.write(opened.handle, at: 5, [1, 2, 3]) }),
            ("status", { _ = (try volume.status(), try volume.remoteStatus()) }),
            ("sync", { try volume.synchronizeAll() }),
            ("fsync of another", { try volume.synchronize(opened.handle, dataOnly: false) }),
            ("fsync of the file", { try volume.synchronize(handle, dataOnly: false) }),
            ("stat", { _ = try volume.attributes(of: file) }),
            ("inspect", { _ = try volume.report(of: file) }),
            ("CID of the file", { _ = try volume.cid(of: file) }),
            ("CID of a folder", { _ = try volume.cid(of: folder) }),
            ("CID of the tree", { _ = try volume.cid(of: .root) }),
            (
                "rename elsewhere",
                { try volume.rename("own", in: folder, to: "other", in: .root, flags: []) }
            ),
            (
                "rename of the file",
                { try volume.rename("waited", in: .root, to: "waited", in: folder, flags: []) }
            ),
            (
                "rename over the file",
                { try volume.rename("other", in: .root, to: "waited", in: folder, flags: []) }
            ),
        ]
        for (name, body) in others {
            let other = try Pending(body)
            #expect(eventually { other.hasEnded }, "\(name) waits")
            if other.hasEnded { #expect(try other.error() == nil, "\(name)") }
        }
        #expect(!pending.hasEnded)
        volume.release(opened.handle)
    }

    private func copyFromRemote(_ stopped: StoppedNode) throws -> (Pending, Inode, HandleID) {
        let volume = stopped.volume
        let from = try volume.open(stopped.source, flags: .read, caller: root)
        let (made, to) = try volume.create(
            "waited", in: .root, mode: 0o644, flags: .both, caller: root)
        let pending = try Pending {
            // Not all of it, which would be shared.
            _ = try volume.copyRange(
                from: from.handle, at: 0, to: to.handle, at: 0, length: 2 << 20)
        }
        return (pending, made.inode, to.handle)
    }

    private func openToWrite(_ stopped: StoppedNode) throws -> (Pending, Inode, HandleID) {
        let (volume, inode) = (stopped.volume, stopped.written)
        try volume.rename("written", in: .root, to: "waited", in: .root, flags: [])
        let opened = try volume.open(inode, flags: .read, caller: root)
        let pending = try Pending { _ = try volume.open(inode, flags: .both, caller: root) }
        return (pending, inode, opened.handle)
    }

    private func writeToRemote(_ stopped: StoppedNode) throws -> (Pending, Inode, HandleID) {
        let volume = stopped.volume
        try volume.rename("written", in: .root, to: "waited", in: .root, flags: [])
        let opened = try volume.open(stopped.written, flags: .nonblocking, caller: root)
        let pending = try Pending { try volume.write(opened.handle, at: 5, [1, 2, 3]) }
        return (pending, stopped.written, opened.handle)
    }

    @Test(arguments: [true, false])
    func copyFromRemoteHoldsNobodyUp(_ usesBackingFiles: Bool) throws {
        let stopped = try StoppedNode(usesBackingFiles: usesBackingFiles)
        try stopped.stop()
        let (pending, file, handle) = try copyFromRemote(stopped)
        #expect(eventually { stopped.waits.count > 0 })
        try expectOthersGoOn(stopped, beside: pending, on: file, handle: handle)
        let closing = try Pending { [volume = stopped.volume] in try volume.close() }
        #expect(try closing.error() == nil)
        #expect(try pending.error() as? Errno == .interrupted)
        try expectClean(stopped.directory)
    }

    @Test(arguments: [true, false])
    func writeToRemoteHoldsNobodyUp(_ usesBackingFiles: Bool) throws {
        let stopped = try StoppedNode(usesBackingFiles: usesBackingFiles)
        try stopped.stop()
        let (pending, file, handle) = try writeToRemote(stopped)
        #expect(eventually { stopped.waits.count > 0 })
        try expectOthersGoOn(stopped, beside: pending, on: file, handle: handle)
        let closing = try Pending { [volume = stopped.volume] in try volume.close() }
        #expect(try closing.error() == nil)
        #expect(try pending.error() as? Errno == .interrupted)
        try expectClean(stopped.directory)
    }

    @Test(arguments: [true, false])
    func openToWriteRemoteHoldsNobodyUp(_ usesBackingFiles: Bool) throws {
        let stopped = try StoppedNode(usesBackingFiles: usesBackingFiles)
        try stopped.stop()
        let (pending, file, handle) = try openToWrite(stopped)
        #expect(eventually { stopped.waits.count > 0 })
        try expectOthersGoOn(stopped, beside: pending, on: file, handle: handle)
        let closing = try Pending { [volume = stopped.volume] in try volume.close() }
        #expect(try closing.error() == nil)
        #expect(try pending.error() as? Errno == .interrupted)
        try expectClean(stopped.directory)
    }

    /// What the node has lost can be cut and emptied all the same.
    @Test func aLostFileIsOpenedToBeWrittenAndEmptied() throws {
        let stopped = try StoppedNode(usesBackingFiles: true)
        let (volume, stand) = (stopped.volume, stopped.stand)
        for start in [0, 1 << 20, 2 << 20] {
            let leaf = Array(stopped.bytes.reversed()[start..<start + (1 << 20)])
            try stand.call("block/rm", "arg=\(CID.raw(sha256: leaf))&force=true")
        }
        let opened = try volume.open(stopped.written, flags: .both, caller: root)
        #expect(throws: Errno.ioError) { try volume.write(opened.handle, at: 5, [1]) }
        var change = AttributeChange()
        change.size = 0
        _ = try volume.setAttributes(of: stopped.written, change, handle: nil, caller: root)
        try volume.write(opened.handle, at: 0, [1, 2])
        volume.release(opened.handle)
        #expect(try volume.contents(of: stopped.written) == [1, 2])
        try volume.close()
        try expectClean(stopped.directory)
    }

    @Test func interruptEndsEachChangeThatWaitsAndNothingIsChanged() throws {
        let stopped = try StoppedNode(usesBackingFiles: true)
        let volume = stopped.volume
        try stopped.stop()
        let opened = try volume.open(stopped.written, flags: .nonblocking, caller: root)
        let (copy, made, to) = try copyFromRemote(stopped)
        let (inode, handle) = (stopped.written, opened.handle)
        var change = AttributeChange()
        change.size = 1 << 20
        let pending = [
            copy,
            try Pending { _ = try volume.open(inode, flags: .both, caller: root) },
            try Pending { try volume.write(handle, at: 5, [1, 2, 3]) },
            try Pending { try volume.allocate(handle, mode: 0, offset: 0, length: 4 << 20) },
            try Pending { [change] in
                _ = try volume.setAttributes(of: inode, change, handle: nil, caller: root)
            },
        ]
        #expect(eventually { stopped.waits.count == pending.count })
        #expect(pending.allSatisfy { !$0.hasEnded })
        // One of them that waited for another's fetch begins its own.
        #expect(
            eventually {
                stopped.waits.interruptAll()
                return pending.allSatisfy(\.hasEnded)
            })
        for one in pending { #expect(try one.error() as? Errno == .interrupted) }
        #expect(try volume.attributes(of: made).size == 0)
        #expect(try volume.attributes(of: inode).size == 3 << 20)
        try stopped.answerAgain()
        #expect(eventually { (try? volume.contents(of: inode)) == stopped.bytes.reversed() })
        volume.release(to)
        volume.release(handle)
        try volume.close()
        try expectClean(stopped.directory)
    }

    /// All that waited for the same content change it, one after the other.
    @Test func changesThatWaitForTheSameContentAreAllMade() throws {
        let stopped = try StoppedNode(usesBackingFiles: true)
        let volume = stopped.volume
        try stopped.stop()
        let handles = try (0..<6).map { _ in
            try volume.open(stopped.written, flags: .nonblocking, caller: root).handle
        }
        let pending = try handles.enumerated().map { number, handle in
            try Pending { try volume.write(handle, at: UInt64(number), [UInt8(number)]) }
        }
        #expect(eventually { stopped.waits.count == pending.count })
        try stopped.answerAgain()
        for one in pending { #expect(try one.error() == nil) }
        var expected = Array(stopped.bytes.reversed())
        for number in 0..<6 { expected[number] = UInt8(number) }
        #expect(try volume.contents(of: stopped.written) == expected)
        for handle in handles { volume.release(handle) }
        try volume.close()
        try expectClean(stopped.directory)
    }

    @Test(arguments: [true, false])
    func copiesBetweenRemoteFilesHaveTheRightBytes(_ usesBackingFiles: Bool) throws {
        let stopped = try StoppedNode(usesBackingFiles: usesBackingFiles)
        let volume = stopped.volume
        let from = try volume.open(stopped.source, flags: .read, caller: root)
        let to = try volume.open(stopped.written, flags: .both, caller: root)
        let offset: UInt64 = 1_500_000
        let count = try volume.copyRange(
            from: from.handle, at: 7, to: to.handle, at: offset, length: .max >> 1)
        #expect(count == UInt64(stopped.bytes.count - 7))
        let expected =
            Array(stopped.bytes.reversed()[..<Int(offset)]) + Array(stopped.bytes[7...])
        #expect(try volume.contents(of: stopped.written) == expected)
        // Within one file.
        let own = try volume.open(stopped.source, flags: .both, caller: root)
        #expect(
            try volume.copyRange(
                from: own.handle, at: 0, to: own.handle, at: 2 << 20, length: 1 << 20) == 1 << 20)
        #expect(
            try volume.contents(of: stopped.source)
                == Array(stopped.bytes[..<(2 << 20)]) + Array(stopped.bytes[..<(1 << 20)]))
        for handle in [from.handle, to.handle, own.handle] { volume.release(handle) }
        try volume.close()
        try expectClean(stopped.directory)
    }

    /// A lock that somebody holds for as long as he likes keeps `status` for a moment only.
    @Test func statusTellsWhatIsKnownWhileAFileIsBusy() throws {
        let refresh = FigureRefresh()
        let isHeld = Monitor(true)
        let begun = MonotonicClock.milliseconds
        @Sendable func work() {
            while isHeld.withLock({ $0 }) { Threads.sleep(milliseconds: 10) }
        }
        #expect(!refresh.run(work))
        // The next one has no reason to wait again.
        for _ in 0..<20 { #expect(!refresh.run(work)) }
        #expect(MonotonicClock.milliseconds - begun < 8 * FigureRefresh.waitMilliseconds)
        isHeld.withLock { $0 = false }
        #expect(eventually { refresh.run {} })
        refresh.stop()
        #expect(!refresh.run {})
    }

    /// The threads that look for blocks are shared out, and so is a block that several users wait for.
    @Test func aUserWithManyMissingBlocksLeavesFetchesToOthers() throws {
        let stand = try NodeStand(hasPeers: true)
        let (shared, other) = (content(seed: 1, count: 70_000), content(seed: 2, count: 70_000))
        var lost: [CID] = []
        for number in 0..<300 {
            lost.append(try stand.add(content(seed: UInt64(1000 + number), count: 20_000)))
            try stand.put(try #require(lost.last), at: "missing-\(number)")
        }
        for (name, bytes) in [("shared", shared), ("other", other)] {
            lost.append(try stand.add(bytes))
            try stand.put(try #require(lost.last), at: name)
        }
        let directory = ScratchDirectory()
        let volume = try openVolume(
            directory,
            stand.options { options in
                options.adoptsTree = true
                options.fetch.fetchMilliseconds = 600_000
            })
        let users = Users()
        volume.observeWaits(users)
        let missing = try (0..<300).map { try volume.inode(FileName("missing-\($0)")) }
        let found = (try volume.inode("shared"), try volume.inode("other"))
        for cid in lost { try stand.call("block/rm", "arg=\(cid)&force=true") }
        func read(_ inode: Inode, user: UInt32, _ expected: [UInt8]) throws -> Pending {
            try Pending {
                users.set(user)
                let found = try volume.contents(of: inode)
                #expect(found == expected)
            }
        }
        let waiting = try missing.map { try read($0, user: 1, []) }
        #expect(eventually { users.count == 300 })
        // The first to want it has a queue before it.
        let first = try read(found.0, user: 1, shared)
        #expect(eventually { users.count == 301 })
        let others = [try read(found.0, user: 2, shared), try read(found.1, user: 2, other)]
        #expect(eventually { users.count == 303 })
        _ = (try stand.add(shared), try stand.add(other))
        for one in others + [first] { #expect(try one.error() == nil) }
        #expect(waiting.allSatisfy { !$0.hasEnded })
        try volume.close()
        for one in waiting { #expect(try one.error() as? Errno == .interrupted) }
    }

    /// Parts that were to be fetched ahead of one that failed were taken for being fetched for ever.
    @Test func aPartBehindOneThatFailedIsFetched() throws {
        let stand = try NodeStand()
        let bytes = content(seed: 1, count: 8 << 20)
        try stand.put(try stand.add(bytes), at: "file")
        let lost = CID.raw(sha256: Array(bytes[(2 << 20)..<(3 << 20)]))
        try stand.call("block/rm", "arg=\(lost)&force=true")
        let directory = ScratchDirectory()
        let volume = try openVolume(
            directory,
            stand.options { options in
                options.adoptsTree = true
                options.fetch.fetchMilliseconds = 1_000
            })
        let handle = try volume.open(volume.inode("file"), flags: .read, caller: root).handle
        func part(_ number: Int) throws -> [UInt8] {
            try volume.read(handle, at: UInt64(number) << 20, count: 1 << 20)
        }
        for number in 0..<2 {
            #expect(try part(number) == Array(bytes[(number << 20)..<(number + 1) << 20]))
        }
        for _ in 0..<4 { #expect(throws: Errno.ioError) { try part(2) } }
        for number in 3..<8 {
            #expect(try part(number) == Array(bytes[(number << 20)..<(number + 1) << 20]))
        }
        volume.release(handle)
        try volume.close()
    }

    @Test func nobodyGetsMoreThanHalfOfWhatTheOthersLeave() {
        var shares = Shares<Int>()
        func takeAll(_ user: Int) -> Int {
            while shares.mayTake(user, of: 17) { shares.take(user) }
            return shares.count(of: user)
        }
        #expect((1...6).map(takeAll) == [9, 4, 2, 1, 1, 0])
        for _ in 0..<9 { shares.giveBack(1) }
        #expect(shares.total == 8)
        #expect(takeAll(6) == 5)
    }
}

extension OpenFlags {
    /// The first write fetches what is at the node.
    fileprivate static let nonblocking = OpenFlags(rawValue: O_RDWR | O_NONBLOCK)
}

/// Whose work each thread does, and how many wait.
private final class Users: RemoteWaitObserver {
    private struct State {
        var users: [pthread_t: UInt32] = [:]
        var waiting = 0
    }

    private let state = Monitor(State())

    func set(_ user: UInt32) { state.withLock { $0.users[pthread_self()] = user } }

    var user: UInt32? { state.withLock { $0.users[pthread_self()] } }

    var count: Int { state.withLock { $0.waiting } }

    func willWait(_ wait: RemoteWait) { state.withLock { $0.waiting += 1 } }
    func didWait(_ wait: RemoteWait) { state.withLock { $0.waiting -= 1 } }
}
