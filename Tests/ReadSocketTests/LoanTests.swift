import Base
import Multiformats
import ReadSocket
import Serving
import Testing

/// Files that are lent, and when they are given back.
@Suite struct LoanTests {
    private func lend(_ count: Int, in stand: Stand) throws {
        let path = try stand.directory.file("flat", pattern(3 << 20))
        stand.content.change { state in
            for number in 0..<count {
                state.blocks[cid(number)] = .file(
                    path, offset: UInt64(number), count: 100_000)
            }
            state.wholeFiles[cid(0)] = .file(path, offset: 0, count: 3 << 20)
        }
    }

    @Test func aLoanLastsUntilTheLastLetsGoOfIt() throws {
        let stand = try Stand()
        try lend(1, in: stand)
        var place: BytesPlace? = try stand.client.block(cid(0), scope: .any, reach: .here)
        var other = place
        #expect(stand.loanCount == 1)
        place = nil
        #expect(stand.isWell)
        #expect(stand.content.now.endedCount == 0)
        #expect(try other?.read().count == 100_000)
        other = nil
        #expect(eventually { stand.content.now.endedCount == 1 })
        #expect(stand.loanCount == 0)
        #expect(place == nil && other == nil)
    }

    @Test func manyRequestsForOneFileAskTheDaemonOnce() throws {
        let stand = try Stand()
        try lend(1, in: stand)
        let wrongCount = Monitor(0)
        try onThreads(16) { _ in
            for _ in 0..<20 {
                let place = try? stand.client.wholeFile(cid(0), scope: .tree)
                if place?.count != 3 << 20 { wrongCount.withLock { $0 += 1 } }
            }
        }
        #expect(wrongCount.withLock { $0 } == 0)
        #expect(stand.content.now.askedCount == 1)
        #expect(stand.loanCount == 1)
    }

    @Test func aProcessLendsNoMoreThanAQuarterOfItsDescriptors() {
        var bounds = ReadServerBounds()
        let (all, ofSession) = (bounds.loanCountMax, bounds.sessionLoanCountMax)
        bounds.leaveDescriptors(of: .max)
        #expect(bounds.loanCountMax == all && bounds.sessionLoanCountMax == ofSession)
        bounds.leaveDescriptors(of: 1_024)
        #expect(bounds.loanCountMax == 256 && bounds.sessionLoanCountMax == 256)
    }

    @Test func scopesAreAskedForApart() throws {
        let stand = try Stand()
        try lend(1, in: stand)
        _ = try stand.client.wholeFile(cid(0), scope: .tree)
        _ = try stand.client.wholeFile(cid(0), scope: .any)
        #expect(stand.content.now.askedCount == 2)
    }

    @Test func whatIsNoWholeFileIsAskedForAgain() throws {
        let stand = try Stand()
        #expect(try stand.client.wholeFile(cid(0), scope: .tree) == nil)
        try lend(1, in: stand)
        #expect(try stand.client.wholeFile(cid(0), scope: .tree)?.count == 3 << 20)
    }

    @Test func fewWholeFilesAreKept() throws {
        let stand = try Stand()
        let path = try stand.directory.file("flat", pattern(100_000))
        stand.content.change { state in
            for number in 0..<200 {
                state.wholeFiles[cid(number)] = .file(path, offset: 0, count: 100_000)
            }
        }
        for number in 0..<200 { _ = try stand.client.wholeFile(cid(number), scope: .tree) }
        #expect(eventually { stand.loanCount == 64 })
        #expect(eventually { stand.content.now.endedCount == 136 })
    }

    @Test func aWholeFileThatNobodyUsesIsGivenBack() throws {
        var bounds = ReadClientBounds()
        bounds.wholeFileUnusedMilliseconds = 0
        let stand = try Stand(client: bounds)
        try lend(1, in: stand)
        #expect(try stand.client.wholeFile(cid(0), scope: .tree)?.count == 3 << 20)
        #expect(eventually { stand.content.now.endedCount == 1 })
        #expect(stand.loanCount == 0)
    }

    @Test func aWholeFileThatIsOldIsAskedForAgain() throws {
        var bounds = ReadClientBounds()
        bounds.wholeFileAgeMilliseconds = 0
        let stand = try Stand(client: bounds)
        try lend(1, in: stand)
        _ = try stand.client.wholeFile(cid(0), scope: .tree)
        _ = try stand.client.wholeFile(cid(0), scope: .tree)
        #expect(stand.content.now.askedCount == 2)
    }

