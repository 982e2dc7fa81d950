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

    /// The value of an extended attribute, for a process of a user: as below, but for the CID of a
    /// directory, which tells of what is below it also where that user could not read it: who guesses
    /// the content of a small file finds out whether he is right.
    ///
    /// - Throws: EACCES where `VolumeOptions.directoryCIDs` does not let him have it.
    public func extendedAttribute(
        _ name: FileName, of inode: Inode, for uid: UInt32
    ) throws(Errno) -> [UInt8] {
        if Self.cidNames.contains(name), uid != 0, uid != ownUser {
            let (kind, owner) = try reading { (state) throws(Errno) in
                let record = try record(inode, state)
                return (record.kind, record.uid)
            }
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
        return try reading { (state) throws(Errno) in
            let record = try record(inode, state)
            guard record.hasAttributes, let value = try state.attributes(of: record)[name] else {
                // "Not supported" is what ls(1) and its like take as an answer for the whole
                // filesystem; after "no such attribute" they would ask for every file.
                let isLabel = name == Self.securityLabelName
                throw Errno(rawValue: isLabel ? EOPNOTSUPP : ENODATA)
            }
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
        var names = try reading { (state) throws(Errno) -> [[UInt8]] in
            let record = try record(inode, state)
            guard record.hasAttributes else { return [] }
            return try state.attributes(of: record).keys.map(\.bytes)
        }
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
            var attributes = try state.attributes(of: record)
            // setxattr(2): XATTR_CREATE is 1, XATTR_REPLACE is 2.
            if flags & 1 != 0, attributes[name] != nil { throw .fileExists }
            if flags & 2 != 0, attributes[name] == nil { throw Errno(rawValue: ENODATA) }
            if name == AccessControlList.accessName || name == AccessControlList.defaultName {
                try setACL(name, of: record, to: value, clearSetGID: clearSetGID, &attributes)
            } else {
                attributes[name] = value
            }
            let listSize = attributes.keys.reduce(0) { $0 + $1.bytes.count + 1 }
            guard listSize <= Self.attributeListSizeMax else {
                throw .noSpace.because(
                    "\(inode): the names of its extended attributes are too long")
            }
            record.changed = Timestamp.now()
            state.setAttributes(of: record, to: attributes)
        }
    }

    private func setACL(
        _ name: FileName, of record: InodeRecord, to value: [UInt8], clearSetGID: Bool,
        _ attributes: inout [FileName: [UInt8]]
    ) throws(Errno) {
        // The kernel removes a list by an empty value.
        guard !value.isEmpty, value.count > 4 else {
            attributes.removeValue(forKey: name)
            return
        }
        guard let list = AccessControlList(value) else { throw .invalidArgument }
        guard name == AccessControlList.accessName else {
            guard record.kind == .directory else { throw .permissionDenied }
            attributes[name] = value
            return
        }
        record.mode = record.mode & ~UInt32(0o777) | list.modeBits
        if clearSetGID { record.mode &= ~UInt32(0o2000) }
        if list.isMinimal {
            attributes.removeValue(forKey: name)
        } else {
            attributes[name] = value
        }
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
            var attributes = try state.attributes(of: record)
            guard attributes.removeValue(forKey: name) != nil else {
                throw Errno(rawValue: ENODATA)
            }
            record.changed = Timestamp.now()
            state.setAttributes(of: record, to: attributes)
            if name == Self.capabilityName {
                running.openFiles[inode.number]?.capabilityRemover = caller?.pid
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
