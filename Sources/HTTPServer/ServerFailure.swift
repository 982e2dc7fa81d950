/// Why a server cannot be set up: one line that names what and where.
public struct ServerFailure: Error, Hashable, CustomStringConvertible, Sendable {
    public let description: String

    init(_ description: String) {
        self.description = description
    }
}
