internal import Foundation

/// The body of a request on its way from the connection to the command that reads it.
///
/// `@unchecked Sendable`: everything is read and written with `condition` locked.
final class BodyPipe: @unchecked Sendable {
    /// Beyond, the connection is not read until the command has caught up; in bytes.
    static let bufferedMax = 1 << 20

    enum End {
        case whole
        /// The client went away in the middle.
        case cut
    }

    private let condition = NSCondition()
    private var pieces: [[UInt8]] = []
    private var bufferedCount = 0
    private var end: End?
    private var isDiscarding = false
    private var isPaused = false
    /// Reads the connection again.
    private let resume: @Sendable () -> Void

    init(resume: @escaping @Sendable () -> Void) {
        self.resume = resume
    }

    /// - Returns: whether the connection may be read on.
    func push(_ piece: [UInt8]) -> Bool {
        condition.lock()
        defer { condition.unlock() }
        guard !isDiscarding, end == nil else { return true }
        pieces.append(piece)
        bufferedCount += piece.count
        // What was on its way when reading was paused comes nevertheless, and does not end the pause.
        if bufferedCount > Self.bufferedMax { isPaused = true }
        condition.signal()
        return !isPaused
    }

    /// The first end counts.
    func finish(_ end: End) {
        condition.lock()
        defer { condition.unlock() }
        if self.end == nil { self.end = end }
        condition.broadcast()
    }

    var isEnded: Bool {
        condition.lock()
        defer { condition.unlock() }
        return end != nil && pieces.isEmpty
    }

    /// The next piece, never empty; nil at the end. Blocks until there is one.
    ///
    /// - Throws: `gone` if the body was cut.
    func next() throws(Halt) -> [UInt8]? {
        condition.lock()
        while pieces.isEmpty, end == nil { condition.wait() }
        guard !pieces.isEmpty else {
            let isWhole = end == .whole
            condition.unlock()
            guard isWhole else { throw .gone }
            return nil
        }
        let piece = pieces.removeFirst()
        bufferedCount -= piece.count
        let isResuming = isPaused && bufferedCount <= Self.bufferedMax / 2
        if isResuming { isPaused = false }
        condition.unlock()
        if isResuming { resume() }
        return piece
    }

    /// Forgets what comes from now on.
    func discard() {
        condition.lock()
        pieces = []
        bufferedCount = 0
        isDiscarding = true
        let isResuming = isPaused
        isPaused = false
        condition.unlock()
        if isResuming { resume() }
    }
}
