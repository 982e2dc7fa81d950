internal import Base
internal import Glibc
internal import InodeManifest
internal import MerkleDAG
internal import ObjectStore

internal import struct SystemPackage.Errno

/// What a check of a state directory found.
public struct CheckReport: Sendable {
    /// The most texts that `problems` and `repaired` hold each; the counts go on.
    public static let textsMax = BoundedTexts.textsMax

    /// What is wrong and stays so, a line each that says what and where.
    public var problems: [String] = []
    public var problemCount: UInt64 = 0
    /// What was wrong and is mended, a line each.
    public var repaired: [String] = []
    public var repairedCount: UInt64 = 0

    public var inodes: UInt64 = 0
    public var files: UInt64 = 0
    public var directories: UInt64 = 0
    public var symlinks: UInt64 = 0
    public var entries: UInt64 = 0
    public var objects: UInt64 = 0
    public var sealedObjects: UInt64 = 0
    public var inlineObjects: UInt64 = 0
    /// Bytes of sealed objects that were read and hashed.
    public var bytesHashed: UInt64 = 0
    /// What the end of the last process left behind, and the next mount puts in order.
    public var pending = Pending()

    /// What is no problem, because the next mount puts it in order.
    public struct Pending: Sendable, Equatable {
        /// Inodes that were open without a name.
        public var unlinkedInodes: UInt64 = 0
        /// Flat files that were made, but not named by a row yet.
        public var unnamedFiles: UInt64 = 0
        /// Flat files that were to be removed, and objects that were being read when their last inode let go.
        public var deletedObjects: UInt64 = 0
        /// Files that were being written, and whose size only their flat file knows.
        public var unsettledSizes: UInt64 = 0
        /// Files that were being written, and whose flat file is gone.
        public var lostFiles: UInt64 = 0
        /// Directories with a CID above files that were being written.
        public var unsettledTrees: UInt64 = 0

        /// Nothing pending.
        public init() {}
    }

    /// Whether nothing is wrong.
    public var isClean: Bool { problemCount == 0 }
}

extension Volume {
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
    /// - Throws: `inUse`, `stateDirectory` and `manifest` where the check cannot be made: somebody
    ///   uses the directory, or there is no volume of this or an older format in it.
    public static func check(
        stateDirectory path: String, repair: Bool,
        progress: (_ done: UInt64, _ total: UInt64) -> Void
    ) throws(VolumeError) -> CheckReport {
        try requireManifest(in: path)
        let directory = try open(path)
        defer { directory.unlock() }
        if repair, let report = try check(directory, repair: true, progress: progress) {
            return report
        }
        // Without a repair there is always a report.
        return try check(directory, repair: false, progress: progress) ?? CheckReport()
    }

