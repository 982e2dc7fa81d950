package import Base

/// The extended attributes of one inode while they are in memory, and which of them a commit and SQLite
/// have to be told of: those alone, so that a change of one costs what that one is long.
package final class AttributeTable {
    package private(set) var values: [FileName: [UInt8]]
    /// Bytes of all names, each with its NUL, as listxattr(2) tells them.
    package private(set) var nameByteCount = 0
    /// Bytes of all values.
    package private(set) var valueByteCount = 0
    /// Set or removed since the last commit.
    private(set) var uncommitted: Set<FileName> = []
    /// Set or removed, and SQLite has not been told.
    private(set) var notCheckpointed: Set<FileName> = []

    init(_ values: [FileName: [UInt8]] = [:]) {
        self.values = values
        for (name, value) in values { count(name, value, 1) }
    }

    /// Sets an attribute, or removes it with nil.
    func set(_ name: FileName, to value: [UInt8]?) {
        if let old = values[name] { count(name, old, -1) }
        values[name] = value
        if let value { count(name, value, 1) }
        uncommitted.insert(name)
    }

    private func count(_ name: FileName, _ value: [UInt8], _ sign: Int) {
        nameByteCount += sign * (name.bytes.count + 1)
        valueByteCount += sign * value.count
    }

    /// Takes what a commit has to be told.
    func takeUncommitted() -> [AttributeChange] {
        defer {
            notCheckpointed.formUnion(uncommitted)
            uncommitted = []
        }
        return changes(uncommitted)
    }

    /// Takes what SQLite has to be told.
    func takeNotCheckpointed() -> [AttributeChange] {
        defer { notCheckpointed = [] }
        return changes(notCheckpointed)
    }

    /// Notes that a commit failed, or that SQLite could not be told.
    func restore(_ changes: [AttributeChange], isCommit: Bool) {
        let names = changes.map(\.name)
        if isCommit { uncommitted.formUnion(names) } else { notCheckpointed.formUnion(names) }
    }

    private func changes(_ names: Set<FileName>) -> [AttributeChange] {
        names.map { AttributeChange(name: $0, value: values[$0]) }
    }
}

/// A change of one extended attribute.
struct AttributeChange: Sendable {
    let name: FileName
    /// Nil where the attribute is removed.
    let value: [UInt8]?
}
