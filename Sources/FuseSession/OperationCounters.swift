internal import Base
internal import CFuse
internal import Glibc

internal import struct SystemPackage.Errno

/// How often an operation of the kernel's was asked for, what failed, and how long it took.
public struct OperationReport: Sendable {
    /// As linux/fuse.h has it, in lower case.
    public let name: String
    /// All requests that were served, those that failed among them.
    public let count: UInt64
    /// Those that were answered with an error, by its name in errno(3).
    public let errors: [String: UInt64]
    /// The time from the request's coming to its answer, all together, in microseconds.
    public let microseconds: UInt64
    /// Requests by their time: the first element counts those below 1 µs, each next one those below
    /// twice as much, the last one all that are longer. Without zeros at its end.
    public let histogram: [UInt64]
}

/// Counts requests and their times, by operation.
///
/// Each thread that serves has a table that it alone writes, so that counting costs it two additions;
/// who asks adds the tables up. A thread that ends leaves its table to the next.
final class OperationCounters: Sendable {
    private struct State {
        var all: [OperationTable] = []
        var free: [OperationTable] = []
    }

    private let state = Monitor(State())

    /// A table for the calling thread, until `giveBack`.
    func take() -> OperationTable {
        state.withLock { state in
            if let table = state.free.popLast() { return table }
            let table = OperationTable()
            state.all.append(table)
            return table
        }
    }

    func giveBack(_ table: OperationTable) {
        state.withLock { $0.free.append(table) }
    }

    /// What was counted so far, of the operations that came at all.
    func report() -> [OperationReport] {
        let tables = state.withLock { $0.all }
        var errors: [OperationTable.Failure: UInt64] = [:]
        for table in tables { table.add(to: &errors) }
        return (0..<OperationTable.operationCount).compactMap { operation in
            var row = [UInt64](repeating: 0, count: OperationTable.rowCount)
            for table in tables { table.add(to: &row, operation) }
            let count = row.dropFirst().reduce(0, &+)
            guard count > 0 else { return nil }
            let own = errors.filter { $0.key.operation == operation }
            var histogram = Array(row.dropFirst())
            while histogram.last == 0 { histogram.removeLast() }
            return OperationReport(
                name: OperationName.of(UInt32(operation)), count: count,
                errors: Dictionary(
                    own.map { (OperationName.of(error: $0.key.error), $0.value) },
                    uniquingKeysWith: +),
                microseconds: row[0] / 1000, histogram: histogram)
        }
    }
}

/// What one thread counts.
///
/// Sendable although unchecked: one thread at a time adds to `counts`, by stores that others may read
/// at any moment (C11 relaxed), and the memory lives as long as the table.
final class OperationTable: @unchecked Sendable {
    struct Failure: Hashable {
        let operation: Int
        let error: Int32
    }

    /// More than linux/fuse.h has.
    static let operationCount = 64
    /// Times of 2^22 µs, some 4 s, and more are one.
    static let bucketCount = 24
    /// Nanoseconds in all, then the buckets.
    static let rowCount = 1 + bucketCount

    private let counts: UnsafeMutablePointer<UInt64>
    private let failures = Monitor<[Failure: UInt64]>([:])

    init() {
        let count = Self.operationCount * Self.rowCount
        counts = .allocate(capacity: count)
        counts.initialize(repeating: 0, count: count)
    }

    deinit { counts.deallocate() }

    /// Counts a request that was served.
    func note(_ opcode: UInt32, nanoseconds: Int64) {
        let time = UInt64(clamping: nanoseconds)
        let microseconds = time / 1000
        let bucket = min(64 - microseconds.leadingZeroBitCount, Self.bucketCount - 1)
        let row = counts + Self.index(opcode) * Self.rowCount
        rfs_count(row, time)
        rfs_count(row + 1 + bucket, 1)
    }

    /// Counts an error that a request is answered with.
    func note(_ opcode: UInt32, _ error: Errno) {
        let failure = Failure(operation: Self.index(opcode), error: error.forKernel)
        failures.withLock { $0[failure, default: 0] += 1 }
    }

    func add(to errors: inout [Failure: UInt64]) {
        failures.withLock { errors.merge($0, uniquingKeysWith: +) }
    }

    func add(to row: inout [UInt64], _ operation: Int) {
        for index in 0..<Self.rowCount {
            row[index] &+= rfs_counted(counts + operation * Self.rowCount + index)
        }
    }

    /// 0 stands for what is not known.
    private static func index(_ opcode: UInt32) -> Int {
        opcode < UInt32(operationCount) ? Int(opcode) : 0
    }
}

/// Names for people.
enum OperationName {
    private static let names: [UInt32: String] = [
        1: "lookup", 2: "forget", 3: "getattr", 4: "setattr", 5: "readlink", 6: "symlink",
        8: "mknod", 9: "mkdir", 10: "unlink", 11: "rmdir", 12: "rename", 13: "link", 14: "open",
        15: "read", 16: "write", 17: "statfs", 18: "release", 20: "fsync", 21: "setxattr",
        22: "getxattr", 23: "listxattr", 24: "removexattr", 25: "flush", 26: "init",
        27: "opendir", 28: "readdir", 29: "releasedir", 30: "fsyncdir", 31: "getlk", 32: "setlk",
        33: "setlkw", 34: "access", 35: "create", 36: "interrupt", 37: "bmap", 38: "destroy",
        39: "ioctl", 40: "poll", 41: "notify_reply", 42: "batch_forget", 43: "fallocate",
        44: "readdirplus", 45: "rename2", 46: "lseek", 47: "copy_file_range",
        48: "setupmapping", 49: "removemapping", 50: "syncfs", 51: "tmpfile", 52: "statx",
    ]

    static func of(_ opcode: UInt32) -> String { names[opcode] ?? "unknown" }

    private static let errors: [Int32: String] = [
        EPERM: "EPERM", ENOENT: "ENOENT", EINTR: "EINTR", EIO: "EIO", ENXIO: "ENXIO",
        E2BIG: "E2BIG", EBADF: "EBADF", EAGAIN: "EAGAIN", ENOMEM: "ENOMEM", EACCES: "EACCES",
        EBUSY: "EBUSY", EEXIST: "EEXIST", EXDEV: "EXDEV", ENOTDIR: "ENOTDIR", EISDIR: "EISDIR",
        EINVAL: "EINVAL", ENFILE: "ENFILE", EMFILE: "EMFILE", ENOTTY: "ENOTTY", EFBIG: "EFBIG",
        ENOSPC: "ENOSPC", EROFS: "EROFS", EMLINK: "EMLINK", ERANGE: "ERANGE",
        ENAMETOOLONG: "ENAMETOOLONG", ENOSYS: "ENOSYS", ENOTEMPTY: "ENOTEMPTY", ELOOP: "ELOOP",
        ENODATA: "ENODATA", EOPNOTSUPP: "EOPNOTSUPP", ESTALE: "ESTALE", EDQUOT: "EDQUOT",
    ]

    static func of(error: Int32) -> String { errors[error] ?? "errno \(error)" }
}
