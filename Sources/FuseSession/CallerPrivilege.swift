internal import Base
internal import Glibc
internal import Volume

/// What the kernel does not say of a caller: whether it may do what the administrator may.
enum CallerPrivilege {
    /// CAP_SYS_ADMIN of capabilities(7).
    private static let administrator: UInt64 = 1 << 21
    /// The number of the initial user namespace (PROC_USER_INIT_INO of the kernel's proc_ns.h).
    private static let initialUserNamespace: UInt64 = 0xeffffffd

    /// Whether the caller has CAP_SYS_ADMIN in the initial user namespace, as the kernel asks of who
    /// would list `trusted.*`. Reads two files of /proc; costs some 30 microseconds. One who is not seen
    /// there, as from outside of this process's PID namespace, has it not.
    static func isAdministrator(_ caller: Caller) -> Bool {
        guard caller.pid > 0, let status = status(of: caller.pid) else { return false }
        // The kernel acts for another user than the process's, as overlayfs does with its mounter's
        // rights, of which nothing else is told.
        guard status.user == caller.uid else { return caller.uid == 0 }
        guard status.capabilities & administrator != 0 else { return false }
        var namespace = stat()
        return stat("/proc/\(caller.pid)/ns/user", &namespace) == 0
            && namespace.st_ino == initialUserNamespace
    }

    /// The user that a thread reaches files as, and its effective capabilities; nil where it is not seen.
    private static func status(of pid: Int32) -> (user: UInt32, capabilities: UInt64)? {
        // As long as it is but for who is in a thousand groups, and so is no administrator's program.
        var bytes = [UInt8](repeating: 0, count: 16 << 10)
        guard let file = try? Sys.open("/proc/\(pid)/status", flags: O_RDONLY) else { return nil }
        let count = bytes.withUnsafeMutableBytes { try? Sys.read(file.raw, at: 0, into: $0) }
        guard let count else { return nil }
        var user: UInt32?
        var capabilities: UInt64?
        for line in bytes[..<count].split(separator: UInt8(ascii: "\n")) {
            // "Uid:", real, effective, saved, and that for files.
            let isUser = line.starts(with: "Uid:".utf8)
            guard isUser || line.starts(with: "CapEff:".utf8),
                let last = line.split(separator: UInt8(ascii: "\t")).last
            else { continue }
            if isUser {
                user = number(of: last, radix: 10)
            } else {
                capabilities = number(of: last, radix: 16)
            }
        }
        guard let user, let capabilities else { return nil }
        return (user, capabilities)
    }

    private static func number<Number: FixedWidthInteger>(
        of digits: ArraySlice<UInt8>, radix: Int
    ) -> Number? {
        Number(String(decoding: digits, as: UTF8.self), radix: radix)
    }
}
