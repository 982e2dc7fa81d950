internal import CShims
internal import Glibc

public import struct SystemPackage.Errno

/// Threads of our own, so that blocking work never occupies Swift's cooperative pool.
public enum Threads {
    /// The processors that are online, at least 1.
    public static var processorCount: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

    /// Blocks the calling thread for a time.
    public static func sleep(milliseconds: UInt32) {
        usleep(milliseconds * 1000)
    }

    /// Blocks the calling thread for a time below a second.
    public static func sleep(microseconds: UInt32) {
        usleep(microseconds)
    }

    /// Keeps the calling thread on one processor; false where that is not allowed, or there is no
    /// such processor now.
    @discardableResult
    public static func pin(toProcessor number: Int) -> Bool {
        rfs_pin_to_processor(Int32(number)) == 0
    }

    /// The number that the kernel has for the calling thread (gettid(2)).
    public static var current: Int32 { rfs_current_thread() }

    /// Has a thread run for shorter times, but sooner after it was woken, and ends `goBehind`.
    ///
    /// - Returns: false where that is not allowed: to leave SCHED_IDLE takes CAP_SYS_NICE, or a nice
    ///   value that RLIMIT_NICE lets one take (sched(7)).
    @discardableResult
    public static func preferLatency(_ thread: Int32 = current) -> Bool {
        rfs_prefer_latency(thread) == 0
    }

    /// Has a thread run only where nobody else of its group wants the processor (SCHED_IDLE of sched(7)).
    @discardableResult
    public static func goBehind(_ thread: Int32 = current) -> Bool { rfs_go_behind(thread) == 0 }

    /// Starts a thread that runs the body once.
    ///
    /// - Parameter name: shown in /proc/PID/task/TID/comm, cut to 15 bytes.
    /// - Throws: EAGAIN where the system has no thread to give.
    public static func start(
        name: String, _ body: @escaping @Sendable () -> Void
    ) throws(Errno) -> JoinableThread {
        let start = Unmanaged.passRetained(ThreadStart(name: name, body: body))
        var thread = pthread_t()
        let code = pthread_create(&thread, nil, threadMain, start.toOpaque())
        guard code == 0 else {
            start.release()
            throw Errno(rawValue: code)
        }
        return JoinableThread(thread)
    }
}

extension Threads {
    /// Starts a thread that nobody waits for: what it takes is free once its body has returned.
    ///
    /// - Throws: EAGAIN where the system has no thread to give.
    public static func startDetached(
        name: String, _ body: @escaping @Sendable () -> Void
    ) throws(Errno) {
        try start(name: name, body).detach()
    }
}

/// A started thread; join it once.
public struct JoinableThread: Sendable {
    private let thread: pthread_t

    fileprivate init(_ thread: pthread_t) {
        self.thread = thread
    }

    fileprivate func detach() {
        pthread_detach(thread)
    }

    /// Blocks until the thread's body has returned.
    public func join() {
        pthread_join(thread, nil)
    }
}

private final class ThreadStart: Sendable {
    let name: String
    let body: @Sendable () -> Void

    init(name: String, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }
}

private func threadMain(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let context else { return nil }
    let start = Unmanaged<ThreadStart>.fromOpaque(context).takeRetainedValue()
    rfs_set_thread_name(String(start.name.prefix(15)))
    // What serves a queue of requests is kept on one processor, and starts threads for other work.
    rfs_unpin()
    start.body()
    return nil
}

/// `rfs_condition_wait` for `Monitor`, whose file cannot import CShims beside `timespec`.
func waitForCondition(
    _ condition: UnsafeMutableRawPointer, _ mutex: UnsafeMutableRawPointer,
    _ deadline: UnsafeRawPointer?, _ guarded: UnsafeMutableRawPointer
) {
    rfs_condition_wait(condition, mutex, deadline, guarded)
}

extension Threads {
    /// Lets other threads go first when processors are short (nice value 10 for this thread alone;
    /// setpriority(2), "C library/kernel differences").
    public static func lowerPriority() {
        rfs_lower_priority()
    }

    /// Marks this thread, and those that it starts, as one that the kernel needs to write pages
    /// out: its allocations never wait for that (PR_SET_IO_FLUSHER of prctl(2)).
    ///
    /// - Returns: false without CAP_SYS_RESOURCE, or before Linux 5.6.
    @discardableResult
    public static func becomeIOFlusher() -> Bool {
        rfs_become_io_flusher() == 0
    }
}
