import Base
import Foundation
import FuseSession
import Glibc
import Testing
import Volume

/// Reads that wait for a node that never answers.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct WaitingTests {
    private static func bytes(_ count: Int, _ seed: UInt8) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) ^ seed }
    }

    @Test func aReaderThatWaitsForABlockDoesNotBlockStat() throws {
        let mount = try NodeMount(files: ["here": [1, 2, 3], "missing": Self.bytes(300_000, 1)]) {
            // Each question comes to the one thread that there is.
            ($0.threads, $0.entryTimeoutSeconds, $0.attributeTimeoutSeconds) = (1, 0, 0)
        }
        defer { #expect(throws: Never.self) { try mount.end() } }
        #expect(try Program("ls", mount.path).outputText == "here\nmissing\n")
        mount.hangBlocks()
        let reader = try Program("cat", mount.path + "/missing")
        #expect(eventually { mount.blockCalls > 0 })
        for _ in 0..<20 {
            let stat = try Program(
                "stat", "-c", "%s", mount.path + "/missing", mount.path + "/here")
            #expect(stat.outputText == "300000\n3\n")
        }
        #expect(!reader.hasEnded)
    }

    @Test func fortyReadersOfMissingBlocksDoNotBlockAnotherFile() throws {
        let here = Self.bytes(1 << 20, 7)
        var files = ["here": here]
        for number in 0..<40 {
            files["missing-\(number)"] = Self.bytes(1 << 20, 0) + [UInt8(number)]
        }
        let mount = try NodeMount(files: files.mapValues { Array($0.suffix(1 << 20)) }) {
            // Whatever is read comes to the session, as read-ahead like that of the others.
            ($0.threads, $0.usesPassthrough) = (4, false)
        }
        defer { #expect(throws: Never.self) { try mount.end() } }
        #expect(try Program("cat", mount.path + "/here").output() == here)
        mount.hangBlocks()
        let before = mount.blockCalls
        let readers = try (0..<40).map { try Program("cat", mount.path + "/missing-\($0)") }
        #expect(eventually { mount.blockCalls > before })
        for number in 0..<20 {
            // The pages go first, so that it is read from the session.
            let drop = try Program(
                "dd", "if=\(mount.path)/here", "iflag=nocache", "count=0", "status=none")
            #expect(drop.result() == 0)
            #expect(try Program("cat", mount.path + "/here").output() == here)
            let name = mount.path + "/new-\(number)"
            #expect(try Program("cp", mount.path + "/here", name).result() == 0)
        }
        #expect(readers.allSatisfy { !$0.hasEnded })
    }

    @Test(arguments: [SIGTERM, SIGKILL])
    func interruptEndsAReadThatWaits(_ signal: Int32) throws {
        let mount = try NodeMount(files: ["missing": Self.bytes(300_000, 1)]) { $0.threads = 2 }
        defer { #expect(throws: Never.self) { try mount.end() } }
        #expect(try Program("ls", mount.path).outputText == "missing\n")
        mount.hangBlocks()
        for flag in ["fullblock", "direct"] {
            let before = mount.blockCalls
            let reader = try Program(
                "dd", "if=\(mount.path)/missing", "iflag=\(flag)", "bs=64k", "status=none")
            if flag == "fullblock" { #expect(eventually { mount.blockCalls > before }) }
            // It may wait already or come to wait only after the signal.
            usleep(100_000)
            #expect(!reader.hasEnded)
            reader.signal(signal)
            #expect(reader.result() == -signal)
        }
    }

    @Test func interruptEndsALookupThatWaits() throws {
        let mount = try NodeMount(files: ["file": [1]])
        defer { #expect(throws: Never.self) { try mount.end() } }
        mount.hangBlocks()
        for signal in [SIGTERM, SIGKILL] {
            let before = mount.blockCalls
            let program = try Program("stat", mount.path + "/file")
            #expect(eventually { mount.blockCalls > before })
            program.signal(signal)
            #expect(program.result() == -signal)
        }
    }

    @Test func threadsThatWereStartedForWaitsEndWithThem() throws {
        let mount = try NodeMount(files: ["file": [1]]) { $0.threads = 2 }
        defer { #expect(throws: Never.self) { try mount.end() } }
        #expect(eventually { Self.sessionThreads == 2 })
        mount.hangBlocks()
        // Different names, because the kernel asks for one name once.
        let programs = try (0..<12).map { try Program("stat", mount.path + "/name-\($0)") }
        #expect(eventually { mount.blockCalls >= 12 })
        #expect(Self.sessionThreads > 10)
        for program in programs { program.signal(SIGKILL) }
        #expect(programs.allSatisfy { $0.result() == -SIGKILL })
        #expect(eventually { Self.sessionThreads == 2 })
    }

    /// The threads of this process that serve requests.
    private static var sessionThreads: Int {
        let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? []
        return tasks.count { task in
            let name = FileManager.default.contents(atPath: "/proc/self/task/\(task)/comm")
            return String(decoding: name ?? Data(), as: UTF8.self).hasPrefix("fuse-")
        }
    }

    @Test func moreWaitsThanThreadsFailAtOnce() throws {
        let mount = try NodeMount(files: ["file": [1]]) {
            ($0.threads, $0.spareThreadsMax) = (2, 16)
        }
        defer { #expect(throws: Never.self) { try mount.end() } }
        mount.hangBlocks()
        // 2 threads and 16 spare ones, one of them kept free.
        let programs = try (0..<60).map { try Program("stat", mount.path + "/name-\($0)") }
        #expect(eventually { programs.count { $0.hasEnded } >= 60 - 17 })
        #expect(try Program("stat", mount.path).result() == 0)
        #expect(programs.count { $0.hasEnded } == 60 - 17)
        for program in programs where program.hasEnded { #expect(program.result() == 1) }
        for program in programs { program.signal(SIGKILL) }
        #expect(programs.allSatisfy { $0.ends() })
    }

    /// A place in a queue of io_uring's that waits for a node would have others wait with it.
    @Test func requestsThatMayWaitForANodeComeByTheDevice() throws {
        let mount = try NodeMount(files: ["file": [1]])
        defer { #expect(throws: Never.self) { try mount.end() } }
        #expect(mount.rings == .off(reason: "requests may wait for the node"))
    }

    @Test func unmountDoesNotWaitForTheNode() throws {
        let mount = try NodeMount(files: ["missing": Self.bytes(300_000, 1)]) { $0.threads = 2 }
        defer { #expect(throws: Never.self) { try mount.end() } }
        #expect(try Program("ls", mount.path).outputText == "missing\n")
        mount.hangBlocks()
        let reader = try Program("cat", mount.path + "/missing")
        #expect(eventually { mount.blockCalls > 0 })
        #expect(try mount.stopSession())
        #expect((reader.result() ?? 0) > 0)
    }

    @Test func umountEndsTheSessionAlthoughTheReadOfAKilledProcessWaits() throws {
        let mount = try NodeMount(files: ["missing": Self.bytes(300_000, 1)]) { $0.threads = 2 }
        defer { #expect(throws: Never.self) { try mount.end() } }
        #expect(try Program("ls", mount.path).outputText == "missing\n")
        mount.hangBlocks()
        let reader = try Program("cat", mount.path + "/missing")
        #expect(eventually { mount.blockCalls > 0 })
        #expect(try Program("umount", mount.path).result() == 32)
        reader.signal(SIGKILL)
        #expect(reader.result() == -SIGKILL)
        #expect(try Program("umount", mount.path).result() == 0)
        #expect(try mount.sessionEnds())
    }

    @Test func aNameMergedFromMFSIsSeenAtOnce() throws {
        let mount = try NodeMount(files: ["changed": [1], "removed": [1], "stays": [1]])
        defer { #expect(throws: Never.self) { try mount.end() } }
        func ls() throws -> String? { try Program("ls", mount.path).outputText }
        func size(_ name: String) throws -> String? {
            try Program("stat", "-c", "%s", mount.path + "/" + name).outputText
        }
        // The kernel now remembers the listing, the names, and that one is not there.
        for _ in 0..<2 {
            #expect(try ls() == "changed\nremoved\nstays\n")
            #expect(try size("changed") == "1\n")
            #expect(try size("removed") == "1\n")
            #expect(try size("added") == nil)
        }
        try mount.add("added", [1, 2])
        try mount.call("files/rm?arg=\(NodeMount.mfsPath)/removed")
        try mount.call("files/rm?arg=\(NodeMount.mfsPath)/changed")
        try mount.add("changed", [1, 2, 3])
        #expect(try eventually { try size("added") == "2\n" })
        #expect(try eventually { try size("changed") == "3\n" })
        #expect(try eventually { try size("removed") == nil })
        #expect(try eventually { try ls() == "added\nchanged\nstays\n" })
        #expect(try Program("cat", mount.path + "/changed").output() == [1, 2, 3])
    }
}
