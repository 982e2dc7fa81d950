import Base
import Glibc
import Multiformats
import ReadSocket
import Serving
import Testing

import struct SystemPackage.Errno

/// What happens when one side is away, slow, or of another version.
@Suite struct LifeTests {
    @Test func aDaemonThatGoesAndComesBackIsFoundAgain() throws {
        let stand = try Stand()
        for _ in 0..<3 {
            #expect(stand.isWell)
            stand.stopServer()
            #expect(fault { () throws(ServeFault) in try stand.client.root() } == .unavailable)
            #expect(fault { () throws(ServeFault) in try stand.client.root() } == .unavailable)
            try stand.startServer()
        }
        #expect(stand.isWell)
    }

    @Test func aRestartBetweenTwoRequestsIsNotNoticed() throws {
        let stand = try Stand()
        #expect(stand.isWell)
        stand.stopServer()
        try stand.startServer()
        #expect(stand.isWell)
    }

    @Test func whereNobodyHasListenedYetTheDaemonIsAway() throws {
        let directory = try TemporaryDirectory()
        #expect(throws: Errno.noSuchFileOrDirectory) {
            _ = try ReadPlace.open(stateDirectory: directory.path)
        }
        _ = try ReadPlace.make(stateDirectory: directory.path)
        let client = try ReadClient(
            directory: try ReadPlace.open(stateDirectory: directory.path), owner: geteuid(),
            log: quiet)
        defer { client.close() }
        #expect(fault { () throws(ServeFault) in try client.root() } == .unavailable)
        #expect(
            fault { () throws(ServeFault) in try client.wholeFile(cid(1), scope: .any) }
                == .unavailable)
    }

    @Test func theSocketsDirectoryLetsThroughWhoHasItsDescriptor() throws {
        let stand = try Stand()
        let status = try Sys.status(of: stand.directory.path + "/serve", in: AT_FDCWD)
        #expect(status.mode & 0o7777 == 0o711)
        let socket = try Sys.status(of: stand.directory.path + "/serve/read.sock", in: AT_FDCWD)
        #expect(socket.mode & 0o7777 == 0o666)
        let before = try ReadPlace.open(stateDirectory: stand.directory.path)
        let inode = "/proc/self/fd/\(before.raw)/read.sock"
        stand.stopServer()
        #expect(access(inode, F_OK) != 0)
        try stand.startServer()
        // It is the same directory, so what was opened before leads to the new socket.
        #expect(access(inode, F_OK) == 0)
    }

    @Test func aStopEndsAllLoansAndConnections() throws {
        let stand = try Stand()
        let path = try stand.directory.file("flat", pattern(100_000))
        stand.content.change { $0.blocks[cid(1)] = .file(path, offset: 0, count: 100_000) }
        let place = try stand.client.block(cid(1), scope: .any, reach: .here)
        let (channel, _) = try stand.greet()
        stand.stopServer()
        #expect(stand.content.now.endedCount == 1)
        #expect(ends(channel))
        #expect(place.count == 100_000)
    }

    @Test func whatTakesTooLongTimesOut() throws {
        var bounds = ReadClientBounds()
        bounds.requestMilliseconds = 200
        let stand = try Stand(client: bounds)
        let semaphore = Base.Semaphore()
        stand.content.change { state in
            state.blocks[cid(1)] = .wait(semaphore)
            state.wholeFiles[cid(1)] = .wait(semaphore)
        }
        #expect(
            fault { () throws(ServeFault) in
                try stand.client.block(cid(1), scope: .any, reach: .here)
            } == .timedOut)
        #expect(
            fault { () throws(ServeFault) in try stand.client.wholeFile(cid(1), scope: .any) }
                == .timedOut)
        semaphore.signal()
        semaphore.signal()
        #expect(eventually { stand.isWell })
        #expect(eventually { stand.client.loanCount == 0 })
    }

    @Test func aDaemonThatAcceptsNobodyTimesOut() throws {
        let directory = try TemporaryDirectory()
        let place = try ReadPlace.make(stateDirectory: directory.path)
        let name = ReadProtocol.socketName
        let listener = try UnixSocket.listen(
            at: UnixSocket.Place(name, in: place.raw), named: name, in: place.raw, mode: 0o600,
            backlog: 1)
        var bounds = ReadClientBounds()
        bounds.requestMilliseconds = 200
        let client = try ReadClient(
            directory: try ReadPlace.open(stateDirectory: directory.path), owner: geteuid(),
            log: quiet, bounds: bounds)
        defer { client.close() }
        #expect(fault { () throws(ServeFault) in try client.root() } == .timedOut)
        // Once as many wait as there may be, nobody gets as far as to wait for an answer.
        var waiting: [FrameChannel] = []
        #expect(throws: Errno.wouldBlock) {
            for _ in 0..<10 { waiting.append(try connectRaw(to: directory.path)) }
        }
        #expect(fault { () throws(ServeFault) in try client.root() } == .timedOut)
        withExtendedLifetime((listener.raw, waiting)) {}
    }

    @Test func aLoanThatCameTooLateIsGivenBack() throws {
        var bounds = ReadClientBounds()
        bounds.requestMilliseconds = 500
        let stand = try Stand(client: bounds)
        // So that the request is sent at once.
        #expect(stand.isWell)
        let path = try stand.directory.file("flat", pattern(100_000))
        let semaphore = Base.Semaphore()
        stand.content.change { $0.blocks[cid(1)] = .waitForFile(semaphore, path, count: 100_000) }
        #expect(
            fault { () throws(ServeFault) in
                try stand.client.block(cid(1), scope: .any, reach: .here)
            } == .timedOut)
        semaphore.signal()
        #expect(eventually { stand.content.now.endedCount == 1 })
        #expect(eventually { stand.loanCount == 0 && stand.directory.openCount("flat") == 0 })
    }

    @Test func whoFindsNoConnectionFreeTimesOut() throws {
        var bounds = ReadClientBounds()
        bounds.requestMilliseconds = 500
        bounds.connectionCountMax = 1
        let stand = try Stand(client: bounds)
        let semaphore = Base.Semaphore()
        stand.content.change { $0.blocks[cid(1)] = .wait(semaphore) }
        let faults = Monitor<[ServeFault?]>([])
        try onThreads(3) { _ in
            let fault = fault { () throws(ServeFault) in
                try stand.client.block(cid(1), scope: .any, reach: .here)
            }
            faults.withLock { $0.append(fault) }
        }
        #expect(faults.withLock { $0 } == [.timedOut, .timedOut, .timedOut])
        for _ in 0..<3 { semaphore.signal() }
        #expect(eventually { stand.isWell })
    }

    @Test func moreConnectionsThanThereMayBeAreRefused() throws {
        var bounds = ReadServerBounds()
        bounds.connectionCountMax = 1
        let stand = try Stand(server: bounds)
        let (channel, _) = try stand.greet()
        #expect(fault { () throws(ServeFault) in try stand.client.root() } == .unavailable)
        channel.shutDown()
        #expect(eventually { stand.connectionCount == 0 })
        let (_, session) = try stand.greet()
        #expect(session != .none)
    }

    @Test func whoSendsTooSlowlyLosesTheConnection() throws {
        var bounds = ReadServerBounds()
        bounds.receiveMilliseconds = 500
        let stand = try Stand(server: bounds)
        let silent = try stand.connect()
        #expect(ends(silent))
        let (channel, _) = try stand.greet()
        try channel.send([1, 2, 3], by: Deadline(milliseconds: patience))
        #expect(ends(channel))
        #expect(stand.isWell)
    }

    @Test func whoDoesNotTakeAnAnswerLosesTheConnection() throws {
        var bounds = ReadServerBounds()
        bounds.sendMilliseconds = 100
        let stand = try Stand(server: bounds)
        stand.content.change { $0.blocks[cid(1)] = .bytes(pattern(2 << 20)) }
        let (channel, _) = try stand.greet()
        let request = try #require(ReadRequest.block(cid(1), .any, .here, loan: 0).frame)
        try channel.send(request, by: Deadline(milliseconds: patience))
        #expect(eventually { stand.connectionCount == 0 })
        #expect(stand.isWell)
        withExtendedLifetime(channel) {}
    }

    @Test func whoIsIdleKeepsTheConnection() throws {
        var bounds = ReadServerBounds()
        bounds.receiveMilliseconds = 50
        let stand = try Stand(server: bounds)
        let (channel, _) = try stand.greet()
        Threads.sleep(milliseconds: 200)
        #expect(try ask(.has(cid(1), .any), channel).answer == .truth(false))
    }

    @Test func aClientOfAnotherVersionIsToldSo() throws {
        let stand = try Stand()
        let channel = try stand.connect()
        let (answer, _) = try ask(.hello(Hello(version: 9, session: .none)), channel)
        #expect(answer == .hello(Hello(version: ReadProtocol.version, session: .none)))
        #expect(ends(channel))
    }

    @Test func noDescriptorStaysWhereClientsComeAndGo() throws {
        let stand = try Stand()
        let path = try stand.directory.file("flat", pattern(100_000))
        stand.content.change { $0.blocks[cid(1)] = .file(path, offset: 0, count: 100_000) }
        for _ in 0..<20 {
            let client = try ReadClient(
                directory: try ReadPlace.open(stateDirectory: stand.directory.path),
                owner: geteuid(), log: quiet)
            for _ in 0..<5 {
                #expect(
                    try client.block(cid(1), scope: .any, reach: .here).count == 100_000)
            }
            client.close()
        }
        #expect(eventually { stand.directory.openCount("flat") == 0 })
        #expect(eventually { stand.connectionCount == 0 && stand.loanCount == 0 })
        // Of the server, and of the stand's own client.
        #expect(eventually { stand.directory.openCount("serve") == 2 })
    }

    /// Root is always trusted, so root sees nothing here.
    @Test(.enabled(if: geteuid() != 0)) func whoListensInPlaceOfTheDaemonIsNotBelieved() throws {
        let stand = try Stand()
        let client = try ReadClient(
            directory: try ReadPlace.open(stateDirectory: stand.directory.path),
            owner: geteuid() + 1, log: quiet)
        defer { client.close() }
        let fault = fault { () throws(ServeFault) in try client.root() }
        guard case .failed = fault else {
            Issue.record("\(String(describing: fault))")
            return
        }
    }
}
