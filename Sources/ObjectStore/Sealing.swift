internal import Base
package import MerkleDAG

package import struct SystemPackage.Errno

/// Why sealing stopped without a result.
package enum SealInterruption: Error, Sendable {
    /// The content changed meanwhile, or the caller has no use for the result any more.
    case outdated
    /// The flat file is shorter than the content is said to be.
    case truncated
    case failed(Errno)
}

extension SealResult {
    /// Computes the DAG of a flat file. Reads the file once; keeps two chunks for each thread,
    /// the leaves' hashes and the interior nodes in memory.
    ///
    /// - Parameters:
    ///   - helpers: threads that hash beside the caller's.
    ///   - isWanted: asked before each two chunks of the caller's; false ends the work with `outdated`.
    ///   - onLeaf: told each leaf with its number, in no strict order, on the thread that hashed it.
    package static func sealing(
        _ file: ObjectFile, size: UInt64, profile: ImportProfile, helpers: Int = 0,
        isWanted: () -> Bool, onLeaf: (@Sendable (Int, Leaf) -> Void)? = nil
    ) throws(SealInterruption) -> SealResult {
        // What is kept for each leaf is made for all of them first, and a damaged row may tell any size.
        let fileSize: UInt64
        do throws(Errno) {
            fileSize = try Sys.status(of: file.raw).size
        } catch {
            throw .failed(error)
        }
        guard fileSize >= size else { throw .truncated }
        let hashing = LeafHashing(file: file, size: size, profile: profile, onLeaf: onLeaf)
        var threads: [JoinableThread] = []
        // Short files are hashed before a thread has started.
        for _ in 0..<(hashing.count >= LeafHashing.countForHelpers ? helpers : 0) {
            guard
                let thread = try? Threads.start(
                    name: "rfs-hash",
                    { [hashing] in
                        Threads.lowerPriority()
                        hashing.work { true }
                    })
            else { break }
            threads.append(thread)
        }
        hashing.work(isWanted)
        for thread in threads { thread.join() }
        let leaves = try hashing.result()
        var assembler = FileDAGAssembler(profile: profile)
        for leaf in leaves { assembler.add(leaf) }
        return assembler.finish()
    }
}

/// The leaves of a flat file, hashed by several threads, each of which takes the next two chunks.
private final class LeafHashing: Sendable {
    private struct Progress {
        var next = 0
        var leaves: [Leaf?]
        var failure: SealInterruption?
        /// What the failing thread left behind.
        var cause: String?
    }

    static let countForHelpers = 4

    private let file: ObjectFile
    private let size: UInt64
    private let profile: ImportProfile
    private let onLeaf: (@Sendable (Int, Leaf) -> Void)?
    let count: Int
    private let progress: Monitor<Progress>

    init(
        file: ObjectFile, size: UInt64, profile: ImportProfile,
        onLeaf: (@Sendable (Int, Leaf) -> Void)?
    ) {
        self.file = file
        self.size = size
        self.profile = profile
        self.onLeaf = onLeaf
        let chunk = UInt64(profile.chunkSize)
        // An empty file has one leaf without bytes.
        count = max(1, Int(size / chunk + (size % chunk == 0 ? 0 : 1)))
        progress = Monitor(Progress(leaves: [Leaf?](repeating: nil, count: count)))
    }

    /// Hashes until no chunk is left or the work has failed.
    func work(_ isWanted: () -> Bool) {
        let buffer = OwnedBuffer(byteCount: min(2, count) * profile.chunkSize)
        while true {
            let isOutdated = !isWanted()
            let numbers = progress.withLock { progress -> Range<Int>? in
                if isOutdated, progress.failure == nil { progress.failure = .outdated }
                guard progress.failure == nil, progress.next < count else { return nil }
                let first = progress.next
                progress.next = min(count, first + 2)
                return first..<progress.next
            }
            guard let numbers else { return }
            do throws(SealInterruption) {
                let leaves = try hash(numbers, buffer.bytes)
                progress.withLock { $0.leaves.replaceSubrange(numbers, with: leaves) }
                guard let onLeaf else { continue }
                for (number, leaf) in zip(numbers, leaves) { onLeaf(number, leaf) }
            } catch {
                let cause = FailureCause.take()
                progress.withLock { progress in
                    progress.failure = error
                    progress.cause = cause
                }
            }
        }
    }

    private func hash(
        _ numbers: Range<Int>, _ buffer: UnsafeMutableRawBufferPointer
    ) throws(SealInterruption) -> [Leaf] {
        let offset = UInt64(numbers.lowerBound) * UInt64(profile.chunkSize)
        let wanted = Int(min(UInt64(numbers.count * profile.chunkSize), size - offset))
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
        let count: Int
        do throws(Errno) {
            count = try Sys.read(file.raw, at: offset, into: part)
        } catch {
            throw .failed(error)
        }
        guard count == wanted else { throw .truncated }
        return profile.leaves(of: UnsafeRawBufferPointer(part))
    }

    /// All leaves in order, once every thread has ended.
    func result() throws(SealInterruption) -> [Leaf] {
        try progress.withLock { (progress) throws(SealInterruption) in
            if let cause = progress.cause { FailureCause.note(cause) }
            if let failure = progress.failure { throw failure }
            return progress.leaves.compactMap(\.self)
        }
    }
}
