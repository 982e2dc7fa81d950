internal import Glibc

/// The group of threads among which the scheduler shares out what the group gets of the processors.
///
/// Source: sched(7), "The autogroup feature"; cgroups(7); Documentation/admin-guide/cgroup-v2.rst of the
/// kernel, "CPU".
public struct SchedulerGroup {
    /// Where the kernel tells; other places for tests.
    private let proc, cgroups: String
    private let process, parent, session: Int32

    public init() {
        self.init(
            proc: "/proc", cgroups: "/sys/fs/cgroup", process: getpid(), parent: getppid(),
            session: getsid(0))
    }

    package init(proc: String, cgroups: String, process: Int32, parent: Int32, session: Int32) {
        self.proc = proc
        self.cgroups = cgroups
        self.process = process
        self.parent = parent
        self.session = session
    }

    /// Whether it certainly has threads of this process alone. Then whatever their policy is, it
    /// counts among them only.
    ///
    /// A process that leads its session has an autogroup for itself, where that is switched on and
    /// no cgroup gives the processors; or it is alone in a cgroup that does.
    public var isOwn: Bool {
        guard let memberships = text(proc + "/self/cgroup") else { return false }
        var unified: Substring?
        for line in memberships.split(separator: "\n") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { return false }
            if fields[0] == "0" { unified = fields[2] }
            // Version 1 has a hierarchy for the processors.
            if fields[1].split(separator: ",").contains("cpu") {
                return fields[2] == "/" && hasOwnAutogroup
            }
        }
        guard let unified, unified.hasPrefix("/") else { return false }
        return isOwn(in: unified)
    }

    private func isOwn(in unified: Substring) -> Bool {
        var path = cgroups + (unified == "/" ? "" : String(unified))
        if exists(path + "/cpu.weight") {
            // Who started it waits for it and does nothing else, if it is still there.
            let known = Set([process, parent].map { "\($0)" })
            let members = text(path + "/cgroup.procs")?.split(separator: "\n").map(String.init)
            return members.map { known.isSuperset(of: $0) } ?? false
        }
        // The nearest one above that has the controller is the group.
        while path != cgroups {
            guard !exists(path + "/cpu.weight"), let end = path.lastIndex(of: "/") else {
                return false
            }
            path = String(path[..<end])
        }
        // Only the very first one has no such file; of what is above another one nothing is seen.
        return !exists(cgroups + "/cgroup.events") && hasOwnAutogroup
    }

    private var hasOwnAutogroup: Bool {
        session == process && text(proc + "/sys/kernel/sched_autogroup_enabled") == "1\n"
    }

    private func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// A short file; nil where it cannot be read.
    private func text(_ path: String) -> String? {
        guard let file = try? Sys.open(path, flags: O_RDONLY) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 4096)
        // Such files are read from their start on.
        let count = bytes.withUnsafeMutableBytes { read(file.raw, $0.baseAddress, $0.count) }
        guard count >= 0, count < bytes.count else { return nil }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}
