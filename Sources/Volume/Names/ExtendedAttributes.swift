public import Base
internal import Glibc
internal import InodeManifest
internal import Multiformats

public import struct SystemPackage.Errno

extension Volume {
    /// Attributes that are not stored: the CID of the inode, as text.
    private static let cidNames = [FileName("ipfs.cid"), FileName("user.ipfs.cid")]

    private static let securityLabelName = FileName("security.selinux")

    // Bounds of linux/limits.h.
    private static let attributeNameLengthMax = 255
    private static let attributeSizeMax = 65_536
    private static let attributeListSizeMax = 65_536
    /// Bytes of all values of an inode. ext4 has room for less without `ea_inode`, XFS no bound.
    private static let attributeValuesSizeMax = 131_072

    /// The value of an extended attribute, for a process of a user: as below, but for the CID of a
    /// directory, which tells of what is below it also where that user could not read it: who guesses
    /// the content of a small file finds out whether he is right.
    ///
    /// - Throws: EACCES where `VolumeOptions.directoryCIDs` does not let him have it.
    public func extendedAttribute(
        _ name: FileName, of inode: Inode, for uid: UInt32
    ) throws(Errno) -> [UInt8] {
        if Self.cidNames.contains(name), uid != 0, uid != kernel.ownUser {
            let (kind, owner) = try kindAndOwner(of: inode)
            let isAllowed =
                switch options.directoryCIDs {
                case .readers: true
                case .owner: kind != .directory || uid == owner
                case .root: kind != .directory
                }
            guard isAllowed else { throw .permissionDenied }
        }
        return try extendedAttribute(name, of: inode)
    }

    private func kindAndOwner(of inode: Inode) throws(Errno) -> (FileKind, uid: UInt32) {
        if inode.isOfView {
            let attributes = try view.attributes(of: inode, self)
            return (attributes.kind, attributes.uid)
        }
        return try reading { (state) throws(Errno) in
            let record = try record(inode, state)
            return (record.kind, record.uid)
        }
    }

    /// The value of an extended attribute (getxattr(2)). `ipfs.cid` and `user.ipfs.cid` give the
    /// CID of any file or directory, and seal what is not sealed yet, which may block for long.
    ///
    /// - Throws: ENODATA where there is none, ESTALE.
    public func extendedAttribute(
        _ name: FileName, of inode: Inode
    ) throws(Errno) -> [UInt8] {
        if Self.cidNames.contains(name) {
            return Array(try cid(of: inode).description.utf8)
        }
        // "Not supported" is what ls(1) and its like take as an answer for the whole filesystem; after "no such
        // attribute" they would ask for every file.
        let absent = Errno(rawValue: name == Self.securityLabelName ? EOPNOTSUPP : ENODATA)
        if inode.isOfView {
            _ = try view.place(of: inode)
            throw absent
        }
        return try reading { (state) throws(Errno) in
            let record = try record(inode, state)
            guard record.hasAttributes, let value = try state.attributes(of: record).values[name]
            else { throw absent }
            return value
        }
    }

    /// The names of the stored attributes, each ended by a NUL, one after the other (listxattr(2)).
    ///
    /// - Parameter seesTrusted: whether the caller may know of attributes `trusted.*` (xattr(7): those
    ///   with CAP_SYS_ADMIN); asked only where there are any, without any lock.
    public func extendedAttributeNames(
        of inode: Inode, seesTrusted: () -> Bool = { true }
    ) throws(Errno) -> [UInt8] {
        if inode.isOfView {
            _ = try view.place(of: inode)
            return []
        }
        let values = try reading { (state) throws(Errno) -> [FileName: [UInt8]] in
            let record = try record(inode, state)
            return record.hasAttributes ? try state.attributes(of: record).values : [:]
        }
        var names = values.keys.map(\.bytes)
        func isTrusted(_ name: [UInt8]) -> Bool { name.starts(with: "trusted.".utf8) }
        if names.contains(where: isTrusted), !seesTrusted() { names.removeAll(where: isTrusted) }
        return names.sorted { $0.lexicographicallyPrecedes($1) }.flatMap { $0 + [0] }
    }

