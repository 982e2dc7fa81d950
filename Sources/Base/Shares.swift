/// Who holds how much of something of which there is a bounded number.
///
/// Nobody gets more than half of what the others leave, rounded up: one alone half of all, the next
/// half of the rest. So there is something for whoever comes, until as many hold some as the bound has
/// binary digits, whatever a few of them would like to have. Not thread safe.
public struct Shares<User: Hashable & Sendable>: Sendable {
    private var held: [User: Int] = [:]
    /// What all hold together.
    public private(set) var total = 0

    /// Nobody holds any.
    public init() {}

    /// What one holds.
    public func count(of user: User) -> Int { held[user] ?? 0 }

    /// Whether one may take one more of `max`.
    public func mayTake(_ user: User, of max: Int) -> Bool {
        let own = count(of: user)
        let left = max - (total - own)
        return total < max && own < (left + 1) / 2
    }

    /// Notes that one takes one, which nothing keeps from being too many.
    public mutating func take(_ user: User) {
        held[user, default: 0] += 1
        total += 1
    }

    /// Notes that one gives one back.
    ///
    /// - Precondition: it was taken.
    public mutating func giveBack(_ user: User) {
        guard let count = held[user] else {
            preconditionFailure("a share is given back that was not taken")
        }
        held[user] = count == 1 ? nil : count - 1
        total -= 1
    }
}
