internal import Base
internal import Glibc

internal import struct SystemPackage.Errno

/// One line of /proc/self/mountinfo, as proc(5) describes it.
///
///     36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
///     (1)(2)(3)  (4)   (5)   (6)        (7 …)   (8)(9)  (10)      (11)
package struct MountEntry: Equatable {
    /// (1) unique among the mounts of now.
    package let identifier: Int
    /// (3) major:minor, as it names the directory in /sys/class/bdi.
    package let device: String
    /// (5)
    package let mountPoint: String
    /// (9) type, with the subtype after a dot.
    package let type: String

    /// Nil where the line is not of that form.
    init?(line: Substring) {
        let fields = line.split(separator: " ")
        guard let separator = fields.firstIndex(of: "-"), separator >= 6,
            fields.count > separator + 1, let identifier = Int(fields[0])
        else { return nil }
        self.identifier = identifier
        device = String(fields[2])
        mountPoint = Self.unescaped(fields[4])
        type = String(fields[separator + 1])
    }

    /// Blanks, tabs, newlines and backslashes stand as three octal digits after a backslash.
    private static func unescaped(_ field: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(field.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3,
                digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "7")).contains($0) })
            {
                let code = digits.reduce(0) { $0 * 8 + Int($1 - UInt8(ascii: "0")) }
                bytes.append(UInt8(truncatingIfNeeded: code))
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Whether it is the same mount, wherever that stands by now.
    func isSameMount(as other: MountEntry?) -> Bool {
        identifier == other?.identifier && device == other?.device
    }

    /// The mounts of this process's namespace, in the order of the file: of several at one place
    /// the last one is on top. Reading this touches no mounted filesystem.
    static func all() throws(Errno) -> [MountEntry] {
        let file = try Sys.open("/proc/self/mountinfo", flags: O_RDONLY)
        let buffer = OwnedBuffer(byteCount: 1 << 16)
        var text: [UInt8] = []
        while true {
            let count = try Sys.read(file.raw, at: UInt64(text.count), into: buffer.bytes)
            if count == 0 { break }
            text.append(contentsOf: buffer.bytes[..<count])
        }
        return parse(String(decoding: text, as: UTF8.self))
    }

    package static func parse(_ text: String) -> [MountEntry] {
        text.split(separator: "\n").compactMap(MountEntry.init(line:))
    }

    /// The mount that is on top at a path; nil where there is none.
    static func top(at path: String) -> MountEntry? {
        guard let entries = try? all() else { return nil }
        return entries.last { $0.mountPoint == path }
    }
}

/// A directory that a volume can be mounted on.
public struct MountPoint: Sendable, Equatable {
    /// The absolute path, without links.
    public let path: String

    /// The type of the mounts that this project makes, as in /proc/self/mountinfo and fstab.
    public static let filesystemType = "fuse.\(FuseConfiguration.subtype)"

    /// Checks a mount point, and takes away what a dead daemon left there.
    ///
    /// It may ask the filesystem at the path, so it must not be called by a daemon about its own
    /// mount.
    /// - Parameter allowsNonEmpty: whether entries may be hidden by the mount.
    /// - Throws: what is wrong with the place: missing, no directory, not empty, busy, stale.
    public static func prepare(
        _ path: String, allowsNonEmpty: Bool = false
    ) throws(FuseError) -> MountPoint {
        let resolved = try resolve(path)
        try removeStaleMounts(at: resolved)
        if MountEntry.top(at: resolved)?.type == filesystemType {
            throw .mountPointBusy(path: resolved)
        }
        do throws(Errno) {
            let status = try Sys.status(of: resolved, in: AT_FDCWD)
            guard FileKind(mode: status.mode) == .directory else {
                throw Errno.notDirectory
            }
            if !allowsNonEmpty, try !Sys.names(in: AT_FDCWD, path: resolved).isEmpty {
                throw Errno.directoryNotEmpty
            }
        } catch {
            throw unusable(resolved, error)
        }
        return MountPoint(path: resolved)
    }

    /// How often a dead mount is taken away from one place before giving up.
    private static let staleMountsMax = 16

    private static func removeStaleMounts(at path: String) throws(FuseError) {
        for _ in 0..<staleMountsMax {
            // Not stat(2): that is answered from attributes the kernel still has.
            var status = statvfs()
            if statvfs(path, &status) == 0 { return }
            let cause = Errno(rawValue: errno)
            guard cause.isOfDeadMount else { throw unusable(path, cause) }
            if let error = KernelMount.unmount(path, detach: true) {
                throw .staleMount(path: path, cause: error)
            }
        }
        throw .staleMount(path: path, cause: .socketNotConnected)
    }

    private static func unusable(_ path: String, _ error: Errno) -> FuseError {
        switch error {
        case .noSuchFileOrDirectory: .mountPointMissing(path: path)
        case .notDirectory: .mountPointNotDirectory(path: path)
        case .directoryNotEmpty: .mountPointNotEmpty(path: path)
        default: .mountPointUnusable(path: path, cause: error)
        }
    }

    /// The path without links. realpath(3) fails at a dead mount, so there the directory above is
    /// resolved and the last name kept.
    private static func resolve(_ path: String) throws(FuseError) -> String {
        if let real = realPath(path) { return real }
        let cause = Errno(rawValue: errno)
        guard cause.isOfDeadMount else {
            throw unusable(path, cause)
        }
        let names = path.split(separator: "/")
        guard let last = names.last else { throw unusable(path, cause) }
        let above = names.dropLast().joined(separator: "/")
        let start = path.hasPrefix("/") ? "/" : "./"
        guard let real = realPath(start + above) else {
            throw unusable(path, Errno(rawValue: errno))
        }
        return real == "/" ? "/\(last)" : "\(real)/\(last)"
    }

    private static func realPath(_ path: String) -> String? {
        guard let real = realpath(path, nil) else { return nil }
        defer { free(real) }
        return String(cString: real)
    }
}
