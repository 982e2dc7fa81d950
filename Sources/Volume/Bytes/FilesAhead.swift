internal import Base
internal import InodeManifest
internal import ObjectStore

internal import struct SystemPackage.Errno

// No file is opened under the manifest's lock: on a disk that is slow all others would wait for it. An
// operation that finds a flat file not open fails with an error of our own before it has changed anything; the
// file is opened without any lock, and the operation begins again.

/// A flat file that an operation needs open.
struct WantedFile {
    /// Pinned, so that it is not removed before it is open.
    let object: UInt64
    let forWriting: Bool
    /// How many flat files had changed their names by then.
    let exchanges: UInt64
}

/// A flat file that was opened for an operation.
struct FileAhead {
    let file: ObjectFile
    let isWritable: Bool
    /// As of `WantedFile`.
    let exchanges: UInt64
}

/// The flat files that the operation under the manifest's lock at this moment was given open.
final class FilesAhead {
    /// Tells that a flat file has to be opened first; no error of the system's.
    static let notOpen = Errno(rawValue: 1_000_004)

    private var open: [FileAhead] = []
    private var wanted: WantedFile?
    private var exchanges: UInt64 = 0

    /// Gives an operation its files; `end` must follow, under the same lock.
    func begin(_ files: [FileAhead]) {
        // What was opened before two files changed their names may be the other one, which somebody writes to.
        open = files.filter { $0.exchanges == exchanges }
    }

    /// Notes that two flat files have changed their names: what was opened before is opened again.
    func noteExchange() { exchanges &+= 1 }

    /// The file for which an operation failed; its pin is the caller's to end.
    func takeWanted() -> WantedFile? {
        defer { wanted = nil }
        return wanted
    }

    /// Takes the files back.
    func end(_ state: ManifestState) {
        open = []
        // The operation has got on without it.
        guard let wanted = takeWanted(), let record = try? state.object(wanted.object) else {
            return
        }
        state.unpin(record)
    }

    /// The open flat file of an object.
    ///
    /// - Throws: `notOpen` where it has to be opened first; nothing may have been changed until then.
    func file(
        _ object: UInt64, forWriting: Bool, _ state: ManifestState
    ) throws(Errno) -> ObjectFile {
        if let found = open.first(where: { $0.file.id == object && ($0.isWritable || !forWriting) })
        {
            return found.file
        }
        guard let record = try state.object(object) else {
            throw .ioError.because("object \(object): it has no row: run registryfs check")
        }
        end(state)
        state.pin(record)
        wanted = WantedFile(
            object: object, forWriting: forWriting, exchanges: exchanges)
        throw Self.notOpen
    }
}
