internal import Base

internal import struct SystemPackage.Errno

/// What comes of a thread's try to take part in its queue, told once.
final class StartupResult: Sendable {
    private let outcome = Monitor<Errno??>(nil)

    func tell(_ error: Errno?) {
        outcome.withLock { $0 = .some(error) }
        outcome.wakeAll()
    }

    /// Blocks until it is told; nil where the thread takes part.
    func wait() -> Errno? {
        outcome.withLock { outcome in
            while true {
                if let told = outcome { return told }
                self.outcome.wait(&outcome)
            }
        }
    }
}
