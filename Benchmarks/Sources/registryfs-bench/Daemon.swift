import Glibc

/// What the process behind the mount costs, and how soon a CID is there.
struct Daemon {
    private let runner: Runner
    private let fileBytes: Int
    private let memory = Memory(count: 1 << 20)

    init(_ runner: Runner) {
        self.runner = runner
        fileBytes = runner.options.isQuick ? 256 << 20 : 1 << 30
        memory.fillWithNoise(seed: 13)
    }

    private var gibibytes: Double { Double(fileBytes) / Double(1 << 30) }

    func run() throws(Failure) {
        let mount = runner.mount
        guard let daemon = mount.daemon else {
            return say("no --daemon \(mount.name)=PID: nothing is told of it")
        }
        let directory = mount.directory + "/daemon"
        try makeDirectories(directory)
        try runner.eachRound(.daemon) { () throws(Failure) in
            let path = directory + "/large\(runner.round)"
            try runner.settle(mount)
            try written(path, daemon)
            try read(path, daemon)
            unlink(path)
            try runner.settle(mount)
            try asked(path)
            unlink(path)
            try runner.settle(mount)
            for (name, key) in [("resident", "VmRSS"), ("peak", "VmHWM")] {
                runner.record(
                    try memoryOf(daemon, key), alone("daemon memory, \(name)", .memory), mount)
            }
        }
    }

    private func alone(_ name: String, _ unit: Unit) -> Work {
        Work(.daemon, name, unit, isAlone: true)
    }

    /// CPU seconds until everything is written and has its CID.
    private func written(_ path: String, _ daemon: Int32) throws(Failure) {
        let before = try cpuSeconds(daemon)
        try withFile(path, O_WRONLY | O_CREAT | O_TRUNC) { file throws(Failure) in
            try fill(file)
            guard fsync(file) == 0 else { throw Failure(call: "fsync", path) }
        }
        try runner.waitUntilSealed()
        runner.record(
            (try cpuSeconds(daemon) - before) / gibibytes, alone("daemon CPU, written", .cpu),
            runner.mount)
    }

    private func read(_ path: String, _ daemon: Int32) throws(Failure) {
        try dropCaches()
        for name in ["daemon CPU, read cold", "daemon CPU, read warm"] {
            let before = try cpuSeconds(daemon)
            try withFile(path, O_RDONLY) { file throws(Failure) in
                while true {
                    let count = Glibc.read(file, memory.bytes.baseAddress, memory.bytes.count)
                    guard count >= 0 else { throw Failure(call: "read", path) }
                    if count == 0 { break }
                }
            }
            runner.record(
                (try cpuSeconds(daemon) - before) / gibibytes, alone(name, .cpu), runner.mount)
        }
    }

    /// The time from the return of the last write(2) to the answer to "what is the CID?", asked right
    /// after close(2); without and with an fsync(2) in front of that time.
    private func asked(_ path: String) throws(Failure) {
        let size = runner.options.isQuick ? "256 MiB" : "1 GiB"
        for isSynced in [false, true] {
            let name = "CID after the \(isSynced ? "fsync" : "last write") of \(size)"
            var last = 0.0
            try withFile(path, O_WRONLY | O_CREAT | O_TRUNC) { file throws(Failure) in
                try fill(file)
                if isSynced && fsync(file) != 0 { throw Failure(call: "fsync", path) }
                last = now()
            }
            let cid = try runCommand(
                ["getfattr", "--absolute-names", "--only-values", "-n", "ipfs.cid", path],
                keepOutput: true)
            guard !cid.isEmpty else { throw Failure("\(path) has no CID") }
            runner.record(now() - last, alone(name, .time), runner.mount)
            unlink(path)
            try runner.settle(runner.mount)
        }
    }

    /// Writes the file in pieces of 1 MiB, each one different.
    private func fill(_ file: Int32) throws(Failure) {
        let words = memory.bytes.bindMemory(to: UInt64.self)
        words[0] = UInt64(now() * 1e6)
        for _ in 0..<fileBytes / memory.bytes.count {
            words[0] &+= 1
            try writeAll(file, UnsafeRawBufferPointer(memory.bytes))
        }
    }

    /// User and system time of a process (proc(5): fields 14 and 15 of stat, in clock ticks).
    private func cpuSeconds(_ pid: Int32) throws(Failure) -> Double {
        let text = try readText("/proc/\(pid)/stat")
        // The name, in parentheses, may have blanks in it.
        guard let end = text.lastIndex(of: ")") else { throw Failure("/proc/\(pid)/stat: \(text)") }
        let fields = text[end...].split(separator: " ")
        guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13])
        else { throw Failure("/proc/\(pid)/stat: \(text)") }
        return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// A figure of /proc/PID/status, in MiB.
    private func memoryOf(_ pid: Int32, _ key: String) throws(Failure) -> Double {
        for line in try readText("/proc/\(pid)/status").split(separator: "\n")
        where line.hasPrefix(key + ":") {
            let fields = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            if fields.count > 1, let kibibytes = Double(fields[1]) { return kibibytes / 1024 }
        }
        throw Failure("/proc/\(pid)/status has no \(key)")
    }
}
