import Glibc

/// What Swift cannot call because it is variadic, as far as a daemon needs it.
enum Descriptors {
    /// Marks a descriptor to be closed when the process becomes another program.
    static func closeOnExec(_ descriptor: Int32) {
        // FD_CLOEXEC is the only flag that F_SETFD knows.
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    }

    /// Whether a person looks at a descriptor.
    static func isTerminal(_ descriptor: Int32) -> Bool {
        isatty(descriptor) == 1
    }
}