    @Test func aWholeFileOfADaemonThatIsGoneIsNotKept() throws {
        let stand = try Stand()
        try lend(1, in: stand)
        _ = try stand.client.wholeFile(cid(0), scope: .tree)
        stand.stopServer()
        // What was lent is no longer pinned.
        #expect(
            eventually {
                fault { () throws(ServeFault) in
                    try stand.client.wholeFile(cid(0), scope: .tree)
                } == .unavailable
            })
    }

    @Test func aClientThatClosesGivesAllBack() throws {
        let stand = try Stand()
        try lend(3, in: stand)
        let places = try (0..<3).map {
            try stand.client.block(cid($0), scope: .any, reach: .here)
        }
        _ = try stand.client.wholeFile(cid(0), scope: .any)
        #expect(stand.loanCount == 4)
        stand.client.close()
        #expect(eventually { stand.loanCount == 0 && stand.connectionCount == 0 })
        #expect(eventually { stand.content.now.endedCount == 4 })
        // What a client holds can be read all the same.
        #expect(try places[1].read().count == 100_000)
        #expect(
            fault { () throws(ServeFault) in try stand.client.root() } == .unavailable)
    }

    @Test func aClientThatDiesGivesAllBack() throws {
        let stand = try Stand()
        try lend(3, in: stand)
        do {
            let (channel, session) = try stand.greet()
            let (second, same) = try stand.greet(session: session)
            #expect(same == session)
            for number in 0..<3 {
                let (answer, frame) = try ask(
                    .block(cid(number), .any, .here, loan: UInt64(number) + 1),
                    number == 0 ? second : channel)
                #expect(answer == .range(offset: UInt64(number), count: 100_000))
                #expect(frame.hasDescriptors(1))
            }
            #expect(stand.loanCount == 3)
            second.shutDown()
            #expect(eventually { stand.connectionCount == 1 })
            // Loans outlive the connection that they came by.
            #expect(stand.loanCount == 3)
            channel.shutDown()
        }
        #expect(eventually { stand.content.now.endedCount == 3 })
        #expect(stand.loanCount == 0)
        #expect(eventually { stand.directory.openCount("flat") == 0 })
    }

    @Test func beyondTheDaemonsBoundBytesComeOrNothing() throws {
        var bounds = ReadServerBounds()
        bounds.sessionLoanCountMax = 2
        let stand = try Stand(server: bounds)
        try lend(3, in: stand)
        let places = try (0..<3).map {
            try stand.client.block(cid($0), scope: .any, reach: .here)
        }
        #expect(stand.loanCount == 2)
        guard case .file = places[1], case .bytes(let bytes) = places[2] else {
            Issue.record("\(places)")
            return
        }
        #expect(bytes == Array(pattern(3 << 20)[2..<100_002]))
        // While the others are held.
        let whole = try withExtendedLifetime(places) {
            try stand.client.wholeFile(cid(0), scope: .any)
        }
        #expect(whole == nil)
        // A session of its own has its own bound.
        let (channel, _) = try stand.greet()
        let (answer, _) = try ask(.block(cid(0), .any, .here, loan: 1), channel)
        #expect(answer == .range(offset: 0, count: 100_000))
    }

    @Test func beyondTheBoundOfAllSessionsBytesCome() throws {
        var bounds = ReadServerBounds()
        bounds.loanCountMax = 1
        let stand = try Stand(server: bounds)
        try lend(2, in: stand)
        let place = try stand.client.block(cid(0), scope: .any, reach: .here)
        let (channel, _) = try stand.greet()
        let (answer, _) = try ask(.block(cid(1), .any, .here, loan: 1), channel)
        #expect(answer == .bytes(Array(pattern(3 << 20)[1..<100_001])))
        #expect(place.count == 100_000)
    }

    @Test func beyondTheClientsBoundBytesCome() throws {
        var bounds = ReadClientBounds()
        bounds.loanCountMax = 1
        let stand = try Stand(client: bounds)
        try lend(2, in: stand)
        var first: BytesPlace? = try stand.client.block(cid(0), scope: .any, reach: .here)
        guard case .bytes = try stand.client.block(cid(1), scope: .any, reach: .here) else {
            Issue.record("no bytes")
            return
        }
        #expect(first?.count == 100_000)
        first = nil
        #expect(eventually { stand.client.loanCount == 0 })
        guard case .file = try stand.client.block(cid(1), scope: .any, reach: .here) else {
            Issue.record("no file")
            return
        }
    }

    @Test func endsOfLoansThatAreNoneArePassedOver() throws {
        let stand = try Stand()
        try lend(1, in: stand)
        let (channel, _) = try stand.greet()
        _ = try ask(.block(cid(0), .any, .here, loan: 5), channel)
        let ends = try #require(ReadRequest.endOfLoans([4, 6, .max]).frame)
        try channel.send(ends, by: Deadline(milliseconds: patience))
        // An answer comes after what was sent before.
        _ = try ask(.has(cid(0), .any), channel)
        #expect(stand.loanCount == 1)
        let end = try #require(ReadRequest.endOfLoans([5, 5]).frame)
        try channel.send(end, by: Deadline(milliseconds: patience))
        _ = try ask(.has(cid(0), .any), channel)
        #expect(stand.loanCount == 0)
        #expect(stand.content.now.endedCount == 1)
    }

    @Test func aSessionThatIsNoneCannotBeJoined() throws {
        let stand = try Stand()
        let (channel, session) = try stand.greet(session: .random())
        #expect(session == .none)
        #expect(ends(channel))
        let (_, begun) = try stand.greet()
        #expect(begun != .none)
    }
}
