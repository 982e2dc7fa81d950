import Base
import CARSource
import FoundationEssentials
import FuseSession
import Logging
import Naming
import Remotes
import Volume

import struct SystemPackage.Errno

extension Daemon {
    /// Gives a new name to what a request says.
    func importTree(_ request: ControlRequest, _ answer: ControlAnswer) throws(Failure) {
        // Where the tree follows a name, the kernel alone refuses changes.
        guard !settings.fuse.isReadOnly else {
            throw Failure(
                "\(RawText.shown(request.shownPath)): the mount is read-only: import into another")
        }
        let trees = TreeImport(
            volume: volume, stateDirectory: settings.stateDirectory, sources: sources,
            node: settings.kubo, log: log)
        let report = try trees.run(request) { answer.progress($0) }
        answer.done(ControlResult(imported: report))
    }
}

/// What becomes a part of a volume's tree that somebody else has, whether the volume is mounted or not.
struct TreeImport {
    let volume: Volume
    let stateDirectory: String
    let sources: MountSources
    let node: KuboSettings?
    let log: Logger

    /// Gives a new name to the DAG of a reference, and fetches it where that is asked for; or to what the roots of an
    /// archive lead to, which is all here then. Blocks for the network.
    ///
    /// - Parameter progress: told how far it is now and then; false ends it.
    func run(
        _ request: ControlRequest, progress: (ControlProgress) -> Bool
    ) throws(Failure) -> ImportReport {
        let names = request.names.map { FileName(Array($0)) }
        guard let name = names.last else { throw Failure("the new name is missing") }
        let place = try volume.place(
            of: names.dropLast(), fixedCount: min(request.fixedCount, names.count - 1),
            shown: request.shownPath)
        guard case .inode(let parent, _) = place else {
            throw Failure("\(RawText.shown(request.shownPath)): a symlink leads out of the volume")
        }
        if let archive = request.archive {
            return try run(archive: Array(archive), name, in: parent, request, progress)
        }
        let content = try Failure.naming { () throws(NamingError) in
            try ContentPath(Array(request.reference ?? Data()))
        }
        let root = try sources.root(
            of: content, node: node, stateDirectory: stateDirectory, log: log)
        var report: ImportReport
        do throws(VolumeError) {
            let cid = try volume.graft(root.cid, path: root.path, as: name, in: parent)
            report = ImportReport(cids: ["\(cid)"])
        } catch {
            throw failure(error, request)
        }
        if request.fetches {
            note(try fetch(name, in: parent, request.shownPath, progress), in: &report)
        }
        return report
    }

    private func run(
        archive path: [UInt8], _ name: FileName, in parent: Inode, _ request: ControlRequest,
        _ progress: (ControlProgress) -> Bool
    ) throws(Failure) -> ImportReport {
        let archive: CARFileRemote
        do throws(RemoteError) {
            archive = try CARFileRemote(RawText.text(of: path))
        } catch {
            throw Failure("\(error)")
        }
        do throws(VolumeError) {
            let found = try volume.importTrees(
                archive.roots, from: archive, as: name, in: parent
            ) { found in
                progress(Self.progress(found, of: archive.byteCount))
            }
            var report = ImportReport(cids: archive.roots.map { "\($0)" })
            note(found, in: &report)
            return report
        } catch {
            throw failure(error, request)
        }
    }

    private func note(_ found: FetchedTree, in report: inout ImportReport) {
        (report.files, report.bytes) = (found.files, found.bytes)
        report.cachedFiles = found.cachedFiles
        report.convertedFiles = found.convertedFiles
    }

    private static func progress(_ found: FetchedTree, of whole: UInt64) -> ControlProgress {
        ControlProgress(done: found.bytes, left: whole > found.bytes ? whole - found.bytes : 0)
    }

    /// What has to do with the new name, names it.
    private func failure(_ error: VolumeError, _ request: ControlRequest) -> Failure {
        guard case .operation(_, let errno) = error, errno.isOrdinary else {
            return Failure(volume: error)
        }
        let hint = errno == .fileExists ? ": give a path that is free" : ""
        return Failure("\(RawText.shown(request.shownPath)): \(errno.reason)\(hint)")
    }

    private func fetch(
        _ name: FileName, in parent: Inode, _ shown: String,
        _ progress: (ControlProgress) -> Bool
    ) throws(Failure) -> FetchedTree {
        do throws(Errno) {
            let attributes = try volume.lookup(name, in: parent)
            defer { volume.forget(attributes.inode, count: 1) }
            let whole = try volume.report(of: attributes.inode, leafCountMax: 0).treeSize ?? 0
            return try volume.fetchTree(attributes.inode) { found in
                progress(Self.progress(found, of: whole))
            }
        } catch {
            let cause = error.isOrdinary ? nil : FailureCause.take()
            throw Failure(
                "\(RawText.shown(shown)): it has its name, and is not fetched: \(error.reason)"
                    + (cause.map { ": " + FailureLog.shown($0) } ?? "")
                    + ": read what is missing, or remove it")
        }
    }
}
