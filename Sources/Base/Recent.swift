/// Values by key, of which those stay that were noted lately; a bounded memory of what was.
///
/// In two generations: what is noted goes into the newer one. Once that has `countMax` keys, the next
/// new key drops the older generation whole and begins another. So at least the `countMax` keys that
/// were noted last are known, and at most twice as many are kept; each call takes constant time, but
/// for the one that drops a generation. Not thread safe.
public struct Recent<Key: Hashable, Value> {
    /// How many of the keys that were noted last are known for certain; twice as many are kept at most.
    public let countMax: Int
    /// What was noted since `older` was begun, and what was in it then.
    private var newer: [Key: Value] = [:]
    private var older: [Key: Value] = [:]

    /// - Parameter countMax: 1 or more.
    public init(countMax: Int) {
        precondition(countMax > 0, "a memory of nothing")
        self.countMax = countMax
    }

    /// What was noted last of a key; nil where that is long ago, or never was.
    public subscript(key: Key) -> Value? { newer[key] ?? older[key] }

    /// Whether the next new key begins another generation.
    public var isFull: Bool { newer.count >= countMax }

    /// Notes a value of a key, in place of the one before.
    public mutating func note(_ key: Key, _ value: Value) {
        guard isFull, newer[key] == nil else {
            newer[key] = value
            return
        }
        turn()
        newer[key] = value
    }

    /// Drops the older generation and begins another: for who also lets time end one.
    public mutating func turn() {
        older = newer
        newer = [:]
    }

    /// Forgets all.
    public mutating func removeAll() {
        older = [:]
        newer = [:]
    }
}

extension Recent: Sendable where Key: Sendable, Value: Sendable {}

extension Recent where Value == Void {
    /// Notes a member.
    public mutating func insert(_ member: Key) { note(member, ()) }

    /// Whether a member was noted lately.
    public func contains(_ member: Key) -> Bool { self[member] != nil }
}
