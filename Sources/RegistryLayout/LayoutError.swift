internal import struct SystemPackage.Errno

/// Why a tree was not read or made: one line for the person.
package struct LayoutError: Error, Sendable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }

    init(_ what: String, _ error: Errno) {
        self.init("\(what): \(error)")
    }
}
