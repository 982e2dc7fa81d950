internal import Synchronization

/// Work of this process that keeps processors busy for milliseconds and that requests must not wait
/// for: hashing of large files and of trees, sending to a Kubo node, bringing a database up to date, exports.
public final class BackgroundWork: Sendable {
    private let count = Atomic<Int>(0)
    private let whenItBegins = Monitor<(@Sendable () -> Void)?>(nil)

    public init() {}

    /// Whether there is some.
    public var isUnderWay: Bool { count.load(ordering: .sequentiallyConsistent) > 0 }

    /// Has somebody told of each begin, on the thread that begins and before it does.
    public func observe(_ whenItBegins: @escaping @Sendable () -> Void) {
        self.whenItBegins.withLock { $0 = whenItBegins }
    }

    /// Does such work.
    public func run<Result, Failure: Error>(
        _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        if count.add(1, ordering: .sequentiallyConsistent).oldValue == 0 {
            whenItBegins.withLock { $0 }?()
        }
        defer { count.subtract(1, ordering: .sequentiallyConsistent) }
        return try body()
    }
}