    /// Sets an attribute (setxattr(2)). An access ACL sets the mode's permission bits as well.
    ///
    /// - Parameters:
    ///   - flags: XATTR_CREATE (1), XATTR_REPLACE (2) or 0.
    ///   - clearSetGID: the caller may not keep the set-group-ID bit.
    /// - Throws: EEXIST, ENODATA, ERANGE, E2BIG, ENOSPC, EINVAL for a malformed ACL, EOPNOTSUPP for
    ///   a name space that is not kept, EPERM for the attributes that the volume makes itself.
    public func setExtendedAttribute(
        _ name: FileName, of inode: Inode, to value: [UInt8], flags: Int32, clearSetGID: Bool,
        caller: Caller
    ) throws(Errno) {
        try checkAttributeName(name)
        guard value.count <= Self.attributeSizeMax else { throw Errno(rawValue: E2BIG) }
        try changing { (state) throws(Errno) in
            try checkRoom(state)
            let record = try record(inode, state)
            let table = try state.attributes(of: record)
            // setxattr(2): XATTR_CREATE is 1, XATTR_REPLACE is 2.
            if flags & 1 != 0, table.values[name] != nil { throw .fileExists }
            if flags & 2 != 0, table.values[name] == nil { throw Errno(rawValue: ENODATA) }
            if name == AccessControlList.accessName || name == AccessControlList.defaultName {
                try setACL(name, of: record, to: value, clearSetGID: clearSetGID, state)
            } else {
                try checkAttributeRoom(name, value, in: table)
                try state.setAttribute(name, of: record, to: value)
            }
            record.changed = Timestamp.now()
            state.mark(record)
        }
    }

    /// Refuses what is too much for one inode. One of before that has more may have less of it.
    private func checkAttributeRoom(
        _ name: FileName, _ value: [UInt8], in table: AttributeTable
    ) throws(Errno) {
        let old = table.values[name]
        if old == nil, table.nameByteCount + name.bytes.count + 1 > Self.attributeListSizeMax {
            throw .noSpace.because("the names of the inode's extended attributes are too long")
        }
        let added = value.count - (old?.count ?? 0)
        if added > 0, table.valueByteCount + added > Self.attributeValuesSizeMax {
            throw .noSpace.because("the values of the inode's extended attributes are too long")
        }
    }

    private func setACL(
        _ name: FileName, of record: InodeRecord, to value: [UInt8], clearSetGID: Bool,
        _ state: ManifestState
    ) throws(Errno) {
        let table = try state.attributes(of: record)
        func put(_ value: [UInt8]?) throws(Errno) {
            if let value { try checkAttributeRoom(name, value, in: table) }
            guard value != nil || table.values[name] != nil else { return }
            try state.setAttribute(name, of: record, to: value)
        }
        // The kernel removes a list by an empty value.
        guard !value.isEmpty, value.count > 4 else { return try put(nil) }
        guard let list = AccessControlList(value) else { throw .invalidArgument }
        guard name == AccessControlList.accessName else {
            guard record.kind == .directory else { throw .permissionDenied }
            return try put(value)
        }
        try put(list.isMinimal ? nil : value)
        record.mode = record.mode & ~UInt32(0o777) | list.modeBits
        if clearSetGID { record.mode &= ~UInt32(0o2000) }
    }

    /// Removes an attribute (removexattr(2)).
    ///
    /// - Parameter caller: for a capability, whose SETATTR of nothing may follow; see Privileges.swift.
    /// - Throws: ENODATA where there is none, EPERM.
    public func removeExtendedAttribute(
        _ name: FileName, of inode: Inode, caller: Caller? = nil
    ) throws(Errno) {
        try checkAttributeName(name)
        try changing { (state) throws(Errno) in
            let record = try record(inode, state)
            guard try state.attributes(of: record).values[name] != nil else {
                throw Errno(rawValue: ENODATA)
            }
            record.changed = Timestamp.now()
            try state.setAttribute(name, of: record, to: nil)
            if name == Self.capabilityName {
                opens(state).files[inode.number]?(state).capabilityRemover = caller?.pid
            }
        }
    }

    private func checkAttributeName(_ name: FileName) throws(Errno) {
        guard !Self.cidNames.contains(name) else { throw .notPermitted }
        guard name.bytes.count <= Self.attributeNameLengthMax else {
            throw Errno(rawValue: ERANGE)
        }
        let kept = ["user.", "trusted.", "security."].contains { name.bytes.starts(with: $0.utf8) }
        guard kept || name == AccessControlList.accessName || name == AccessControlList.defaultName
        else { throw Errno(rawValue: EOPNOTSUPP) }
    }
}
