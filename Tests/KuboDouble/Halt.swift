internal import Multiformats

/// What a node answers when it cannot do what it was told.
struct CommandError: Error {
    var message: String
    /// Kubo's own number: 0 for an error, 1 for a request that makes no sense.
    var code = 0
    var status = 500
    /// Answered as it is, and not as JSON.
    var isText = false

    init(_ message: String, code: Int = 0, status: Int = 500) {
        self.message = message
        self.code = code
        self.status = status
    }

    /// What is said of a query that is no call.
    static func badRequest(_ message: String) -> CommandError {
        var error = CommandError(message + "\n", code: 1, status: 400)
        error.isText = true
        return error
    }

    static func missing(_ cid: CID) -> CommandError {
        CommandError("block was not found locally (offline): ipld: could not find \(cid)")
    }

    static let expired = CommandError("context deadline exceeded")
}

/// Why a command ends before it is done.
enum Halt: Error {
    case error(CommandError)
    /// A block is not here. Whoever runs the command waits for it, as a node asks its peers, and
    /// begins anew.
    case missing(CID)
    /// Nobody is there to answer.
    case gone

    static func failed(_ message: String) -> Halt { .error(CommandError(message)) }
}
