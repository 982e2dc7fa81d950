// The kernel's table of mounts, as proc(5) describes /proc/PID/mountinfo:
//
//     36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//     (1)(2)(3)   (4)   (5)      (6)      (7)   (8) (9)   (10)         (11)
//
// (1) mount id, (2) parent's id, (3) device, (4) the directory of the filesystem that is the root
// of this mount, (5) mount point, (6) options, (7) zero or more fields, (8) a hyphen, (9) type,
// (10) source, (11) options of the superblock. Space, tab, newline and backslash are \NNN, octal.
//
// Reading it never touches a mount, so a dead one cannot hang the reader.

import Glibc

import struct SystemPackage.Errno

/// One mount, as the kernel lists it.
struct MountEntry: Sendable, Hashable {
    let id: Int
    /// The mount that this one stands on.
    let parent: Int
    /// `major:minor`, the same for all mounts of one filesystem.
    let device: String
    /// The directory inside of the filesystem that stands at `point`; `/` but for bind mounts.
    let root: [UInt8]
    let point: [UInt8]
    let type: String
    let source: [UInt8]
    /// The user that a mount of FUSE is made by (`user_id` of its superblock): only root can name
    /// another than itself there. Nil for other filesystems.
    let user: UInt32?
    let isReadOnly: Bool
    /// The peer group that this mount shares events with, mount_namespaces(7).
    let sharedGroup: Int?
    /// The peer group that this mount gets events from.
    let masterGroup: Int?

    /// The type that every mount of ours has.
    static let registryType = "fuse.registryfs"

    var isRegistry: Bool { type == Self.registryType }

    /// Whether what a mount of ours says of itself is believed: any user can make one of this type,
    /// with whatever source they like, so only those of root and of the caller are.
    var isTrusted: Bool { user == 0 || user == geteuid() }

    /// Whose mount it is and how they are asked, as the end of a sentence.
    var otherUser: String {
        guard let user, user != 0 else { return "belongs to root: use sudo" }
        return "belongs to user \(user): ask as that user, sudo -u '#\(user)'"
    }

    /// The state directory; a mount of ours names it as its source. Only for one that is trusted.
    var stateDirectory: String { RawText.text(of: source) }
}

/// The mounts of a mount namespace, in the order in which they were made.
struct MountTable: Sendable {
    let entries: [MountEntry]

    private static let byteCountMax = 64 << 20

    /// Reads the table of a process's namespace.
    static func read(process: String = "self") throws(Failure) -> MountTable {
        let path = "/proc/\(process)/mountinfo"
        do throws(Errno) {
            return MountTable(parsing: try SystemFiles.read(path, byteCountMax: byteCountMax))
        } catch {
            throw Failure("cannot read \(path) (\(error.reason)): is /proc mounted?")
        }
    }

    /// Reads the table from its text; lines that are none are left out.
    init(parsing content: [UInt8]) {
        entries = content.split(separator: UInt8(ascii: "\n")).compactMap(Self.entry)
    }

    private static func entry(_ line: ArraySlice<UInt8>) -> MountEntry? {
        let fields = line.split(separator: UInt8(ascii: " "))
        guard let hyphen = fields.dropFirst(6).firstIndex(of: [UInt8(ascii: "-")]),
            fields.count > hyphen + 3, let id = Int(String(decoding: fields[0], as: UTF8.self)),
            let parent = Int(String(decoding: fields[1], as: UTF8.self))
        else { return nil }
        func group(_ name: String) -> Int? {
            let field = fields[6..<hyphen].first { $0.starts(with: name.utf8) }
            return field.flatMap {
                Int(String(decoding: $0.dropFirst(name.utf8.count), as: UTF8.self))
            }
        }
        func options(_ field: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
            field.split(separator: UInt8(ascii: ","))
        }
        func user(_ field: ArraySlice<UInt8>) -> UInt32? {
            let name = Array("user_id=".utf8)
            let option = options(field).first { $0.starts(with: name) }
            return option.flatMap {
                UInt32(String(decoding: $0.dropFirst(name.count), as: UTF8.self))
            }
        }
        let readOnly = Array("ro".utf8)[...]
        return MountEntry(
            id: id,
            parent: parent,
            device: String(decoding: fields[2], as: UTF8.self),
            root: unescaped(fields[3]),
            point: unescaped(fields[4]),
            type: String(decoding: fields[hyphen + 1], as: UTF8.self),
            source: unescaped(fields[hyphen + 2]),
            user: user(fields[hyphen + 3]),
            isReadOnly: options(fields[5]).contains(readOnly)
                || options(fields[hyphen + 3]).contains(readOnly),
            sharedGroup: group("shared:"),
            masterGroup: group("master:"))
    }

    private static func unescaped(_ field: ArraySlice<UInt8>) -> [UInt8] {
        var bytes: [UInt8] = []
        var position = field.startIndex
        while position < field.endIndex {
            let digits = field[position...].dropFirst().prefix(3)
            if field[position] == UInt8(ascii: "\\"), digits.count == 3,
                let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                bytes.append(value)
                position += 4
            } else {
                bytes.append(field[position])
                position += 1
            }
        }
        return bytes
    }

    /// The mounts of registryfs that are visible: none of them lies under a later mount. Those of
    /// other users are among them (`isTrusted`).
    var registryMounts: [MountEntry] {
        entries.filter { $0.isRegistry && mount(holding: $0.point) == $0 }
    }

    /// The visible mounts of registryfs that are believed.
    var trustedRegistryMounts: [MountEntry] { registryMounts.filter(\.isTrusted) }

    /// The mount that a canonical path lies on: the longest mount point, the latest of equals.
    func mount(holding path: [UInt8]) -> MountEntry? {
        var best: MountEntry?
        for entry in entries where Self.isInside(path, entry.point) {
            if entry.point.count >= best?.point.count ?? 0 { best = entry }
        }
        return best
    }

    /// The peer group in which a mount was made; unmounting it reaches all of the group.
    func groupOfParent(of mount: MountEntry) -> Int? {
        entries.first { $0.id == mount.parent }?.sharedGroup
    }

    /// The mounts of a device that stay when one of them, made in a peer group, is unmounted.
    func mounts(of device: String, outside group: Int?) -> [MountEntry] {
        let reached = Set(
            entries.filter { group != nil && ($0.sharedGroup == group || $0.masterGroup == group) }
                .map(\.id))
        return entries.filter { $0.device == device && !reached.contains($0.parent) }
    }

    /// The uppermost mount at exactly this mount point.
    func mount(at point: [UInt8]) -> MountEntry? {
        entries.last { $0.point == point }
    }

    /// Whether a canonical path is a directory or lies below it.
    static func isInside(_ path: [UInt8], _ directory: [UInt8]) -> Bool {
        if directory == [UInt8(ascii: "/")] { return true }
        return path.starts(with: directory)
            && (path.count == directory.count || path[directory.count] == UInt8(ascii: "/"))
    }
}
