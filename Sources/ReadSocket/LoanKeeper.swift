internal import Base
internal import Glibc
internal import Multiformats

internal import struct SystemPackage.Errno

/// The client's loans, and what its thread is to send: ends of loans, and blocks that will be asked for.
///
/// Whoever lets go of a file last may hold any lock, so the end of a loan takes none: its number goes into a pipe, by
/// one write(2) that never blocks and is never cut (pipe(7), PIPE_BUF). The same pipe wakes the thread.
final class LoanKeeper: Sendable {
    private struct State {
        var lastNumber: UInt64 = 0
        var outCount = 0
        var expected: [CID] = []
        /// Ends that the pipe had no room for.
        var ended: [UInt64] = []
        var isWoken = false
    }

    private let countMax: Int
    private let reading: OwnedDescriptor
    private let writing: OwnedDescriptor
    private let state = Monitor(State())

    /// - Parameter countMax: of loans at a time; what is asked for beyond that comes as bytes.
    init(countMax: Int) throws(Errno) {
        let (reading, writing) = try Sys.pipe()
        self.reading = OwnedDescriptor(reading)
        self.writing = OwnedDescriptor(writing)
        self.countMax = countMax
    }

    /// What has something to read when there is something to send.
    var raw: Int32 { reading.raw }

    /// How many numbers are out.
    var count: Int { state.withLock { $0.outCount } }

    /// A number for what may be lent next, to be given to `end` or `unused`; 0 where there are too many.
    func number() -> UInt64 {
        state.withLock { state in
            guard state.outCount < countMax else { return 0 }
            state.outCount += 1
            state.lastNumber += 1
            return state.lastNumber
        }
    }

    /// Nothing was lent by a number, as the daemon has said.
    func unused(_ number: UInt64) {
        if number != 0 { state.withLock { $0.outCount -= 1 } }
    }

    /// Has the daemon told that a loan ends, or that one should that may have been made. Takes no lock.
    func end(_ number: UInt64) {
        if number != 0, !put(number) {
            // Only a user with too many pipes has one that is so small.
            state.withLock { $0.ended.append(number) }
        }
    }

    /// Has the daemon told of blocks that will be asked for; drops what is too much.
    func expect(_ cids: [CID]) {
        let isFirst = state.withLock { state in
            let room = ReadProtocol.expectedMax - state.expected.count
            state.expected += cids.prefix(max(0, room))
            defer { state.isWoken = true }
            return !state.isWoken
        }
        if isFirst { _ = put(0) }
    }

    /// Wakes the thread.
    func wake() { _ = put(0) }

    private func put(_ number: UInt64) -> Bool {
        withUnsafeBytes(of: number) { Glibc.write(writing.raw, $0.baseAddress, $0.count) } == 8
    }

    /// Takes what is to be sent; for the thread.
    func take() -> (ended: [UInt64], expected: [CID]) {
        // The pipe first: what comes after that wakes the thread again.
        var ended: [UInt64] = []
        var numbers = [UInt64](repeating: 0, count: 512)
        while true {
            let count = numbers.withUnsafeMutableBytes {
                Glibc.read(reading.raw, $0.baseAddress, $0.count)
            }
            guard count > 0 else { break }
            // 0 only wakes.
            ended += numbers[..<(count / 8)].filter { $0 != 0 }
        }
        return state.withLock { state in
            ended += state.ended
            state.outCount -= ended.count
            defer {
                state.expected = []
                state.ended = []
                state.isWoken = false
            }
            return (ended, state.expected)
        }
    }
}
