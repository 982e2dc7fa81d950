import Base
import Glibc

/// What a daemon sets for its whole process.
enum DaemonProcess {
    /// Blocks the signals that end the daemon, for this thread and all that it starts.
    static func blockSignals() -> sigset_t {
        var signals = sigset_t()
        sigemptyset(&signals)
        for signal in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&signals, signal) }
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        signal(SIGPIPE, SIG_IGN)
        return signals
    }

    /// Closes what the starter of a background daemon had open: whoever waits for the end of a
    /// pipe must not wait for this process.
    static func closeInherited(above pipe: Int32) {
        for name in (try? Sys.names(in: AT_FDCWD, path: "/proc/self/fd")) ?? [] {
            if let descriptor = Int32(name), descriptor > pipe { close(descriptor) }
        }
    }

    static func waitForSignal(_ signals: sigset_t) -> Int32 {
        var signals = signals
        var number: Int32 = 0
        while sigwait(&signals, &number) != 0 {}
        return number
    }

    /// What helps a filesystem's process to live; each is done as far as the rights go.
    static func prepare() {
        // A working directory would keep its filesystem busy, and modes are the callers' to give.
        _ = chdir("/")
        umask(0o077)
        // The kernel needs this process to write pages out, so it must not wait for that itself,
        // nor be the one that is killed.
        Threads.becomeIOFlusher()
        Heap.bound()
        if let file = try? Sys.open("/proc/self/oom_score_adj", flags: O_WRONLY) {
            SystemFiles.say("-1000\n", to: file.raw)
        }
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}
