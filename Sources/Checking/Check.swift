internal import Base
internal import Glibc
internal import InodeManifest
internal import ObjectStore

internal import struct SystemPackage.Errno

// `registryfs check`. It owns the whole state directory while it runs, by its lock, and has no state beside.
// What is checked is in two layers:
//
//   ManifestCheck   the rows of SQLite and the redo log, each by itself and against each other, with the
//                   findings and their repairs; it knows no bytes and no hashes
//   VolumeCheck     the steps in their order, and what has to do with bytes: content and trees against
//                   their CIDs, flat files against rows
//
// One thread does it. Others read and hash leaves for it (`LeafPipeline`), and share nothing with it but their
// requests. There is no lock beside theirs.
//
// Invariants: without a repair nothing in the directory changes, and what the redo log holds beyond SQLite is
// seen in a transaction that is taken back. A repair is one transaction; flat files are changed after it, and only as its
// rows say. A step that mends is run again until it finds nothing more to mend. Repairs never lose what they do not
// understand, and content that does not match its CID is told and left.

/// The check of a state directory.
public enum Check {
    /// Checks a whole state directory that no process uses: the manifest's file, names, links,
    /// counters, every byte of sealed content against its CID, the CIDs of directories, and the
    /// flat files. Blocks until everything is read.
    ///
    /// Memory is bounded whatever the volume's size, but for the names of one directory and the
    /// numbers of the flat files of one folder.
    ///
    /// - Parameters:
    ///   - repair: mends what can be mended, all at once or, where that fails, nothing. Without it
    ///     nothing is written. Content that does not match its CID is never mended.
    ///   - progress: told the bytes that are hashed and the bytes to hash, on the calling thread.
    /// - Throws: where the check cannot be made: somebody uses the directory, it may be another user's to
    ///   change, or there is no volume of this format in it.
    public static func run(
        stateDirectory path: String, repair: Bool,
        progress: (_ done: UInt64, _ total: UInt64) -> Void
    ) throws(CheckError) -> CheckReport {
        try requireManifest(in: path)
        let directory = try open(path)
        defer { directory.unlock() }
        if repair, let report = try check(directory, repair: true, progress: progress) {
            return report
        }
        // Without a repair there is always a report.
        return try check(directory, repair: false, progress: progress) ?? CheckReport()
    }

    private static func open(_ path: String) throws(CheckError) -> StateDirectory {
        do throws(StateDirectoryError) {
            return try StateDirectory.open(path: path)
        } catch {
            throw .stateDirectory(error)
        }
    }

    /// One check; nil where a repair met pages so damaged that nothing of it was kept.
    private static func check(
        _ directory: borrowing StateDirectory, repair: Bool,
        progress: (_ done: UInt64, _ total: UInt64) -> Void
    ) throws(CheckError) -> CheckReport? {
        let path = directory.path
        let manifest: ManifestCheck
        do throws(ManifestError) {
            manifest = try ManifestCheck(directory: path, repair: repair)
        } catch {
            throw .manifest(error)
        }
        let check = VolumeCheck(manifest, stateDirectory: directory.descriptor.raw)
        do throws(CheckFailure) {
            try check.run(progress: progress)
        } catch {
            guard error.isDamage else {
                throw .manifest(
                    .database(path: path + "/manifest.sqlite", reason: error.reason))
            }
            if repair { return nil }
            manifest.reportDamage(error)
        }
        return check.report()
    }

    /// Refuses a directory without a volume, in which opening would make one.
    private static func requireManifest(in path: String) throws(CheckError) {
        for (place, operation) in [
            (path, "cannot be opened"), (path + "/manifest.sqlite", "there is no volume in it"),
        ] {
            do throws(Errno) {
                _ = try Sys.status(of: place, in: AT_FDCWD)
            } catch {
                throw .stateDirectory(.failed(path: path, operation: operation, error))
            }
        }
    }
}
