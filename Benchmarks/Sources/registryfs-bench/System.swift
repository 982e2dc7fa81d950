import Glibc

/// Seconds on a clock that only goes forward.
func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// The seconds that `body` takes.
func seconds(_ body: () throws(Failure) -> Void) throws(Failure) -> Double {
    let start = now()
    try body()
    return now() - start
}

/// `open(2)`, retried when a signal comes in between.
func openFile(_ path: String, _ flags: Int32, mode: mode_t = 0o644) throws(Failure) -> Int32 {
    while true {
        let descriptor = open(path, flags | O_CLOEXEC, mode)
        if descriptor >= 0 { return descriptor }
        guard errno == EINTR else { throw Failure(call: "open", path) }
    }
}

/// Does `body` with an open file, and closes the file; a failing close(2) is a failure.
func withFile<Value>(
    _ path: String, _ flags: Int32, _ body: (Int32) throws(Failure) -> Value
) throws(Failure) -> Value {
    let descriptor = try openFile(path, flags)
    let value: Value
    do throws(Failure) {
        value = try body(descriptor)
    } catch {
        close(descriptor)
        throw error
    }
    guard close(descriptor) == 0 else { throw Failure(call: "close", path) }
    return value
}

/// Writes all of the bytes at the file's position.
func writeAll(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) throws(Failure) {
    var done = 0
    while done < bytes.count {
        let count = write(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done)
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { throw Failure(call: "write", "descriptor \(descriptor)") }
        done += count
    }
}

/// Makes a directory and those above it; one that is there already is as good.
func makeDirectories(_ path: String) throws(Failure) {
    if mkdir(path, 0o755) == 0 || errno == EEXIST { return }
    guard errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex else {
        throw Failure(call: "mkdir", path)
    }
    try makeDirectories(String(path[..<slash]))
    guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw Failure(call: "mkdir", path) }
}

/// Makes a small file.
func makeFile(_ path: String, _ text: String) throws(Failure) {
    let bytes = ContiguousArray(text.utf8)
    try withFile(path, O_WRONLY | O_CREAT | O_TRUNC) { descriptor throws(Failure) in
        var failure: Failure?
        bytes.withUnsafeBytes { raw in
            do throws(Failure) {
                try writeAll(descriptor, raw)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }
}

/// The text of a small file, of proc(5) too.
func readText(_ path: String) throws(Failure) -> String {
    try withFile(path, O_RDONLY) { descriptor throws(Failure) in
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(descriptor, &piece, piece.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw Failure(call: "read", path) }
            if count == 0 { break }
            bytes.append(contentsOf: piece[..<count])
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// Makes the caches of the kernel cold: page cache, directory entries and inodes of every
/// filesystem, the one below and the mount's alike (proc(5), drop_caches). Needs root.
func dropCaches() throws(Failure) {
    sync()
    try withFile("/proc/sys/vm/drop_caches", O_WRONLY) { descriptor throws(Failure) in
        guard write(descriptor, "3\n", 2) == 2 else {
            throw Failure(call: "write", "/proc/sys/vm/drop_caches")
        }
    }
}

/// Page-aligned memory that is given back when nobody uses it any more.
///
/// The pointer is handed to several threads, which only read from it or have parts of their own.
final class Memory: @unchecked Sendable {
    let bytes: UnsafeMutableRawBufferPointer

    init(count: Int) {
        bytes = .allocate(byteCount: count, alignment: 4096)
    }

    deinit {
        bytes.deallocate()
    }

    /// Bytes that no compressor can shrink (xorshift64*, Vigna 2014).
    func fillWithNoise(seed: UInt64) {
        var state = seed | 1
        let words = bytes.bindMemory(to: UInt64.self)
        for index in words.indices {
            state ^= state >> 12
            state ^= state << 25
            state ^= state >> 27
            words[index] = state &* 2_685_821_657_736_338_717
        }
    }

    /// Makes each 4 KiB of the memory differ from what any other stamp gives.
    func stamp(_ value: UInt64) {
        let words = bytes.bindMemory(to: UInt64.self)
        for index in stride(from: 1, to: words.count, by: 512) {
            words[index] = value &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(index)
        }
    }
}

/// Calls `body` on some threads, each with its index, and throws the first failure of them.
///
/// Plain threads: what is measured blocks in system calls, and must not block Swift's own pool.
func onThreads(
    _ count: Int, _ body: @escaping @Sendable (Int) throws(Failure) -> Void
) throws(Failure) {
    var threads: [pthread_t] = []
    var jobs: [ThreadJob] = []
    for index in 0..<count {
        let job = ThreadJob { () throws(Failure) in try body(index) }
        var thread = pthread_t()
        let retained = Unmanaged.passRetained(job)
        guard pthread_create(&thread, nil, startThread, retained.toOpaque()) == 0 else {
            retained.release()
            break
        }
        threads.append(thread)
        jobs.append(job)
    }
    for thread in threads { pthread_join(thread, nil) }
    guard threads.count == count else { throw Failure("a thread could not be started") }
    for job in jobs {
        if let failure = job.failure { throw failure }
    }
}

/// What one thread does. `failure` is written by the thread and read after it was joined.
private final class ThreadJob: @unchecked Sendable {
    let body: () throws(Failure) -> Void
    var failure: Failure?

    init(_ body: @escaping () throws(Failure) -> Void) {
        self.body = body
    }
}

private func startThread(_ pointer: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let pointer else { return nil }
    let job = Unmanaged<ThreadJob>.fromOpaque(pointer).takeRetainedValue()
    do throws(Failure) {
        try job.body()
    } catch {
        job.failure = error
    }
    return nil
}
