internal import Base

internal import struct SystemPackage.Errno

/// The open file descriptions by number.
final class HandleTable: Sendable {
    private struct Table {
        var handles: [UInt64: FileHandle] = [:]
        var next: UInt64 = 1
    }

    private let table = Monitor(Table())

    func insert(_ handle: FileHandle) -> HandleID {
        table.withLock { table in
            let id = HandleID(table.next)
            table.next += 1
            table.handles[id.number] = handle
            return id
        }
    }

    /// The description of a handle; EBADF where there is none.
    func handle(_ id: HandleID) throws(Errno) -> FileHandle {
        guard let handle = table.withLock({ $0.handles[id.number] }) else {
            throw .badFileDescriptor
        }
        return handle
    }

    func remove(_ id: HandleID) -> FileHandle? {
        table.withLock { $0.handles.removeValue(forKey: id.number) }
    }

    func all() -> [HandleID] {
        table.withLock { $0.handles.keys.map { HandleID($0) } }
    }
}
