import Base
import CARSource
import FoundationEssentials
import FuseSession
import Naming
import Remotes
import Volume

import struct SystemPackage.Errno

extension Daemon {
    /// Gives a new name to the DAG of a reference, and fetches it where that is asked for.
    func importTree(_ request: ControlRequest, _ answer: ControlAnswer) throws(Failure) {
        // Where the tree follows a name, the kernel alone refuses changes.
        guard !settings.fuse.isReadOnly else {
            throw Failure(
                "\(RawText.shown(request.shownPath)): the mount is read-only: import into another")
        }
        let names = request.names.map { FileName(Array($0)) }
        guard let name = names.last else { throw Failure("the new name is missing") }
        let place = try volume.place(
            of: names.dropLast(), fixedCount: min(request.fixedCount, names.count - 1),
            shown: request.shownPath)
        guard case .inode(let parent, _) = place else {
            throw Failure("\(RawText.shown(request.shownPath)): a symlink leads out of the volume")
        }
        if let archive = request.archive {
            return try importArchive(Array(archive), name, in: parent, answer)
        }
        let content = try Failure.naming { () throws(NamingError) in
            try ContentPath(Array(request.reference ?? Data()))
        }
        let root = try sources.root(of: content, settings, log: log)
        var report: ImportReport
        do throws(VolumeError) {
            let cid = try volume.graft(root.cid, path: root.path, as: name, in: parent)
            report = ImportReport(cids: ["\(cid)"])
        } catch {
            throw Failure(volume: error)
        }
        if request.fetches { try fetch(name, in: parent, request.shownPath, &report, answer) }
        answer.done(ControlResult(imported: report))
    }

    private func importArchive(
        _ path: [UInt8], _ name: FileName, in parent: Inode, _ answer: ControlAnswer
    ) throws(Failure) {
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
                let whole = archive.byteCount
                let left = whole > found.bytes ? whole - found.bytes : 0
                return answer.progress(ControlProgress(done: found.bytes, left: left))
            }
            var report = ImportReport(cids: archive.roots.map { "\($0)" })
            (report.files, report.bytes) = (found.files, found.bytes)
            report.cachedFiles = found.cachedFiles
            answer.done(ControlResult(imported: report))
        } catch {
            throw Failure(volume: error)
        }
    }

    private func fetch(
        _ name: FileName, in parent: Inode, _ shown: String, _ report: inout ImportReport,
        _ answer: ControlAnswer
    ) throws(Failure) {
        do throws(Errno) {
            let attributes = try volume.lookup(name, in: parent)
            defer { volume.forget(attributes.inode, count: 1) }
            let whole = try volume.report(of: attributes.inode, leafCountMax: 0).treeSize ?? 0
            let found = try volume.fetchTree(attributes.inode) { found in
                let left = whole > found.bytes ? whole - found.bytes : 0
                return answer.progress(ControlProgress(done: found.bytes, left: left))
            }
            (report.files, report.bytes) = (found.files, found.bytes)
            report.cachedFiles = found.cachedFiles
        } catch {
            let cause = error.isOrdinary ? nil : FailureCause.take()
            throw Failure(
                "\(RawText.shown(shown)): it has its name, and is not fetched: \(error.reason)"
                    + (cause.map { ": " + FailureLog.shown($0) } ?? "")
                    + ": read what is missing, or remove it")
        }
    }
}
