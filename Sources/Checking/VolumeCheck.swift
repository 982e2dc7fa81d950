internal import Base
internal import MerkleDAG
internal import ObjectStore

internal import struct SystemPackage.Errno

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
        try manifest.runStep { () throws(CheckFailure) in try manifest.checkFile() }
        let profile = manifest.volume.flatMap { ImportProfile(name: $0.profile) }
        if let volume = manifest.volume, profile == nil {
            try manifest.runStep { () throws(CheckFailure) in
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
        try manifest.runStep { () throws(CheckFailure) in
            try manifest.checkRows(chunkSize: chunkSize)
        }
        let store = try openStore()
        if let profile {
            try manifest.runLastStep { () throws(CheckFailure) in
                try checkContent(profile: profile, store: store, progress: progress)
            }
            // In this order: a directory's CID comes from those of the links in it.
            try manifest.runLastStep { () throws(CheckFailure) in
                try checkSymlinks(profile: profile)
            }
            try manifest.runLastStep { () throws(CheckFailure) in
                try checkDirectories(profile: profile)
            }
            try manifest.runLastStep { () throws(CheckFailure) in
                try SnapshotsPass(manifest).checkBlocks(profile: profile)
            }
        }
        if store != nil {
            try manifest.runLastStep { () throws(CheckFailure) in try checkFlatFiles() }
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
            try manifest.runStep { () throws(CheckFailure) in
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
        report.pending.unfinishedImports = counts.unfinishedImports
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
