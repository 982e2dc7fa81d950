import struct SystemPackage.Errno

/// Why a command did not do what was asked: one line for the person, and the exit status.
struct Failure: Error, Sendable, CustomStringConvertible {
    /// What callers tell apart; everything else is only its message.
    enum Kind: String, Codable, Sendable {
        case failed
        /// The volume has no such path or block.
        case absent
        /// Something still uses the mount.
        case busy
        /// Nobody answers at the control socket.
        case unreachable
        /// It is another user's, and was not asked.
        case foreign
    }

    let kind: Kind
    /// One line: what, where, and what to do next.
    let message: String
    /// The exit status; 1 unless a command documents another.
    let exitCode: Int32

    init(_ message: String, kind: Kind = .failed, exitCode: Int32 = 1) {
        self.kind = kind
        self.message = message
        self.exitCode = exitCode
    }

    var description: String { message }
}

extension Errno {
    /// The system's words for the error, as in `No such file or directory`.
    var reason: String { description }
}
