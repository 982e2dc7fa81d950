public import Base
internal import InodeManifest
internal import Synchronization

internal import struct SystemPackage.Errno

// Set-user-id, set-group-id and `security.capability` let who runs a file do what its owner, its group
// or root may. They are given to its bytes, so a change of the bytes takes them, and so does chown(2):
//
//                                by whoever has CAP_FSETID    by others
//   bytes or size     4000       stays                        goes
//                     2000       stays                        goes with group execution (0010), and
//                                                             where the caller is not in the group
//                     capability goes                         goes
//   chown(2)          4000       goes                         goes
//                     2000       goes with 0010               as above
//                     capability goes                         goes
//
// A store to a mapping takes nothing. All that is what ext4 does.
//
// The kernel says with WRITE, OPEN and SETATTR whether the caller lacks CAP_FSETID; with FALLOCATE and
// COPY_FILE_RANGE it does not, so /proc is asked, of files that have such bits. Before a write to a
// backing file it sends a SETATTR of nothing, as it does for chown(2) with -1 for both ids.

/// Who changes a file's bytes, as far as it matters for the file's privileges.
struct Writer: Sendable {
    /// Nil where the change takes no capability: nobody makes it, as with the pages of a mapping.
    let caller: Caller?
    /// Set-id bits go, or may stay; nil where the caller's rights decide.
    let clearsSetID: Bool?
    /// The caller's rights, where they may matter.
    let rights: Rights?

    /// A change that takes no privileges.
    static let nobody = Writer(caller: nil, clearsSetID: false)

    /// A change of which the kernel says what becomes of set-id bits. Not under the manifest's lock.
    init(caller: Caller?, clearsSetID: Bool) {
        self.caller = caller
        self.clearsSetID = clearsSetID
        rights = clearsSetID ? caller.map { Rights(of: $0) } : nil
    }

    /// A change of which the kernel does not say it.
    fileprivate init(changing caller: Caller, _ rights: Rights?) {
        self.caller = caller
        clearsSetID = nil
        self.rights = rights
    }
}

/// What a caller may do with privileges, as /proc shows it. That is a file like others, so it is read without the
/// manifest's lock, before a change that may have to know it.
struct Rights: Sendable {
    private let caller: Caller
    private let credentials: ThreadCredentials?

    /// Those of somebody of whom no more is known than what the kernel told: the least.
    init(least caller: Caller) {
        self.caller = caller
        credentials = nil
    }

    init(of caller: Caller) {
        self.caller = caller
        let shown = ThreadCredentials(thread: caller.pid)
        // Who acts with other credentials than its own (nfsd, io_uring) has only the user and the group
        // that the kernel told.
        credentials = shown?.uid == caller.uid ? shown : nil
    }

    var keepsSetID: Bool { credentials?.has(.keepSetIDBits) == true }

    func owns(_ record: InodeRecord) -> Bool {
        caller.uid == record.uid || credentials?.has(.changeFilesOfOthers) == true
    }

    func keepsGroupID(_ gid: UInt32) -> Bool {
        caller.gid == gid || credentials?.groups.contains(gid) == true || keepsSetID
    }
}

extension Volume {
    private static let setIDBits: UInt32 = 0o6000
    static let capabilityName = FileName("security.capability")

    /// Takes the privileges that a change of the bytes takes; under the manifest's lock.
    func dropPrivileges(
        of record: InodeRecord, by writer: Writer, _ state: ManifestState
    ) throws(Errno) {
        guard record.mode & Self.setIDBits != 0 || record.hasAttributes else { return }
        if writer.caller != nil { try dropCapability(of: record, state) }
        guard record.mode & Self.setIDBits != 0 else { return }
        // Bits that came since the rights were asked for go.
        let rights = writer.rights ?? writer.caller.map { Rights(least: $0) }
        let clears = writer.clearsSetID ?? rights.map { !$0.keepsSetID } ?? false
        if clears { dropSetIDBits(of: record, by: rights, state) }
    }

    /// Who changes a file in a way of which the kernel does not say what becomes of set-id bits. Not under the
    /// manifest's lock.
    ///
    /// - Parameter caller: nil takes no privileges.
    func writer(changing file: OpenFile, _ caller: Caller?) -> Writer {
        guard let caller else { return .nobody }
        return Writer(changing: caller, rights(of: caller, over: file.inode))
    }

