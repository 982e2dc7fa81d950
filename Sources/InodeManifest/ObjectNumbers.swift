/// The numbers of objects: each is given out once, ever. Those for flat files are reserved before the file is
/// made, and are in a row only when the object is.
package struct ObjectNumbers {
    /// The number that comes next.
    private var next: UInt64
    /// Flat files that exist, or may, before their row does.
    private var reserved: Set<UInt64> = []
    /// The volume's row says it, or will with the batch that is being committed.
    private var nextStored: UInt64 = 0

    init(next: UInt64) {
        self.next = next
    }

    /// Takes a number for an object that its row has at once.
    mutating func take() -> UInt64 {
        defer { next += 1 }
        return next
    }

    /// Takes a number for a flat file that is about to be made. If the program stops before
    /// `ManifestState.makeObject`, the next opening finds the file and removes it.
    package mutating func reserve() -> UInt64 {
        let id = take()
        reserved.insert(id)
        return id
    }

    /// Ends a reservation: there is an object of the number, or the flat file is gone again.
    package mutating func release(_ id: UInt64) {
        reserved.remove(id)
    }

    /// Whether more than a count of numbers were given out since a reserved one.
    package func isOld(_ id: UInt64, by count: UInt64) -> Bool { next - id > count }

    /// The lowest number that a flat file without a row can have.
    var nextDurable: UInt64 { reserved.min() ?? next }

    /// The number for the volume's row, where it went so far that a crash would leave many flat
    /// files to look through.
    mutating func nextToStore() -> UInt64? {
        let durable = nextDurable
        guard durable > nextStored + ManifestBounds.objectsUnlistedMax else { return nil }
        nextStored = durable
        return durable
    }
}
