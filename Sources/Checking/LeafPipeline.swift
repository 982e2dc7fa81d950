internal import Base
internal import MerkleDAG
internal import ObjectStore

internal import struct SystemPackage.Errno

/// Threads that read and hash leaves, whose results come in the order of the requests.
///
/// Used by one thread; bounded by `leavesMax` leaves under way, of which each thread has one in
/// memory.
final class LeafPipeline: Sendable {
    enum Outcome: Sendable {
        case leaf(Leaf, length: UInt64)
        case failed(Errno, length: UInt64)

        var length: UInt64 {
            switch self {
            case .leaf(_, let length), .failed(_, let length): length
            }
        }
    }

    private struct Request: Sendable {
        let file: ObjectFile
        let offset: UInt64
        let length: Int
    }

    private struct State {
        var requests = [Request?](repeating: nil, count: leavesMax)
        var outcomes = [Outcome?](repeating: nil, count: leavesMax)
        // Running numbers; a place is the number modulo the bound.
        var added = 0
        var begun = 0
        var taken = 0
        var isStopping = false
    }

    private static let leavesMax = 32
    private static let threadsMax = 8

    private let profile: ImportProfile
    private let state = Monitor(State())
    private let threads = Monitor<[JoinableThread]>([])

    init(profile: ImportProfile) {
        self.profile = profile
        let count = min(Threads.processorCount, Self.threadsMax)
        for _ in 0..<count {
            // With fewer threads than wanted it takes longer; without any, `next` does the work.
            let started = try? Threads.start(name: "rfs-check") { [weak self] in self?.work() }
            guard let started else { break }
            threads.withLock { $0.append(started) }
        }
    }

    /// Ends the threads; what is under way is dropped.
    func stop() {
        state.withLock { $0.isStopping = true }
        state.wakeAll()
        for thread in threads.withLock({ $0 }) { thread.join() }
    }

    var hasRoom: Bool { state.withLock { $0.added - $0.taken < Self.leavesMax } }

    /// Asks for a leaf of a flat file.
    ///
    /// - Precondition: `hasRoom`.
    func add(_ file: ObjectFile?, leaf number: UInt64, size: UInt64) {
        guard let file else { preconditionFailure("inline content is hashed where it lies") }
        let offset = number * UInt64(profile.chunkSize)
        let request = Request(
            file: file, offset: offset,
            length: Int(min(UInt64(profile.chunkSize), size - offset)))
        state.withLock { state in
            precondition(state.added - state.taken < Self.leavesMax)
            state.requests[state.added % Self.leavesMax] = request
            state.added += 1
        }
        state.wakeAll()
    }

    /// Waits for the oldest leaf that was asked for.
    ///
    /// - Precondition: there is one.
    func next() -> Outcome {
        let isAlone = threads.withLock { $0.isEmpty }
        if isAlone { step(OwnedBuffer(byteCount: profile.chunkSize)) }
        return state.withLock { state in
            precondition(state.taken < state.added)
            let place = state.taken % Self.leavesMax
            while true {
                if let outcome = state.outcomes[place] {
                    state.outcomes[place] = nil
                    state.taken += 1
                    return outcome
                }
                self.state.wait(&state)
            }
        }
    }

    private func work() {
        let buffer = OwnedBuffer(byteCount: profile.chunkSize)
        while step(buffer) {}
    }

    /// Does the next request; false once there will be none.
    @discardableResult
    private func step(_ buffer: borrowing OwnedBuffer) -> Bool {
        let begun = state.withLock { state -> (Int, Request)? in
            while !state.isStopping {
                let place = state.begun % Self.leavesMax
                if state.begun < state.added, let request = state.requests[place] {
                    state.requests[place] = nil
                    state.begun += 1
                    return (place, request)
                }
                self.state.wait(&state)
            }
            return nil
        }
        guard let (place, request) = begun else { return false }
        let outcome = outcome(of: request, buffer)
        state.withLock { $0.outcomes[place] = outcome }
        state.wakeAll()
        return true
    }

    private func outcome(of request: Request, _ buffer: borrowing OwnedBuffer) -> Outcome {
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<request.length])
        let length = UInt64(request.length)
        do throws(Errno) {
            let count = try Sys.read(request.file.raw, at: request.offset, into: part)
            // The file was as long as that when it was opened.
            guard count == request.length else { throw .ioError }
            return .leaf(profile.leaf(UnsafeRawBufferPointer(part)), length: length)
        } catch {
            return .failed(error, length: length)
        }
    }
}