    /// A caller's rights, where an inode has set-id bits for which they matter. Not under the manifest's lock.
    func rights(of caller: Caller, over inode: Inode) -> Rights? {
        let mode = manifest.withLock { state in (try? state.inode(inode))?.mode ?? 0 }
        return mode & Self.setIDBits == 0 ? nil : Rights(of: caller)
    }

    /// Takes the privileges although the bytes stay as they are: what was asked for was there already.
    func takePrivileges(of file: OpenFile, by writer: Writer) throws(Errno) {
        try changing { (state) throws(Errno) in
            try dropPrivileges(of: try record(file.inode, state), by: writer, state)
        }
    }

    /// Takes the privileges that a new owner or group takes; under the manifest's lock.
    func dropPrivilegesForOwner(
        of record: InodeRecord, by rights: Rights, _ state: ManifestState
    ) throws(Errno) {
        guard record.kind != .directory else { return }
        try dropCapability(of: record, state)
        dropSetIDBits(of: record, by: rights, state)
    }

    /// Does what a SETATTR of nothing stands for; under the manifest's lock. Somebody is about to
    /// write, who may keep nothing, or it is chown(2) with -1 for both ids.
    ///
    /// - Throws: EPERM for chown(2) by somebody who does not own the file, where it would take a bit.
    func dropPrivilegesAsAsked(
        of record: InodeRecord, by caller: Caller, _ rights: Rights, _ state: ManifestState
    ) throws(Errno) {
        guard record.kind != .directory, record.mode & Self.setIDBits != 0 else { return }
        let file = opens(state).files[record.inode.number]
        let isOpen = (file?(state).writers ?? 0) > 0
        let hasRemovedCapability = file?(state).capabilityRemover == caller.pid
        file?(state).capabilityRemover = nil
        let mayBeWrite: Bool
        if rights.keepsSetID {
            // Before such a one writes, this is asked because of a capability alone, which the kernel
            // has removed. It does so for chown(2), too; then a file that is open keeps its bits.
            mayBeWrite = isOpen && hasRemovedCapability
            if mayBeWrite { return }
        } else {
            mayBeWrite = isOpen
        }
        if rights.owns(record) || (mayBeWrite && file?(state).backing?.isWritable == true) {
            dropSetIDBits(of: record, by: rights, state)
        } else if !mayBeWrite, record.mode != modeWithoutSetID(of: record, by: rights) {
            throw .notPermitted
        }
        // Else a write may follow, by a request that takes the bits.
    }

    private func dropCapability(of record: InodeRecord, _ state: ManifestState) throws(Errno) {
        guard record.hasAttributes,
            try state.attributes(of: record).values[Self.capabilityName] != nil
        else { return }
        try state.setAttribute(Self.capabilityName, of: record, to: nil)
    }

    private func dropSetIDBits(
        of record: InodeRecord, by rights: Rights?, _ state: ManifestState
    ) {
        let mode = modeWithoutSetID(of: record, by: rights)
        guard record.mode != mode else { return }
        record.mode = mode
        state.mark(record)
        opens(state).files[record.inode.number]?.hasLostPrivileges.store(true, ordering: .relaxed)
    }

    private func modeWithoutSetID(of record: InodeRecord, by rights: Rights?) -> UInt32 {
        var mode = record.mode & ~UInt32(0o4000)
        // inode(7): without group execution the bit once meant mandatory locking.
        if mode & 0o010 != 0 {
            mode &= ~UInt32(0o2000)
        } else if mode & 0o2000 != 0, let rights, !rights.keepsGroupID(record.gid) {
            mode &= ~UInt32(0o2000)
        }
        return mode
    }

    /// Has the kernel told, before the answer to a request that says nothing of the mode, that a file
    /// has lost bits of it: it would run the file by the mode that it remembers.
    func tellLostPrivileges(of file: OpenFile) {
        guard file.hasLostPrivileges.load(ordering: .relaxed),
            file.hasLostPrivileges.exchange(false, ordering: .relaxed)
        else { return }
        kernel.privileges.withLock { $0 }?(file.inode)
    }

    /// Has somebody told of inodes that lost set-id bits by a change of their bytes. Called on the
    /// thread of the operation, without any lock.
    public func observePrivileges(_ observer: @escaping @Sendable (Inode) -> Void) {
        kernel.privileges.withLock { $0 = observer }
    }
}
