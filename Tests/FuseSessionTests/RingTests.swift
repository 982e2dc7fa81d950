import Base
import Foundation
import FuseSession
import Testing

@Test(arguments: [
    ("0", 1), ("0\n", 1), ("0-1", 2), ("0-3,8-11", 8), ("0-3,8-11\n", 8), ("1,3,5", 3),
    ("0-65535", 65536),
])
func processorsOfAListAreCounted(_ list: String, _ count: Int) {
    #expect(RingSupport.processorCount(in: list) == count)
}

@Test(arguments: [
    "", "\n", "-", ",", "0,", ",0", "0-", "-1", "3-1", "0-1-2", "a", "0-b", "0x1", " 0", "0 ",
    "0,,1", "65536", "0-65536", "99999999999999999999",
])
func whatIsNoListOfProcessorsHasNoCount(_ list: String) {
    #expect(RingSupport.processorCount(in: list) == nil)
}

@Test func aThreadOfAPinnedOneRunsWhereTheOthersMay() throws {
    let all = Processors.ofThisThread
    let seen = Monitor<(pinned: String, started: String)>(("", ""))
    try Threads.start(name: "pinned") {
        Threads.pin(toProcessor: Processors.first)
        seen.withLock { $0.pinned = Processors.ofThisThread }
        let started = try? Threads.start(name: "started") {
            seen.withLock { $0.started = Processors.ofThisThread }
        }
        started?.join()
    }.join()
    let (pinned, started) = seen.withLock { $0 }
    #expect(pinned == "\(Processors.first)")
    #expect(started == all)
}

/// The processors that may be used.
enum Processors {
    /// A list of those on which the calling thread may run.
    static var ofThisThread: String {
        let status = FileManager.default.contents(atPath: "/proc/thread-self/status")
        let lines = String(decoding: status ?? Data(), as: UTF8.self).split(separator: "\n")
        let line = lines.first { $0.hasPrefix("Cpus_allowed_list:") }
        return String(line?.split(separator: "\t").last ?? "")
    }

    /// One of this process's.
    static var first: Int { Int(ofThisThread.prefix { $0.isNumber }) ?? 0 }
}
