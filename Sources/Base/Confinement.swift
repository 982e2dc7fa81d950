internal import CShims
internal import Glibc

/// What a process asks the kernel to take from it, for good (prctl(2)).
public enum Confinement {
    /// No program that it starts gets rights by set-id bits or capabilities of files.
    public static func refuseNewPrivileges() { _ = rfs_no_new_privileges() }

    /// Gives up what a daemon that started it has: the kernel may let it wait for memory like any other, and end it
    /// where there is none. Needs root's rights.
    public static func takeNoPrecedence() {
        _ = rfs_end_io_flusher()
        guard let file = try? Sys.open("/proc/self/oom_score_adj", flags: O_WRONLY) else { return }
        _ = "0\n".withCString { Glibc.write(file.raw, $0, 2) }
    }

    /// No other process of its user reads its memory, and it leaves no core.
    public static func hideMemory() { _ = rfs_not_dumpable() }

    /// Has the process end by SIGTERM with the thread that started it. The kernel forgets that when the process changes its
    /// user, so it is asked after that.
    public static func endWithParent() { _ = rfs_end_with_parent() }

    /// Has a program that is spawned begin with the three standard descriptors alone: not all that a process has open is
    /// closed by exec.
    ///
    /// - Parameter actions: a `posix_spawn_file_actions_t`.
    /// - Returns: 0, or an errno.
    public static func closeOthers(_ actions: UnsafeMutableRawPointer) -> Int32 {
        rfs_spawn_closes_others(actions)
    }
}