    private static func open(_ path: String) throws(VolumeError) -> StateDirectory {
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
    ) throws(VolumeError) -> CheckReport? {
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
    private static func requireManifest(in path: String) throws(VolumeError) {
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

/// One check of a state directory.
final class VolumeCheck {
    let manifest: ManifestCheck
    let stateDirectory: Int32
    var bytesHashed: UInt64 = 0
    var pending = CheckReport.Pending()
    /// Objects whose bytes and CIDs do not match; whichever is right, what was computed from the
    /// CIDs is not to be computed anew.
    var damagedObjects: Set<Int64> = []
    /// Changes of flat files, done once the manifest's are durable.
    var fileRepairs: [FileRepair] = []
    private var fileProblems: [String] = []
    private var fileRepaired: [String] = []

    /// A change of a flat file.
    enum FileRepair {
        case remove(path: String, text: String)
        case cut(object: UInt64, size: UInt64, text: String)
    }

    /// The most changes of flat files of one check.
    static let fileRepairsMax = 100_000

    init(_ manifest: ManifestCheck, stateDirectory: Int32) {
        self.manifest = manifest
        self.stateDirectory = stateDirectory
    }

    func run(
        progress: (_ done: UInt64, _ total: UInt64) -> Void
    ) throws(CheckFailure) {
        guard manifest.isMade else { return }
        try manifest.settle { () throws(CheckFailure) in try manifest.checkFile() }
        let profile = manifest.volume.flatMap { ImportProfile(name: $0.profile) }
        if let volume = manifest.volume, profile == nil {
            try manifest.settle { () throws(CheckFailure) in
                try manifest.report(
                    "volume: its profile \(shown(Array(volume.profile.utf8))) is not known, "
                        + "so no content could be checked")
            }
        }
        // A volume without its row was never used: its making was interrupted.
        guard manifest.volume != nil else {
            try manifest.commit()
            return
        }
        let chunkSize = Int64(profile?.chunkSize ?? 1)
        try manifest.settle { () throws(CheckFailure) in
            try manifest.checkRows(chunkSize: chunkSize)
        }
        let store = try openStore()
        if let profile {
            try manifest.settleOnce { () throws(CheckFailure) in
                try checkContent(profile: profile, store: store, progress: progress)
            }
            // In this order: a directory's CID comes from those of the links in it.
            try manifest.settleOnce { () throws(CheckFailure) in
                try checkSymlinks(profile: profile)
            }
            try manifest.settleOnce { () throws(CheckFailure) in
                try checkDirectories(profile: profile)
            }
        }
        if store != nil {
            try manifest.settleOnce { () throws(CheckFailure) in try checkFlatFiles() }
        }
        try manifest.commit()
        if let store { repairFiles(in: store) }
    }

    /// The object store; nil where there is no folder of it, which is not to be made here.
    private func openStore() throws(CheckFailure) -> ObjectStore? {
        do throws(Errno) {
            _ = try Sys.status(of: "objects", in: stateDirectory)
            return try ObjectStore(stateDirectory: stateDirectory)
        } catch {
            guard error != .noSuchFileOrDirectory else { return nil }
            try manifest.settle { () throws(CheckFailure) in
                try manifest.report("objects: the folder cannot be read: \(error)")
            }
            return nil
        }
    }

    /// Reports a finding that a change of a flat file mends.
    func report(_ text: String, mend: (String) -> FileRepair) throws(CheckFailure) {
        guard manifest.canMend, fileRepairs.count < Self.fileRepairsMax else {
            return try manifest.report(text)
        }
        fileRepairs.append(mend(text))
    }

    private func repairFiles(in store: ObjectStore) {
        for repair in fileRepairs {
            let text: String
            do throws(Errno) {
                switch repair {
                case .remove(let path, let reason):
                    text = reason
                    try Sys.unlink(path, in: stateDirectory)
                case .cut(let object, let size, let reason):
                    text = reason
                    let file = try store.open(object, forWriting: true)
                    try Sys.truncate(file.raw, to: size)
                    try Sys.synchronizeData(file.raw)
                }
                fileRepaired.append(text)
            } catch {
                fileProblems.append("\(repair.text): it cannot be mended: \(error)")
            }
        }
    }

    func report() -> CheckReport {
        var report = CheckReport()
        let bound = CheckReport.textsMax
        report.problems = Array((manifest.problems.texts + fileProblems).prefix(bound))
        report.problemCount = manifest.problems.count + UInt64(fileProblems.count)
        report.repaired = Array((manifest.repaired.texts + fileRepaired).prefix(bound))
        report.repairedCount = manifest.repaired.count + UInt64(fileRepaired.count)
        let counts = manifest.counts
        report.inodes = counts.inodes
        report.files = counts.files
        report.directories = counts.directories
        report.symlinks = counts.symlinks
        report.entries = counts.entries
        report.objects = counts.objects
        report.sealedObjects = counts.sealedObjects
        report.inlineObjects = counts.inlineObjects
        report.bytesHashed = bytesHashed
        report.pending = pending
        report.pending.unlinkedInodes = counts.unlinkedInodes
        report.pending.deletedObjects = counts.deletedObjects
        return report
    }
}

extension VolumeCheck.FileRepair {
    fileprivate var text: String {
        switch self {
        case .remove(_, let text), .cut(_, _, let text): text
        }
    }
}
