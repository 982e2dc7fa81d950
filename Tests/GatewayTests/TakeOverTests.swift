import Base
import Gateway
import HTTPScript
import KuboDouble
import Multiformats
import Remotes
import Testing

/// Two gateways, one of which does not do what it should: the other one takes over, whatever it is that goes wrong.
@Suite(.timeLimit(.minutes(10)))
struct TakeOverTests {
    private let blocks = (0..<6).map { rawBlock($0, byteCount: 3_000) }

    /// Has every block looked for, with and without a search.
    private func expectAll(of set: SourceSet) throws {
        for asksPeers in [false, true] {
            for (cid, bytes) in blocks {
                #expect(try set.get(cid, asksPeers: asksPeers) == bytes)
            }
        }
    }

    /// - Parameter hedges: whether the second one is asked as well where the first does not answer. Without, what the
    ///   first one answers is always waited for.
    private func makeSet(_ urls: [String], hedges: Bool) throws -> SourceSet {
        var options = SourceSet.Options()
        options.hedgeMilliseconds = hedges ? 10...50 : 100_000...200_000
        // On a slow machine one that was away rests for longer than a request would wait for it.
        options.restMillisecondsMax = 60_000
        return SourceSet(try urls.map { .init(try makeGateway($0), .gateway) }, options: options)
    }

    @Test(arguments: RecordedAnswer.allCases)
    func theOtherTakesOverWhateverTheFirstAnswers(_ answer: RecordedAnswer) throws {
        let byText = Dictionary(uniqueKeysWithValues: blocks.map { ("\($0.cid)", $0.bytes) })
        let faulty = try ScriptedServer { _, request in
            answer.steps(for: byText[RecordedAnswer.cid(of: request)] ?? [0], request)
        }
        defer { faulty.stop() }
        let honest = try makeDouble(blocks)
        defer { honest.stop() }
        let set = try makeSet(
            ["http://\(faulty.address)", honest.gatewayAddress], hedges: answer.isStall)
        try expectAll(of: set)
        let status = set.status()
        #expect(status[1].state == .ok && status[1].wrongAnswers == 0)
        guard case .isExcluded = RecordedFaultTests.meaning(of: answer).effect else {
            #expect(status[0].wrongAnswers == 0)
            return
        }
        guard case .excluded = status[0].state else {
            Issue.record("\(status[0].state)")
            return
        }
        #expect(faulty.requests.count { $0.line.contains("/ipfs/") } == 1)
        #expect(status[1].blocks == UInt64(2 * blocks.count))
    }

    /// Faults of a gateway that does all else right, by the double.
    @Test(arguments: [
        (Fault.Kind.status, 500), (.status, 404), (.latency, 20), (.page, 0), (.endless, 0),
        (.redirect, 0), (.busy, 60), (.drip, 100), (.hang, 0), (.flip, 7), (.truncate, 5),
        (.extra, 5), (.cutReply, 100),
    ])
    func theOtherTakesOverFromADoubleWithAFault(_ kind: Fault.Kind, _ value: Int) throws {
        let faulty = try makeDouble(blocks)
        defer { faulty.stop() }
        faulty.add(Fault(kind, command: "gateway", value: value))
        let honest = try makeDouble(blocks)
        defer { honest.stop() }
        let set = try makeSet(
            [faulty.gatewayAddress, honest.gatewayAddress], hedges: [.drip, .hang].contains(kind))
        try expectAll(of: set)
        let isLie = [.page, .endless, .flip, .truncate, .extra].contains(kind)
        #expect(set.status()[0].wrongAnswers == (isLie ? 1 : 0))
        if isLie { #expect(faulty.statistics["gateway"]?.calls == 1) }
    }

    @Test func theOtherTakesOverWhereTheFirstVanishesAndTheFirstWhereItIsBackAlone() throws {
        let one = try makeDouble(blocks)
        defer { one.stop() }
        let two = try makeDouble(blocks)
        defer { two.stop() }
        let set = try makeSet([one.gatewayAddress, two.gatewayAddress], hedges: false)
        try expectAll(of: set)
        try one.setRefusing(true)
        try expectAll(of: set)
        try one.setRefusing(false)
        try two.setRefusing(true)
        try expectAll(of: set)
    }

    @Test(arguments: [false, true], RecordedAnswer.allCases.filter(\.isStall))
    func nothingGoesOnBeyondItsDeadlineWhereAllStall(
        _ asksPeers: Bool, _ answer: RecordedAnswer
    ) throws {
        let block = blocks[0]
        let servers = try (0..<3).map { _ in
            try ScriptedServer { _, request in answer.steps(for: block.bytes, request) }
        }
        defer { for server in servers { server.stop() } }
        let set = try makeSet(servers.map { "http://\($0.address)" }, hedges: true)
        let error = failure {
            _ = try set.get(block.cid, milliseconds: 400, asksPeers: asksPeers)
        }
        #expect(error?.kind == .timeout)
    }

    @Test func withoutAnHonestOneNothingIsGivenAndNobodyIsAskedAgain() throws {
        let liars = try [RecordedAnswer.otherBlock, .captivePortal, .endless].map { answer in
            try ScriptedServer { [blocks] _, request in
                answer.steps(for: blocks[0].bytes, request)
            }
        }
        defer { for liar in liars { liar.stop() } }
        let set = try makeSet(liars.map { "http://\($0.address)" }, hedges: false)
        for (cid, _) in blocks {
            #expect(failure { _ = try set.get(cid) }?.kind == .wrongBytes)
        }
        // Those to whom the page is are led there by one more request.
        #expect(liars.map(\.requestCount) == [1, 2, 1])
    }
}
