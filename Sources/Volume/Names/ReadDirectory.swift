public import Base
internal import InodeManifest
internal import Logging

public import struct SystemPackage.Errno

// The cookie of an entry is its place in the order of creation, unique in the volume and never used
// again; so a listing that is continued from a cookie sees every entry that was there all the time
// exactly once, whatever came and went meanwhile. Cookies below 16 are kept for `.` and `..`.

extension Volume {
    private static let dotCookie: UInt64 = 1
    private static let dotDotCookie: UInt64 = 2

    /// Lists a directory from a cookie on (0: from the start) until the body answers false.
    /// The body must not call the volume.
    ///
    /// - Parameter isForWalk: a directory of a graft that nobody has looked into lists nothing where its entries are not to be had:
    ///   one domain that is away would end each walk through all repositories, as a registry's garbage collection is.
    /// - Throws: ENOTDIR, ESTALE, EIO.
    public func readDirectory(
        _ inode: Inode, from cookie: UInt64, isForWalk: Bool = false,
        _ body: (DirectoryEntry) -> Bool
    ) throws(Errno) {
        if inode.isOfView {
            return try view.readDirectory(inode, from: cookie, isPlus: false, self) { entry, _ in
                body(entry)
            }
        }
        try readDirectory(inode, from: cookie, isForWalk) { (entry, _) throws(Errno) in
            body(entry)
        }
    }

    /// Lists a directory with the attributes of each entry. They are nil for `.` and `..`, and for an open file of
    /// which its flat file knows more than the manifest: that is asked by whoever looks the name up. Counts one
    /// reference of the kernel for each entry with attributes that the body took.
    public func readDirectoryPlus(
        _ inode: Inode, from cookie: UInt64, isForWalk: Bool = false,
        _ body: (DirectoryEntry, Attributes?) -> Bool
    ) throws(Errno) {
        if inode.isOfView {
            return try view.readDirectory(inode, from: cookie, isPlus: true, self, body)
        }
        try readDirectory(inode, from: cookie, isForWalk) { (entry, state) throws(Errno) in
            guard entry.cookie > Self.dotDotCookie else { return body(entry, nil) }
            let record = try record(entry.inode, state)
            let known = knownAttributes(of: record, state)
            guard known.rest == nil else { return body(entry, nil) }
            guard body(entry, known.attributes) else { return false }
            kernel(state).references[entry.inode.number, default: KernelReference()].count += 1
            return true
        }
    }

    private func readDirectory(
        _ inode: Inode, from cookie: UInt64, _ isForWalk: Bool,
        _ body: (DirectoryEntry, ManifestState) throws(Errno) -> Bool
    ) throws(Errno) {
        do throws(Errno) {
            try readDirectory(inode, from: cookie, needsEntries: true, body)
        } catch {
            guard isForWalk, error == .ioError, isOfGraftAndNotLoaded(inode) else { throw error }
            log.notice("\(inode): it lists nothing for now: \(FailureCause.words(for: error))")
            try readDirectory(inode, from: cookie, needsEntries: false, body)
        }
    }

    /// Whether a directory lies in a graft, and nobody has looked into it. Leaves the thread's words of a failure as they are.
    func isOfGraftAndNotLoaded(_ inode: Inode) -> Bool {
        let cause = FailureCause.take()
        defer { if let cause { FailureCause.note(cause) } }
        let isSo = try? reading { (state) throws(Errno) -> Bool in
            guard !state.grafts.all.isEmpty else { return false }
            let record = try directory(inode, state)
            guard !record.isLoaded else { return false }
            return try graft(over: record, state) != nil
        }
        return isSo ?? false
    }

    private func readDirectory(
        _ inode: Inode, from cookie: UInt64, needsEntries: Bool,
        _ body: (DirectoryEntry, ManifestState) throws(Errno) -> Bool
    ) throws(Errno) {
        try reading { (state) throws(Errno) in
            let record = try directory(inode, state)
            // A removed directory that is still open has no entries, not even its own.
            guard record.linkCount > 0 else { return }
            // Before the first entry goes out: it must not go out twice.
            if needsEntries { try state.requireEntries(of: record) }
            if cookie == 0 { noteAccess(to: record, state) }
            for (place, name, target) in [
                (Self.dotCookie, ".", inode), (Self.dotDotCookie, "..", record.parent),
            ] where cookie < place {
                let entry = DirectoryEntry(
                    name: FileName(name), inode: target, kind: .directory, cookie: place)
                guard try body(entry, state) else { return }
            }
            guard needsEntries else { return }
            try state.forEachEntry(of: record, after: max(cookie, Self.dotDotCookie)) {
                (name, entry) throws(Errno) in
                try body(
                    DirectoryEntry(
                        name: name, inode: entry.inode, kind: entry.kind, cookie: entry.cookie),
                    state)
            }
        }
    }
}
