import Base
import Foundation
import FuseSession
import Glibc
import Synchronization
import Testing

/// SCHED_IDLE of linux/sched.h, which glibc's module leaves out.
private let schedIdle: Int32 = 5

/// Files in the place of those in which the kernel tells of groups.
private final class FakeKernel {
    let path = NSTemporaryDirectory() + "registryfs-group-" + UUID().uuidString

    init(cgroup: String, autogroup: String? = "1\n", _ files: [String: String] = [:]) throws {
        try put("proc/self/cgroup", cgroup)
        if let autogroup { try put("proc/sys/kernel/sched_autogroup_enabled", autogroup) }
        for (name, text) in files { try put("cgroup/" + name, text) }
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    private func put(_ name: String, _ text: String) throws {
        let place = path + "/" + name
        try FileManager.default.createDirectory(
            atPath: (place as NSString).deletingLastPathComponent,
            withIntermediateDirectories: true)
        try text.write(toFile: place, atomically: false, encoding: .utf8)
    }

    func group(session: Int32 = 7) -> SchedulerGroup {
        SchedulerGroup(
            proc: path + "/proc", cgroups: path + "/cgroup", process: 7, parent: 6,
            session: session)
    }
}

@Suite struct SchedulerGroupTests {
    private func isOwn(
        _ cgroup: String, autogroup: String? = "1\n", session: Int32 = 7,
        _ files: [String: String] = [:]
    ) throws -> Bool {
        let kernel = try FakeKernel(cgroup: cgroup, autogroup: autogroup, files)
        return withExtendedLifetime(kernel) { kernel.group(session: session).isOwn }
    }

    @Test func leaderOfASessionIsAloneInItsAutogroup() throws {
        #expect(try isOwn("0::/\n"))
        #expect(try !isOwn("0::/\n", session: 5))
        #expect(try !isOwn("0::/\n", autogroup: "0\n"))
        #expect(try !isOwn("0::/\n", autogroup: nil))
    }

    @Test func cgroupOfVersion1ThatGivesProcessorsIsTheGroup() throws {
        let others = "9:memory:/a\n2:cpuacct:/b\n"
        #expect(try isOwn(others + "1:cpu:/\n0::/\n"))
        #expect(try isOwn(others + "1:cpu,cpuacct:/\n"))
        #expect(try !isOwn(others + "1:cpu,cpuacct:/docker/x\n"))
    }

    @Test func serviceIsAloneWhereItsCgroupGivesProcessors() throws {
        let service = "system.slice/registryfs.service/"
        let weights = ["system.slice/cpu.weight": "100\n", service + "cpu.weight": "100\n"]
        func isOwn(members: String?, _ weights: [String: String]) throws -> Bool {
            var files = weights
            files[service + "cgroup.procs"] = members
            return try self.isOwn("0::/system.slice/registryfs.service\n", files)
        }
        #expect(try isOwn(members: "7\n", weights))
        // Its starter waits for it.
        #expect(try isOwn(members: "6\n7\n", weights))
        #expect(try !isOwn(members: "7\n8\n", weights))
        #expect(try !isOwn(members: nil, weights))
        // All of the slice is one group.
        #expect(try !isOwn(members: "7\n", ["system.slice/cpu.weight": "100\n"]))
        #expect(try isOwn(members: "7\n8\n", [:]))
    }

    /// What is above the first cgroup of a container is not to be seen.
    @Test func containerWithoutProcessorsOfItsOwnIsNotTrusted() throws {
        var files = ["cgroup.events": "populated 1\n"]
        #expect(try !isOwn("0::/\n", files))
        files["cpu.weight"] = "100\n"
        files["cgroup.procs"] = "1\n7\n"
        #expect(try !isOwn("0::/\n", files))
        files["cgroup.procs"] = "7\n"
        #expect(try isOwn("0::/\n", files))
    }

    @Test(arguments: ["", "nonsense\n", "0::/a/b\n0:\n"])
    func whatCannotBeReadIsNotOwn(_ text: String) throws {
        #expect(try !isOwn(text))
    }
}

@Suite struct QueuePriorityTests {
    private let kernel: FakeKernel

    init() throws { kernel = try FakeKernel(cgroup: "0::/\n") }

    /// Runs a body on a thread of its own, whose policy it may change.
    private func onThread(_ body: @escaping @Sendable () -> Void) throws {
        try Threads.start(name: "test", body).join()
    }

    @Test func threadsOfAGroupOfOthersKeepTheirPolicy() {
        #expect(QueuePriority(BackgroundWork(), group: kernel.group(session: 1)) == nil)
    }

    @Test func threadGoesBehindUnlessOtherWorkIsUnderWay() throws {
        let background = BackgroundWork()
        let priority = try #require(QueuePriority(background, group: kernel.group()))
        try onThread {
            let member = priority.join()
            #expect(sched_getscheduler(0) == SCHED_OTHER)
            priority.beforeAnswer(member)
            #expect(sched_getscheduler(0) == schedIdle)
            background.run {
                #expect(sched_getscheduler(0) == SCHED_OTHER)
                priority.beforeAnswer(member)
                #expect(sched_getscheduler(0) == SCHED_OTHER)
                background.run { #expect(sched_getscheduler(0) == SCHED_OTHER) }
                priority.beforeAnswer(member)
                #expect(sched_getscheduler(0) == SCHED_OTHER)
            }
            priority.beforeAnswer(member)
            #expect(sched_getscheduler(0) == schedIdle)
            priority.leave(member)
            background.run { #expect(sched_getscheduler(0) == schedIdle) }
        }
    }

    /// What a thread of a queue starts is no thread of a queue.
    @Test func threadThatIsStartedFromBehindHasTheUsualPolicy() throws {
        let priority = try #require(QueuePriority(BackgroundWork(), group: kernel.group()))
        try onThread {
            Threads.pin(toProcessor: 0)
            priority.beforeAnswer(priority.join())
            #expect(sched_getscheduler(0) == schedIdle)
            try? Threads.start(name: "inner") {
                #expect(sched_getscheduler(0) == SCHED_OTHER)
            }.join()
        }
    }

    /// Whichever comes first, the thread that answers or the work that begins.
    @Test func nobodyStaysBehindWorkThatHasBegun() throws {
        let background = BackgroundWork()
        let priority = try #require(QueuePriority(background, group: kernel.group()))
        let isOver = Atomic(false)
        let thread = Atomic<Int32>(0)
        let answers = Atomic(0)
        let worker = try Threads.start(name: "worker") { [priority] in
            let member = priority.join()
            thread.store(Threads.current, ordering: .sequentiallyConsistent)
            while !isOver.load(ordering: .sequentiallyConsistent) {
                priority.beforeAnswer(member)
                answers.add(1, ordering: .sequentiallyConsistent)
            }
        }
        defer {
            isOver.store(true, ordering: .sequentiallyConsistent)
            worker.join()
        }
        func answer(_ count: Int) {
            let goal = answers.load(ordering: .sequentiallyConsistent) + count
            let end = ContinuousClock.now + .seconds(300)
            while answers.load(ordering: .sequentiallyConsistent) < goal {
                guard ContinuousClock.now < end else {
                    Issue.record("no more answers")
                    return
                }
                sched_yield()
            }
        }
        answer(1)
        // A thread that is behind all others gets little of a busy machine.
        let end = ContinuousClock.now + .seconds(20)
        for round in 0..<300 where round < 10 || ContinuousClock.now < end {
            background.run {
                answer(2)
                #expect(
                    sched_getscheduler(thread.load(ordering: .sequentiallyConsistent))
                        == SCHED_OTHER)
            }
            answer(2)
        }
    }
}
