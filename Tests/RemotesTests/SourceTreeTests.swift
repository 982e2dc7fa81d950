import Base
import Multiformats
import Remotes
import Testing

/// Trees from one of several sources.
struct SourceTreeTests {
    /// A source that gives blocks, and then ends as a test says.
    private struct FakeTrees: RemoteTrees {
        let address: String
        var blocks: [[UInt8]] = []
        var failure: RemoteError?
        var ending = TreeEnding.ended

        func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
            throw RemoteError(.notFound, "fake")
        }

        func blocks<Failure: Error>(
            _ request: TreeRequest, _ take: (CID, [UInt8]) throws(Failure) -> Void
        ) throws(RemoteStreamError<Failure>) -> TreeEnding {
            for bytes in blocks {
                do throws(Failure) {
                    try take(CID.raw(sha256: bytes), bytes)
                } catch {
                    throw .source(error)
                }
            }
            if let failure { throw .remote(failure) }
            return ending
        }
    }

    private struct Plain: RemoteBlocks {
        let address = "plain"

        func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
            throw RemoteError(.notFound, "fake")
        }
    }

    private func take(_ set: SourceSet) -> (count: Int, ending: TreeEnding?, error: RemoteError?) {
        var count = 0
        do throws(RemoteStreamError<Never>) {
            let ending = try set.blocks(
                TreeRequest(CID.raw(sha256: [1]), deadlineMilliseconds: 60_000)
            ) { (_, _) throws(Never) in count += 1 }
            return (count, ending, nil)
        } catch {
            switch error {
            case .remote(let error): return (count, nil, error)
            }
        }
    }

    @Test func theNextIsAskedWhereNoBlockCame() {
        let set = SourceSet([
            .init(Plain(), .kubo),
            .init(FakeTrees(address: "one", failure: RemoteError(.unreachable, "away")), .gateway),
            .init(FakeTrees(address: "two", blocks: [[1], [2, 3]]), .gateway),
        ])
        let taken = take(set)
        #expect(taken.count == 2 && taken.error == nil)
        if case .ended? = taken.ending {} else { Issue.record("it does not end") }
        let status = set.status()
        #expect(status[2].blocks == 2 && status[2].bytes == 3)
        if case .backingOff = status[1].state {} else { Issue.record("it does not rest") }
    }

    @Test func whatCameBeforeALieIsGivenAndTheLiarIsNotAskedAgain() {
        let set = SourceSet([
            .init(
                FakeTrees(
                    address: "liar", blocks: [[1]], failure: RemoteError(.wrongBytes, "a lie")),
                .gateway)
        ])
        let taken = take(set)
        #expect(taken.count == 1)
        if case .cut(let error)? = taken.ending {
            #expect(error.kind == .wrongBytes)
        } else {
            Issue.record("it is not cut")
        }
        #expect(set.status()[0].state == .excluded(because: "a lie"))
        #expect(take(set).count == 0)
    }

    @Test func withoutAWayForThatItIsRefused() {
        #expect(take(SourceSet([.init(Plain(), .kubo)])).error?.kind == .refused)
    }

    @Test func theCallersErrorIsItsOwn() {
        struct Enough: Error {}
        let set = SourceSet([.init(FakeTrees(address: "one", blocks: [[1], [2]]), .gateway)])
        var isOurs = false
        do throws(RemoteStreamError<Enough>) {
            _ = try set.blocks(
                TreeRequest(CID.raw(sha256: [1]), deadlineMilliseconds: 60_000)
            ) { (_, _) throws(Enough) in throw Enough() }
        } catch {
            if case .source = error { isOurs = true }
        }
        #expect(isOurs)
        #expect(set.status()[0].state == .ok)
    }
}
