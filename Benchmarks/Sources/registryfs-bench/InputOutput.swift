import Glibc

/// One large file, written and read front to back and at random places.
///
/// "Cold" is with all caches dropped; "warm" is the same once more, right after.
struct InputOutput {
    private let runner: Runner
    private let fileBytes: Int
    private let sizes: [(name: String, bytes: Int)] = [
        ("4 KiB", 4 << 10), ("32 KiB", 32 << 10), ("1 MiB", 1 << 20),
    ]
    private let memory = Memory(count: 1 << 20)

    init(_ runner: Runner) {
        self.runner = runner
        fileBytes = runner.options.isQuick ? 128 << 20 : 512 << 20
        memory.fillWithNoise(seed: 7)
    }

    func run() throws(Failure) {
        for target in runner.targets {
            try makeDirectories(target.directory + "/io")
            _ = try writeFile(readPath(target), size: 1 << 20)
        }
        // The files that are read have their CIDs by now, as most of what a registry serves has.
        for target in runner.targets { try runner.settle(target) }
        try runner.eachRound(.io) { () throws(Failure) in
            try writes()
            try reads()
            try randomReads()
        }
        for target in runner.targets { unlink(readPath(target)) }
    }

    private func readPath(_ target: Target) -> String { target.directory + "/io/read" }
    private func newPath(_ target: Target) -> String { target.directory + "/io/new" }

    private func writes() throws(Failure) {
        for size in sizes.dropLast() {
            try runner.measure(
                Work(.io, "write \(size.name), fsync", .throughput), settles: true,
                cleanUp: { target throws(Failure) in unlink(newPath(target)) },
                { target throws(Failure) in
                    try writeFile(newPath(target), size: size.bytes)
                })
        }
        // And read again at once, when no CID of it is there yet.
        let works = ["write 1 MiB, fsync", "read 1 MiB, just written, cold"]
        try runner.measure(
            works.map { Work(.io, $0, .throughput) }, settles: true,
            cleanUp: { target throws(Failure) in unlink(newPath(target)) },
            { target throws(Failure) in
                let written = try writeFile(newPath(target), size: 1 << 20)
                try dropCaches()
                return [written, try readFile(newPath(target), size: 1 << 20)]
            })
    }

    private func reads() throws(Failure) {
        for size in sizes {
            let works = ["cold", "warm"].map { Work(.io, "read \(size.name), \($0)", .throughput) }
            try runner.measure(
                works, prepare: { _ throws(Failure) in try dropCaches() },
                { target throws(Failure) in
                    let path = readPath(target)
                    return [
                        try readFile(path, size: size.bytes),
                        try readFile(path, size: size.bytes, passes: 4),
                    ]
                })
        }
    }

    private func randomReads() throws(Failure) {
        let names = ["4 KiB, cold", "128 KiB, cold", "4 KiB, warm", "128 KiB, warm"]
        try runner.measure(names.map { Work(.io, "random read \($0)", .rate) }) {
            target throws(Failure) in
            let path = readPath(target)
            var rates: [Double] = []
            for (size, count) in [(4 << 10, 4096), (128 << 10, 1024)] {
                try dropCaches()
                rates.append(try readRandomly(path, size: size, count: count))
            }
            _ = try readFile(path, size: 1 << 20)
            // More of them when warm: they take no time, and a figure needs some.
            for (size, count) in [(4 << 10, 1 << 17), (128 << 10, 1 << 13)] {
                rates.append(try readRandomly(path, size: size, count: count))
            }
            return rates
        }
    }

    /// Writes a new file and makes it durable; MiB/s, the fsync included.
    private func writeFile(_ path: String, size: Int) throws(Failure) -> Double {
        memory.stamp(UInt64(now() * 1e6))
        let piece = UnsafeRawBufferPointer(memory.bytes)
        let time = try seconds { () throws(Failure) in
            try withFile(path, O_WRONLY | O_CREAT | O_TRUNC) { file throws(Failure) in
                for index in 0..<fileBytes / size {
                    let start = index * size % piece.count
                    try writeAll(file, .init(rebasing: piece[start..<start + size]))
                }
                guard fsync(file) == 0 else { throw Failure(call: "fsync", path) }
            }
        }
        return Double(fileBytes >> 20) / time
    }

    /// Reads a file front to back, and opens it anew for each pass; MiB/s.
    private func readFile(
        _ path: String, size: Int, passes: Int = 1
    ) throws(Failure) -> Double {
        var total = 0
        let time = try seconds { () throws(Failure) in
            for _ in 0..<passes { total += try readOnce(path, size: size) }
        }
        guard total == passes * fileBytes else { throw Failure("\(path): \(total) bytes read") }
        return Double(total >> 20) / time
    }

    private func readOnce(_ path: String, size: Int) throws(Failure) -> Int {
        try withFile(path, O_RDONLY) { file throws(Failure) in
            var total = 0
            while true {
                let count = read(file, memory.bytes.baseAddress, size)
                guard count >= 0 else { throw Failure(call: "read", path) }
                if count == 0 { return total }
                total += count
            }
        }
    }

    /// Reads at random places, one after another; reads a second.
    private func readRandomly(_ path: String, size: Int, count: Int) throws(Failure) -> Double {
        // The same places on each filesystem, others in each round.
        var random = UInt64(runner.round) &* 0x9E37_79B9 | 1
        let time = try seconds { () throws(Failure) in
            try withFile(path, O_RDONLY) { file throws(Failure) in
                for _ in 0..<count {
                    random ^= random << 13
                    random ^= random >> 7
                    random ^= random << 17
                    let place = Int(random % UInt64(fileBytes / size)) * size
                    guard pread(file, memory.bytes.baseAddress, size, off_t(place)) == size else {
                        throw Failure(call: "pread", path)
                    }
                }
            }
        }
        return Double(count) / time
    }
}
