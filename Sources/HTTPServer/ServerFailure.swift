/// Why a server cannot be set up: one line that names what and where.
public struct ServerFailure: Error, Hashable, CustomStringConvertible, Sendable {
    public let description: String
    /// Whether the machine has no such address, or not its family.
    let isOfAddress: Bool

    init(_ description: String, isOfAddress: Bool = false) {
        self.description = description
        self.isOfAddress = isOfAddress
    }
}
