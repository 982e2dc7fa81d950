import Base
import Glibc
import Multiformats
import ReadSocket
import Serving
import Testing

/// Requests of a client to a server, and back.
@Suite struct RoundTripTests {
    @Test func theRootIsWhatTheContentSays() throws {
        let stand = try Stand()
        stand.content.change { $0.root = .success(cid(5)) }
        #expect(try stand.client.root() == cid(5))
    }

    @Test(arguments: ProtocolTests.faults) func everyFaultArrivesAsItself(_ wanted: ServeFault)
        throws
    {
        let stand = try Stand()
        stand.content.change { state in
            state.root = .failure(wanted)
            state.blocks[cid(1)] = .fault(wanted)
            state.wholeFiles[cid(1)] = .fault(wanted)
        }
        #expect(fault { () throws(ServeFault) in try stand.client.root() } == wanted)
        #expect(
            fault { () throws(ServeFault) in
                try stand.client.block(cid(1), scope: .tree, reach: .here)
            } == wanted)
        #expect(
            fault { () throws(ServeFault) in try stand.client.wholeFile(cid(1), scope: .tree) }
                == wanted)
    }

    @Test func entriesOfEveryKindArrive() throws {
        let stand = try Stand()
        let entries: [ServedEntry] = [
            .file(cid(1), size: 1 << 40), .directory, .symlink(target: [0xff, 0x2f]),
        ]
        stand.content.change { state in
            for (number, entry) in entries.enumerated() {
                state.entries[[bytes("a"), [UInt8(number)]]] = entry
            }
        }
        let tree = stand.client.tree
        for (number, entry) in entries.enumerated() {
            #expect(try tree.entry(at: [bytes("a"), [UInt8(number)]]) == entry)
        }
        #expect(try tree.entry(at: [bytes("a")]) == nil)
        #expect(try tree.entry(at: []) == nil)
    }

    @Test func aPathThatIsTooLongIsAFaultOfItsOwn() throws {
        let stand = try Stand()
        let fault = fault { () throws(ServeFault) in
            try stand.client.tree.entry(at: [pattern(70_000)])
        }
        guard case .tooLarge = fault else {
            Issue.record("\(String(describing: fault))")
            return
        }
        #expect(stand.isWell)
    }

    @Test func listingsArriveWholeHoweverManyNames() throws {
        let stand = try Stand()
        let many = (0..<30_000).map {
            ServedName(name: bytes("a name that has number \($0)"), mayBeDirectory: $0 % 3 == 0)
        }
        stand.content.change { state in
            state.listings[[]] = []
            state.listings[[bytes("many")]] = many
        }
        #expect(try stand.client.tree.names(at: []) == [])
        #expect(try stand.client.tree.names(at: [bytes("many")]) == many)
        #expect(try stand.client.tree.names(at: [bytes("none")]) == nil)
    }

    @Test func aListingBeyondTheBoundIsTooLarge() throws {
        let stand = try Stand()
        let name = ServedName(name: [], mayBeDirectory: false)
        stand.content.change {
            $0.listings[[]] = Array(repeating: name, count: ServedNames.countMax + 1)
        }
        let fault = fault { () throws(ServeFault) in try stand.client.tree.names(at: []) }
        guard case .tooLarge = fault else {
            Issue.record("\(String(describing: fault))")
            return
        }
    }

    @Test func blocksArriveWithTheirScopeAndReach() throws {
        let stand = try Stand()
        stand.content.change { $0.blocks[cid(1)] = .bytes(pattern(2 << 20)) }
        for scope in [BlockScope.tree, .any] {
            for reach in [BlockReach.here, .everywhere] {
                let place = try stand.client.block(cid(1), scope: scope, reach: reach)
                #expect(try place.read() == pattern(2 << 20))
            }
        }
        #expect(stand.content.now.scopes == [.tree, .tree, .any, .any])
        // What is here is not asked for elsewhere.
        #expect(stand.content.now.reaches == [.here, .here, .here, .here])
        #expect(try stand.client.has(cid(1), scope: .tree))
        #expect(try !stand.client.has(cid(2), scope: .tree))
    }

    @Test func onlyWhatIsNotHereIsAskedForElsewhere() throws {
        let stand = try Stand()
        stand.content.change { state in
            state.blocks = [
                cid(1): .bytes([1]), cid(2): .bytes([2]), cid(3): .fault(.damaged(cid(3))),
            ]
            state.elsewhere = [cid(2)]
        }
        #expect(try stand.client.block(cid(2), scope: .any, reach: .everywhere).read() == [2])
        #expect(stand.content.now.reaches == [.here, .everywhere])
        let here = fault { () throws(ServeFault) in
            try stand.client.block(cid(2), scope: .any, reach: .here)
        }
        #expect(here == .notFound)
        #expect(stand.content.now.reaches == [.here, .everywhere, .here])
        // What is damaged here may be whole elsewhere.
        let damaged = fault { () throws(ServeFault) in
            try stand.client.block(cid(3), scope: .any, reach: .everywhere)
        }
        #expect(damaged == .damaged(cid(3)))
        #expect(stand.content.now.reaches.suffix(2) == [.here, .everywhere])
    }

    @Test func bytesBeyondTheBoundAreNoBlockAndNoWholeFile() throws {
        let stand = try Stand()
        stand.content.change { state in
            state.blocks[cid(1)] = .bytes(pattern(2 << 20) + [0])
            state.wholeFiles[cid(1)] = .bytes(pattern(2 << 20) + [0])
        }
        let fault = fault { () throws(ServeFault) in
            try stand.client.block(cid(1), scope: .tree, reach: .here)
        }
        guard case .tooLarge = fault else {
            Issue.record("\(String(describing: fault))")
            return
        }
        #expect(try stand.client.wholeFile(cid(1), scope: .tree) == nil)
    }

    @Test func aLargeRangeIsAReadOnlyDescriptorWithTheRightBytes() throws {
        let stand = try Stand()
        let content = pattern(300_000)
        let path = try stand.directory.file("flat", content)
        stand.content.change {
            $0.blocks[cid(1)] = .file(path, offset: 1000, count: 250_000)
        }
        let place = try stand.client.block(cid(1), scope: .tree, reach: .here)
        guard case .file(let range) = place else {
            Issue.record("no file")
            return
        }
        #expect(range.offset == 1000)
        #expect(range.count == 250_000)
        #expect(try Sys.isReadOnly(range.file.raw))
        #expect(write(range.file.raw, "x", 1) == -1)
        #expect(fcntl(range.file.raw, F_GETFD) & FD_CLOEXEC != 0)
        #expect(try place.read() == Array(content[1000..<251_000]))
    }

    @Test func aSmallRangeComesAsBytes() throws {
        let stand = try Stand()
        let path = try stand.directory.file("flat", pattern(300_000))
        stand.content.change { $0.blocks[cid(1)] = .file(path, offset: 7, count: 100) }
        let place = try stand.client.block(cid(1), scope: .tree, reach: .here)
        guard case .bytes(let bytes) = place else {
            Issue.record("no bytes")
            return
        }
        #expect(bytes == Array(pattern(300_000)[7..<107]))
        #expect(eventually { stand.content.now.endedCount == 1 })
    }

    @Test func whatCanBeWrittenNeverLeavesTheDaemon() throws {
        let stand = try Stand()
        let path = try stand.directory.file("flat", pattern(100_000))
        stand.content.change {
            $0.wholeFiles[cid(1)] = .file(path, offset: 0, count: 100_000, flags: O_RDWR)
        }
        let fault = fault { () throws(ServeFault) in
            try stand.client.wholeFile(cid(1), scope: .tree)
        }
        guard case .failed = fault else {
            Issue.record("\(String(describing: fault))")
            return
        }
        #expect(eventually { stand.directory.openCount("flat") == 0 })
        #expect(stand.isWell)
    }

    @Test func aRangeThatIsNotInTheFileNeverLeavesTheDaemon() throws {
        let stand = try Stand()
        let path = try stand.directory.file("flat", pattern(100_000))
        let ranges: [(UInt64, UInt64)] = [(2, 99_999), (.max, 20_000), (20_000, .max)]
        stand.content.change { state in
            for (number, (offset, count)) in ranges.enumerated() {
                state.blocks[cid(number)] = .file(path, offset: offset, count: count)
            }
        }
        for number in 0..<3 {
            let fault = fault { () throws(ServeFault) in
                try stand.client.block(cid(number), scope: .tree, reach: .here)
            }
            guard case .failed = fault else {
                Issue.record("\(number): \(String(describing: fault))")
                continue
            }
        }
        #expect(stand.isWell)
    }

    @Test func whatIsExpectedIsTold() throws {
        let stand = try Stand()
        // The first request begins the session.
        #expect(stand.isWell)
        stand.client.expect([cid(1), cid(2)])
        #expect(eventually { stand.content.now.expected == [cid(1), cid(2)] })
    }

    @Test func aThousandRequestsByManyThreadsAreAnsweredRight() throws {
        let stand = try Stand()
        let content = pattern(1 << 20)
        let path = try stand.directory.file("flat", content)
        stand.content.change { state in
            for number in 0..<100 {
                state.blocks[cid(number)] = .file(
                    path, offset: UInt64(number * 1000), count: UInt64(100 + number * 1000))
            }
        }
        let wrongCount = Monitor(0)
        try onThreads(32) { thread in
            for round in 0..<32 {
                let number = (thread * 37 + round * 11) % 100
                let place = try? stand.client.block(cid(number), scope: .any, reach: .here)
                let start = number * 1000
                let wanted = Array(content[start..<start + 100 + number * 1000])
                if (try? place?.read()) != wanted { wrongCount.withLock { $0 += 1 } }
            }
        }
        #expect(wrongCount.withLock { $0 } == 0)
        #expect(stand.content.now.askedCount == 1024)
        #expect(eventually { stand.loanCount == 0 && stand.client.loanCount == 0 })
        #expect(eventually { stand.content.now.endedCount == 1024 })
        #expect(eventually { stand.directory.openCount("flat") == 0 })
    }
}
