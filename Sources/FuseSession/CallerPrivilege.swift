internal import Base
internal import Volume

/// What the kernel does not say of a caller: whether it may do what the administrator may.
enum CallerPrivilege {
    /// Whether the caller has CAP_SYS_ADMIN in the initial user namespace, as the kernel asks of who
    /// would list `trusted.*`. Reads two files of /proc; costs some 30 microseconds. One who is not seen
    /// there, as from outside of this process's PID namespace, has it not.
    static func isAdministrator(_ caller: Caller) -> Bool {
        guard let credentials = ThreadCredentials(thread: caller.pid) else { return false }
        // The kernel acts for another user than the process's, as overlayfs does with its mounter's
        // rights, of which nothing else is told.
        guard credentials.uid == caller.uid else { return caller.uid == 0 }
        return credentials.has(.administrate)
    }
}
