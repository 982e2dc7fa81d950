import Base
import Gateway
import HTTP
import HTTPScript
import MerkleDAG
import Multiformats
import Remotes
import Testing
import Volume

import struct SystemPackage.Errno

/// A volume from a CID, whose blocks come from gateways that do not do what they should.
@Suite(.timeLimit(.minutes(30)))
struct GatewayFaultTests {
    /// Two leaves, so that the file's root is not its content.
    private let large = content(seed: 3, count: 1_300_000)

    private func fill(_ volume: Volume) throws {
        let inner = try volume.makeDirectory("inner")
        try volume.makeFile("large", in: inner, large)
        try volume.makeFile("small", in: inner, [1, 2, 3])
        _ = try volume.makeSymlink("link", in: inner, target: Array("small".utf8), caller: root)
        try volume.makeFile("top", content(seed: 4, count: 40_000))
    }

    private func block(
        of source: OtherVolume, _ request: ScriptedServer.Request
    ) -> [UInt8]? {
        guard let cid = try? CID(parsing: RecordedAnswer.cid(of: request)) else { return nil }
        return try? source.volume.block(cid)
    }

    /// A gateway that has all of a volume, and answers as it is told from the moment on when it is.
    private func gateway(
        _ source: OtherVolume, _ answer: RecordedAnswer? = nil,
        isFaulty: Monitor<Bool> = Monitor(true)
    ) throws -> ScriptedServer {
        try ScriptedServer { _, request in
            let block = block(of: source, request)
            if let answer, isFaulty.withLock({ $0 }) {
                return answer.steps(for: block ?? [0], request)
            }
            return [block.map { Reply.whole(200, $0) } ?? Reply.whole(404, "not found")]
        }
    }

    /// Options of a volume with the tree of another one.
    private func options(
        _ root: CID, _ servers: [ScriptedServer], _ set: (inout SourceSet.Options) -> Void
    ) throws -> (options: VolumeOptions, sources: SourceSet) {
        let remotes = try servers.map { server in
            var configuration = GatewayConfiguration(try GatewayURL("http://\(server.address)"))
            configuration.environment = HTTPEnvironment([:])
            return SourceSet.Source(try GatewayRemote(configuration), .gateway)
        }
        var setOptions = SourceSet.Options()
        set(&setOptions)
        let sources = SourceSet(remotes, options: setOptions)
        var options = VolumeOptions()
        options.sealDelayMilliseconds = 10
        options.commitIntervalMilliseconds = 50
        options.sources = FetchOptions(sources)
        options.origin = OriginOptions(reference: "/ipfs/\(root)") { _ throws(OriginError) in
            OriginRoot(cid: root)
        }
        return (options, sources)
    }

    @Test(arguments: RecordedAnswer.allCases)
    func aTreeIsReadWholeWhateverOneOfTwoGatewaysAnswers(_ answer: RecordedAnswer) throws {
        let source = try OtherVolume(fill)
        let root = try source.root
        let servers = [try gateway(source, answer), try gateway(source)]
        defer { for server in servers { server.stop() } }
        let (options, sources) = try options(root, servers) {
            // What stalls is known by that alone; all else is waited for.
            $0.hedgeMilliseconds = answer.isStall ? 10...50 : 100_000...200_000
        }
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, options)
        #expect(try volume.contents(of: volume.inode("inner", "large")) == large)
        #expect(try volume.contents(of: volume.inode("inner", "small")) == [1, 2, 3])
        #expect(try volume.contents(of: volume.inode("top")) == content(seed: 4, count: 40_000))
        #expect(try volume.readSymlink(volume.inode("inner", "link")) == Array("small".utf8))
        #expect(try volume.entries(of: volume.inode("inner")).count == 3)
        #expect(try volume.cid(of: .root) == root)
        let status = sources.status()
        #expect(status[1].wrongAnswers == 0)
        if status[0].wrongAnswers > 0 {
            guard case .excluded = status[0].state else {
                Issue.record("\(status[0].state)")
                return
            }
        }
        try volume.close()
        try expectClean(directory)
    }

    /// Nobody else has it: a read ends, with an error and without a byte of the gateways' own.
    @Test(arguments: RecordedAnswer.allCases)
    func contentThatNoGatewayGivesIsAnErrorAndNoByte(_ answer: RecordedAnswer) throws {
        let source = try OtherVolume(fill)
        let isFaulty = Monitor(false)
        let servers = try (0..<2).map { _ in try gateway(source, answer, isFaulty: isFaulty) }
        defer { for server in servers { server.stop() } }
        var (options, _) = try options(source.root, servers) {
            $0.hedgeMilliseconds = 10...50
            // Else each read waits for those that rest.
            $0.restMillisecondsMax = 0
        }
        // Whatever stalls is to end by this.
        options.sources?.fetchMilliseconds = answer.isStall ? 1_000 : 60_000
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, options)
        let file = try volume.inode("inner", "large")
        isFaulty.withLock { $0 = true }
        if answer.hasBlock {
            #expect(try volume.contents(of: file) == large)
        } else {
            let opened = try volume.open(file, flags: .read, caller: root)
            for offset in [0, 5_000, 1_100_000] as [UInt64] {
                #expect(throws: Errno.ioError) {
                    try volume.read(opened.handle, at: offset, count: 4_096)
                }
            }
            volume.release(opened.handle)
        }
        // What is here is not touched by that.
        #expect(try volume.attributes(of: file).size == 1_300_000)
        #expect(try volume.entries(of: volume.inode("inner")).count == 3)
        try volume.close()
        try expectClean(directory)
    }
}
