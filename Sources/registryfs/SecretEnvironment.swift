import Base
import Glibc
import Kubo

/// The Kubo node's credentials from the environment, which they are taken out of when the program begins: every
/// child would get them, and `/proc/PID/environ` show them as long as the process lives.
enum SecretEnvironment {
    private static let name = KuboCredentials.environmentName
    private static let taken = Monitor<String?>(nil)

    /// Takes them. Called once, before there are other threads.
    static func take() {
        guard let value = getenv(name) else { return }
        let text = String(cString: value)
        taken.withLock { $0 = text }
        // The memory itself: it is what the kernel shows, whatever the process thinks of it. A name may stand
        // there more than once.
        var entry = environ
        while let variable = entry.pointee {
            if strncmp(variable, name + "=", name.utf8.count + 1) == 0 {
                let secret = variable + name.utf8.count + 1
                memset(secret, 0x2a, strlen(secret))
            }
            entry += 1
        }
        unsetenv(name)
    }

    /// What was taken, as variables.
    static var variables: [String: String] {
        taken.withLock { text in text.map { [name: $0] } ?? [:] }
    }

    /// Runs a body with the variable in the environment, for a child that is to take it there.
    static func lend<Result, Failure: Error>(
        _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        for (name, text) in variables { setenv(name, text, 1) }
        defer { unsetenv(name) }
        return try body()
    }
}
