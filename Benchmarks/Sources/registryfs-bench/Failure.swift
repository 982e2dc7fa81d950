import Glibc

/// What went wrong, as one line for a person.
struct Failure: Error {
    let message: String

    init(_ message: String) {
        self.message = message
    }

    /// A system call that failed, with the `errno` that it left.
    init(call: String, _ path: String, errno code: Int32 = errno) {
        message = "\(call) \(path): \(String(cString: strerror(code)))"
    }
}

/// Writes one line to standard error.
func say(_ line: String) {
    writeOut(line + "\n", to: STDERR_FILENO)
}

/// Writes text to a descriptor; what cannot be written is lost, for nobody is left to tell.
func writeOut(_ text: String, to descriptor: Int32) {
    let bytes = ContiguousArray(text.utf8)
    bytes.withUnsafeBytes { raw in
        var done = 0
        while done < raw.count {
            let count = write(descriptor, raw.baseAddress?.advanced(by: done), raw.count - done)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return }
            done += count
        }
    }
}
