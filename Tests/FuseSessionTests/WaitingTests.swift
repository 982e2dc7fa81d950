import Base
import Foundation
import FuseSession
import Glibc
import Testing
import Volume

/// Reads that wait for a node that never answers, of requests that come by io_uring and by the device.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct WaitingTests {
    private static func bytes(_ count: Int, _ seed: UInt8) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) ^ seed }
    }

    @Test(arguments: [true, false])
    func aReaderThatWaitsForABlockDoesNotBlockStat(_ usesRings: Bool) throws {
        let mount = try NodeMount(files: ["here": [1, 2, 3], "missing": Self.bytes(300_000, 1)]) {
            // Each question comes to the one thread that there is, or to one of two.
            $0.usesRings = usesRings
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

    @Test(arguments: [true, false])
    func fortyReadersOfMissingBlocksDoNotBlockAnotherFile(_ usesRings: Bool) throws {
        let here = Self.bytes(1 << 20, 7)
        var files = ["here": here]
        for number in 0..<40 {
            files["missing-\(number)"] = Self.bytes(1 << 20, 0) + [UInt8(number)]
        }
        let mount = try NodeMount(files: files.mapValues { Array($0.suffix(1 << 20)) }) {
            // Whatever is read comes to the session, as read-ahead like that of the others.
            ($0.threads, $0.usesPassthrough, $0.usesRings) = (4, false, usesRings)
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

    @Test(arguments: [SIGTERM, SIGKILL], [true, false])
    func interruptEndsAReadThatWaits(_ signal: Int32, _ usesRings: Bool) throws {
        let mount = try NodeMount(files: ["missing": Self.bytes(300_000, 1)]) {
            ($0.threads, $0.usesRings) = (2, usesRings)
        }
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

    @Test(arguments: [true, false])
    func interruptEndsALookupThatWaits(_ usesRings: Bool) throws {
        let mount = try NodeMount(files: ["file": [1]]) { $0.usesRings = usesRings }
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

    @Test func threadsOfTheDeviceThatWereStartedForWaitsEndWithThem() throws {
        let mount = try NodeMount(files: ["file": [1]]) {
            ($0.threads, $0.usesRings) = (2, false)
        }
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

    /// A place that is added would be given nothing of what is queued, and one cannot be taken back.
    @Test(.enabled(if: RingSwitch.exists))
    func threadsOfAQueueAreThereFromTheStartAndStay() throws {
        let mount = try NodeMount(files: ["file": [1]]) {
            ($0.threads, $0.spareThreadsMax) = (2, 24)
        }
        defer { #expect(throws: Never.self) { try mount.end() } }
        #expect(eventually { mount.rings == .on })
        let threads = Self.sessionThreads
        #expect(threads > 22)
        mount.hangBlocks()
        for round in 0..<3 {
            let before = mount.blockCalls
            let programs = try (0..<12).map { number in
                try Program(
                    "taskset", "-c", "\(Processors.first)", "stat",
                    mount.path + "/name-\(round)-\(number)")
            }
            #expect(eventually { mount.blockCalls >= before + 12 })
            for program in programs { program.signal(SIGKILL) }
            #expect(programs.allSatisfy { $0.result() == -SIGKILL })
        }
        #expect(Self.sessionThreads == threads)
    }

    /// Those that come while only some of a queue's places are there, and wait, keep none that came
    /// behind them.
    @Test func requestsThatWaitFromTheFirstMomentDoNotBlockOthers() throws {
        var programs: [Program] = []
        let mount = try NodeMount(files: ["file": [1]]) {
            ($0.threads, $0.spareThreadsMax) = (2, 70)
        } beforeServed: { double, path in
            NodeMount.hangBlocks(of: double)
            for number in 0..<30 {
                programs.append(
                    try Program(
                        "taskset", "-c", "\(Processors.first)", "stat", "\(path)/name-\(number)"))
            }
            // So that they are there when the first place is.
            usleep(200_000)
        }
        defer { #expect(throws: Never.self) { try mount.end() } }
        #expect(eventually { mount.blockCalls >= 30 })
        for program in programs { program.signal(SIGKILL) }
        #expect(programs.allSatisfy { $0.result() == -SIGKILL })
    }

    /// The threads of this process that serve requests.
    private static var sessionThreads: Int {
        let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? []
        return tasks.count { task in
            let name = FileManager.default.contents(atPath: "/proc/self/task/\(task)/comm")
            return String(decoding: name ?? Data(), as: UTF8.self).hasPrefix("fuse-")
        }
    }

    @Test(arguments: [true, false])
    func moreWaitsThanThreadsFailAtOnce(_ usesRings: Bool) throws {
        let mount = try NodeMount(files: ["file": [1]]) {
            ($0.threads, $0.spareThreadsMax, $0.usesRings) = (2, 16, usesRings)
        }
        defer { #expect(throws: Never.self) { try mount.end() } }
        mount.hangBlocks()
        // 2 threads and 16 spare ones, one of them kept free; of one queue, too. Of what can wait, one
        // user has half.
        let programs = try (0..<60).map { number in
            try Program(
                "taskset", "-c", "\(Processors.first)", "stat", mount.path + "/name-\(number)")
        }
        // Those that come before a queue has all its threads wait beyond that.
        #expect(eventually { programs.count { $0.hasEnded } >= 60 - (usesRings ? 17 : 9) })
        #expect(try Program("stat", mount.path).result() == 0)
        #expect((60 - 17...60 - 9).contains(programs.count { $0.hasEnded }))
        for program in programs where program.hasEnded { #expect(program.result() == 1) }
        for program in programs { program.signal(SIGKILL) }
        #expect(programs.allSatisfy { $0.ends() })
    }

    /// Of one user's requests as many wait as is his share, and the others' find what the node has.
    @Test(.enabled(if: geteuid() == 0), arguments: [true, false])
    func aUserWhoWaitsForMissingBlocksLeavesReadsToOthers(_ usesRings: Bool) throws {
        var files: [String: [UInt8]] = [:]
        for number in 0..<40 {
            files["missing-\(number)"] = Self.bytes(70_000, UInt8(number))
            files["here-\(number)"] = Self.bytes(70_000, UInt8(number + 100))
        }
        let mount = try NodeMount(files: files) {
            ($0.threads, $0.spareThreadsMax, $0.usesRings) = (2, 16, usesRings)
        }
        defer { #expect(throws: Never.self) { try mount.end() } }
        for number in 0..<40 { try mount.loseBlock(of: "missing-\(number)") }
        #expect(try Program("ls", mount.path).result() == 0)
        func cat(_ name: String, user: Int) throws -> Program {
            try Program(
                "setpriv", "--reuid=\(user)", "--regid=\(user)", "--clear-groups", "taskset", "-c",
                "\(Processors.first)", "cat", mount.path + "/" + name)
        }
        let readers = try (0..<40).map { try cat("missing-\($0)", user: 1000) }
        #expect(eventually { readers.count { $0.hasEnded } >= 40 - 9 })
        for number in 0..<40 {
            let reader = try cat("here-\(number)", user: number % 2 == 0 ? 0 : 1001)
            #expect(reader.output() == files["here-\(number)"])
        }
        #expect(readers.count { $0.hasEnded } == 40 - 9)
        for reader in readers { reader.signal(SIGKILL) }
        #expect(readers.allSatisfy { $0.ends() })
    }

    /// Else whatever a user reads would fail for as long as the node looks for what nobody has.
    @Test(arguments: [true, false])
    func theLongestWaitOfAUserOverHisShareEndsForANewOne(_ usesRings: Bool) throws {
        var files: [String: [UInt8]] = [:]
        for number in 0..<10 { files["missing-\(number)"] = Self.bytes(70_000, UInt8(number)) }
        let mount = try NodeMount(files: files) {
            ($0.threads, $0.spareThreadsMax, $0.usesRings) = (2, 16, usesRings)
        }
        defer { #expect(throws: Never.self) { try mount.end() } }
        for number in 0..<10 { try mount.loseBlock(of: "missing-\(number)") }
        #expect(try Program("ls", mount.path).result() == 0)
        func cat(_ number: Int) throws -> Program {
            try Program(
                "taskset", "-c", "\(Processors.first)", "cat", mount.path + "/missing-\(number)")
        }
        let before = mount.blockCalls
        let readers = try (0..<9).map(cat)
        #expect(eventually { mount.blockCalls >= before + 18 })
        usleep(UInt32(2_100) * 1000)
        #expect(readers.allSatisfy { !$0.hasEnded })
        let new = try cat(9)
        #expect(eventually { readers.contains { $0.hasEnded } })
        #expect(readers.count { $0.hasEnded } == 1)
        #expect(!new.hasEnded)
        new.signal(SIGKILL)
        for reader in readers where reader.hasEnded { #expect(reader.result() == 1) }
        for reader in readers { reader.signal(SIGKILL) }
        #expect(readers.allSatisfy { $0.ends() })
    }

    @Test(arguments: [true, false])
    func unmountDoesNotWaitForTheNode(_ usesRings: Bool) throws {
        let mount = try NodeMount(files: ["missing": Self.bytes(300_000, 1)]) {
            ($0.threads, $0.usesRings) = (2, usesRings)
        }
        defer { #expect(throws: Never.self) { try mount.end() } }
        #expect(try Program("ls", mount.path).outputText == "missing\n")
        mount.hangBlocks()
        let reader = try Program("cat", mount.path + "/missing")
        #expect(eventually { mount.blockCalls > 0 })
        #expect(try mount.stopSession())
        #expect((reader.result() ?? 0) > 0)
    }

    @Test(arguments: [true, false])
    func umountEndsTheSessionAlthoughTheReadOfAKilledProcessWaits(_ usesRings: Bool) throws {
        let mount = try NodeMount(files: ["missing": Self.bytes(300_000, 1)]) {
            ($0.threads, $0.usesRings) = (2, usesRings)
        }
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

    @Test(arguments: [true, false])
    func aNameMergedFromMFSIsSeenAtOnce(_ usesRings: Bool) throws {
        let mount = try NodeMount(files: ["changed": [1], "removed": [1], "stays": [1]]) {
            $0.usesRings = usesRings
        }
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
