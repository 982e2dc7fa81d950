import Base
import Gateway
import HTTPScript
import KuboDouble
import Multiformats
import Remotes
import Testing

/// Each recorded answer: which error it is, what it means for who gave it, and that no other byte than the block's is ever
/// given.
struct RecordedFaultTests {
    private let block = rawBlock(1, byteCount: 3_000)

    /// What becomes of a gateway in a set.
    enum Effect {
        /// It is asked for the next block.
        case isAsked
        /// It is left alone for a time.
        case rests
        /// It is left alone for as long as it said, 60 s at least.
        case restsAsItSaid
        /// It is asked no more.
        case isExcluded
    }

    struct Meaning {
        /// Nil for the block.
        var kind: RemoteError.Kind?
        /// Where the gateway was told to give what it has, and no more.
        var kindIfCached: RemoteError.Kind?
        /// Of such a request, which is no search.
        var effect: Effect

        init(_ kind: RemoteError.Kind?, _ effect: Effect, ifCached: RemoteError.Kind? = nil) {
            self.kind = kind
            kindIfCached = ifCached ?? kind
            self.effect = effect
        }
    }

    static func meaning(of answer: RecordedAnswer) -> Meaning {
        switch answer {
        // RFC 9111, section 5.2.1.7: this is also what a cache says of what it lacks.
        case .nginxGatewayTimeout, .boxoTimeout: Meaning(.timeout, .isAsked, ifCached: .notFound)
        case .nginxBadGateway, .cloudflareOriginUnreachable, .serverError: Meaning(.failed, .rests)
        case .cloudflareOriginTimeout: Meaning(.timeout, .rests)
        case .nginxNotFound, .boxoNotFound, .lackAsServerError, .blockNotFoundAsServerError,
            .blocked:
            Meaning(.notFound, .isAsked)
        case .plainToEncryptedPort, .cloudflareChallenge, .customersOnly, .partUnasked:
            Meaning(.refused, .isAsked)
        case .varnishUnavailable: Meaning(.busy, .rests)
        case .tooManyRequestsUntilDate, .cloudflareRateLimit: Meaning(.busy, .restsAsItSaid)
        case .cloudflareChallengeAsSuccess, .captivePortal, .otherBlock, .emptyBody,
            .errorAsSuccess, .endless:
            Meaning(.wrongBytes, .isExcluded)
        case .subdomain, .longerThanSaid, .endsWithTheConnection, .earlyHints:
            Meaning(nil, .isAsked)
        case .subdomainOfNobody, .chunksCut, .shorterThanSaid, .endsWithTheConnectionCut, .headCut,
            .hangUp:
            Meaning(.unreachable, .rests)
        case .compressed, .errorInTrailer, .chunksMalformed, .noHTTP: Meaning(.failed, .rests)
        case .shorterThanSaidAndOpen, .silence, .drip: Meaning(.timeout, .rests)
        }
    }

    /// A gateway that gives the answer until `isMended`, and the block from then on.
    private func server(
        _ answer: RecordedAnswer, _ isMended: Monitor<Bool> = Monitor(false)
    ) throws -> ScriptedServer {
        try ScriptedServer { [block] _, request in
            isMended.withLock { $0 }
                ? [Reply.whole(200, block.bytes)] : answer.steps(for: block.bytes, request)
        }
    }

    /// How long a request may take: what stalls is to end soon, and all else by itself.
    private func milliseconds(_ answer: RecordedAnswer) -> Int { answer.isStall ? 300 : 60_000 }

    @Test(.timeLimit(.minutes(10)), arguments: RecordedAnswer.allCases)
    func anAnswerIsTheBlockOrAnErrorOfItsKind(_ answer: RecordedAnswer) throws {
        let meaning = Self.meaning(of: answer)
        #expect((meaning.kind == nil) == answer.hasBlock)
        for asksPeers in [true, false] {
            let isMended = Monitor(false)
            let server = try server(answer, isMended)
            defer { server.stop() }
            let gateway = try makeGateway("http://\(server.address)")
            var found: [UInt8]?
            let error = failure {
                found = try gateway.get(
                    block.cid, milliseconds: milliseconds(answer), asksPeers: asksPeers)
            }
            #expect(error?.kind == (asksPeers ? meaning.kind : meaning.kindIfCached))
            #expect(found == (error == nil ? block.bytes : nil))
            if let error {
                #expect(error.description.utf8.count < 2_000)
                #expect(error.description.contains("\(block.cid)"))
                #expect(!error.description.contains { $0.isNewline || $0 == "\u{1b}" })
            }
            // What is left of the answer does not come before the next one.
            isMended.withLock { $0 = true }
            #expect(try gateway.get(block.cid, asksPeers: asksPeers) == block.bytes)
        }
    }

    @Test(.timeLimit(.minutes(10)), arguments: RecordedAnswer.allCases)
    func whoGaveTheAnswerRestsOrIsAskedAsItMeans(_ answer: RecordedAnswer) throws {
        let meaning = Self.meaning(of: answer)
        let server = try server(answer)
        defer { server.stop() }
        var options = SourceSet.Options()
        options.restMillisecondsMax = 0
        // At which all rests are still what they were when they began.
        let now = MonotonicClock.milliseconds
        options.clock = { now }
        let set = SourceSet(
            [.init(try makeGateway("http://\(server.address)"), .gateway)], options: options)
        let error = failure {
            let found = try set.get(
                block.cid, milliseconds: milliseconds(answer), asksPeers: false)
            #expect(found == block.bytes)
        }
        #expect(error?.kind == meaning.kindIfCached)
        let status = try #require(set.status().first)
        switch (meaning.effect, status.state) {
        case (.isAsked, .ok): break
        case (.rests, .backingOff(let milliseconds, _)):
            #expect(milliseconds == 250)
        case (.restsAsItSaid, .backingOff(let milliseconds, _)):
            #expect((60_000...400_000).contains(milliseconds))
        case (.isExcluded, .excluded): break
        default: Issue.record("\(meaning.effect): \(status.state)")
        }
        #expect(status.blocks == (answer.hasBlock ? 1 : 0))
        #expect(status.wrongAnswers == (meaning.effect == .isExcluded ? 1 : 0))
        #expect(status.absences == (meaning.kindIfCached == .notFound ? 1 : 0))
    }

    @Test func aRequestSaysThatNoCodingIsWanted() throws {
        let server = try ScriptedServer { [block] _, _ in [Reply.whole(200, block.bytes)] }
        defer { server.stop() }
        _ = try makeGateway("http://\(server.address)").get(block.cid)
        #expect(server.requests.first?.header("Accept-Encoding") == "identity")
    }
}
