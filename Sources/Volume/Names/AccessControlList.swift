internal import Base
internal import InodeManifest

internal import struct SystemPackage.Errno

// POSIX ACLs as the kernel passes them in the attributes system.posix_acl_access and
// system.posix_acl_default (linux/posix_acl_xattr.h), all numbers little-endian:
//
//   u32 version   2
//   entries       u16 tag, u16 permissions (rwx), u32 id
//
// Validity (acl(5)): exactly one USER_OBJ, GROUP_OBJ and OTHER entry; a MASK entry where there is a
// USER or GROUP entry; tags in ascending order.

/// A POSIX access control list.
struct AccessControlList: Sendable {
    struct Entry: Sendable {
        var tag: Tag
        var permissions: UInt16
        var id: UInt32
    }

    enum Tag: UInt16, Sendable {
        case userObject = 0x01
        case user = 0x02
        case groupObject = 0x04
        case group = 0x08
        case mask = 0x10
        case other = 0x20
    }

    static let accessName = FileName("system.posix_acl_access")
    static let defaultName = FileName("system.posix_acl_default")
    private static let version: UInt32 = 2

    var entries: [Entry]

    /// Decodes an attribute's value; nil where it is no valid list.
    init?(_ value: [UInt8]) {
        guard value.count >= 4, (value.count - 4) % 8 == 0 else { return nil }
        func number(_ offset: Int, _ count: Int) -> UInt32 {
            value[offset..<offset + count].reversed().reduce(0) { $0 << 8 | UInt32($1) }
        }
        guard number(0, 4) == Self.version else { return nil }
        entries = []
        for offset in stride(from: 4, to: value.count, by: 8) {
            let permissions = UInt16(truncatingIfNeeded: number(offset + 2, 2))
            guard let tag = Tag(rawValue: UInt16(truncatingIfNeeded: number(offset, 2))),
                permissions <= 7
            else { return nil }
            if let last = entries.last, last.tag.rawValue > tag.rawValue { return nil }
            entries.append(Entry(tag: tag, permissions: permissions, id: number(offset + 4, 4)))
        }
        let names = entries.contains { $0.tag == .user || $0.tag == .group }
        for tag in [Tag.userObject, .groupObject, .other, .mask] {
            let count = entries.count { $0.tag == tag }
            guard count == 1 || (tag == .mask && count == 0 && !names) else { return nil }
        }
    }

    /// The attribute's value.
    var encoded: [UInt8] {
        func bytes(_ value: UInt32, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
        }
        return bytes(Self.version, 4)
            + entries.flatMap { entry in
                bytes(UInt32(entry.tag.rawValue), 2) + bytes(UInt32(entry.permissions), 2)
                    + bytes(entry.id, 4)
            }
    }

    /// Whether mode bits alone say the same.
    var isMinimal: Bool { entries.count == 3 }

    /// The permission bits that stat tells for a file with this list: the mask stands for the
    /// group, where there is one (acl(5)).
    var modeBits: UInt32 {
        UInt32(permissions(.userObject)) << 6
            | UInt32(entries.first { $0.tag == .mask }?.permissions ?? permissions(.groupObject))
            << 3
            | UInt32(permissions(.other))
    }

    private func permissions(_ tag: Tag) -> UInt16 {
        entries.first { $0.tag == tag }?.permissions ?? 0
    }

    /// What chmod(2) does to the list.
    mutating func setMode(_ mode: UInt32) {
        let hasMask = entries.contains { $0.tag == .mask }
        for index in entries.indices {
            switch entries[index].tag {
            case .userObject: entries[index].permissions = UInt16(mode >> 6 & 7)
            case .mask: entries[index].permissions = UInt16(mode >> 3 & 7)
            case .groupObject where !hasMask: entries[index].permissions = UInt16(mode >> 3 & 7)
            case .other: entries[index].permissions = UInt16(mode & 7)
            case .groupObject, .user, .group: break
            }
        }
    }

    /// What the mode that a creator asks for takes away from an inherited list (acl(5), OBJECT
    /// CREATION AND DEFAULT ACLs).
    mutating func restrict(to mode: UInt32) {
        let current = modeBits
        setMode(current & mode & 0o777)
    }
}

extension Volume {
    /// The ACL attributes of a new inode. Without a default ACL of the directory, the umask counts;
    /// with one, the mode is cut to it instead.
    func inheritedACLs(
        from directory: InodeRecord, kind: FileKind, mode: inout UInt32, umask: UInt32,
        _ state: ManifestState
    ) throws(Errno) -> [FileName: [UInt8]] {
        guard kind != .symlink, directory.hasAttributes,
            let value = try state.attributes(of: directory).values[AccessControlList.defaultName],
            var list = AccessControlList(value)
        else {
            mode &= ~(umask & 0o777)
            return [:]
        }
        list.restrict(to: mode)
        mode = mode & ~UInt32(0o777) | list.modeBits
        var inherited: [FileName: [UInt8]] = [:]
        if !list.isMinimal { inherited[AccessControlList.accessName] = list.encoded }
        if kind == .directory { inherited[AccessControlList.defaultName] = value }
        return inherited
    }

    /// Sets the mode, and the access ACL that goes with it.
    func setMode(
        of record: InodeRecord, to mode: UInt32, _ state: ManifestState
    ) throws(Errno) {
        record.mode = mode
        guard record.hasAttributes else { return }
        guard let value = try state.attributes(of: record).values[AccessControlList.accessName],
            var list = AccessControlList(value)
        else { return }
        list.setMode(mode)
        try state.setAttribute(AccessControlList.accessName, of: record, to: list.encoded)
    }
}
