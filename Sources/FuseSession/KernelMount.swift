internal import Base
internal import CFuse
internal import Glibc

internal import struct SystemPackage.Errno

/// mount(2) and umount2(2) for FUSE.
///
/// Root mounts by itself: libfuse could do it, but would unmount by path a second time at the end,
/// when something else may stand there. Everybody else needs the setuid helper fusermount3, which
/// libfuse knows how to talk to.
enum KernelMount {
    static let device = "/dev/fuse"
    private static let helper = "fusermount3"

    /// Opens the device and mounts it; the descriptor is the connection.
    ///
    /// The data of mount(2) is described in fuse.rst, "Mount options". `max_read` is left out: the
    /// pages of a request, agreed on by INIT, bound it.
    static func mount(
        at point: MountPoint, _ configuration: FuseConfiguration
    ) throws(FuseError) -> OwnedDescriptor {
        let descriptor = try openDevice()
        var data = "fd=\(descriptor.raw),rootmode=40000,user_id=\(geteuid()),group_id=\(getegid())"
        data += ",default_permissions"
        if configuration.allowsOthers { data += ",allow_other" }
        let code = rfs_mount(
            configuration.fsname, point.path, MountPoint.filesystemType,
            configuration.effectiveMountFlags, data)
        switch code {
        case 0: return descriptor
        case ENODEV: throw .noDevice(path: device)
        default: throw .mountRefused(path: point.path, cause: Errno(rawValue: code))
        }
    }

    /// What libfuse needs to mount through the helper.
    static func helperArguments(_ configuration: FuseConfiguration) -> [String] {
        // In fusermount3's list a comma or backslash in a value is escaped with a backslash.
        var fsname = ""
        for character in configuration.fsname {
            if character == "," || character == "\\" { fsname.append("\\") }
            fsname.append(character)
        }
        var options = [
            "fsname=\(fsname)", "subtype=\(FuseConfiguration.subtype)", "default_permissions",
            configuration.isReadOnly ? "ro" : "rw",
        ]
        if configuration.allowsOthers { options.append("allow_other") }
        let flags = configuration.effectiveMountFlags
        if flags & MountFlag.noExecution != 0 { options.append("noexec") }
        if flags & MountFlag.noAccessTimes != 0 { options.append("noatime") }
        if flags & MountFlag.synchronous != 0 { options.append("sync") }
        return ["registryfs", "-o", options.joined(separator: ",")]
    }

    /// Whether the calling user mounts without the helper.
    static var mountsDirectly: Bool { geteuid() == 0 }

    /// Checks that the helper is there, and the device for the calling user: libfuse opens it first
    /// and asks the helper only where mount(2) is refused.
    static func checkHelper() throws(FuseError) {
        guard access(device, F_OK) == 0 else { throw .noDevice(path: device) }
        guard access(device, R_OK | W_OK) == 0 else {
            throw .deviceRefused(path: device, cause: Errno(rawValue: errno))
        }
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
        let places = path.split(separator: ":").map(String.init) + ["/usr/bin", "/bin"]
        guard places.contains(where: { access("\($0)/\(helper)", X_OK) == 0 }) else {
            throw .noMountHelper
        }
    }

    private static func openDevice() throws(FuseError) -> OwnedDescriptor {
        do throws(Errno) {
            return try Sys.open(device, flags: O_RDWR)
        } catch {
            switch error {
            // ENXIO, ENODEV: the device node is there, but no driver stands behind it.
            case .noSuchFileOrDirectory, .noSuchAddressOrDevice, .operationNotSupportedByDevice:
                throw .noDevice(path: device)
            default:
                throw .deviceRefused(path: device, cause: error)
            }
        }
    }

    /// Unmounts; nil where that worked. EBUSY: something is open there and `detach` was not given.
    static func unmount(_ path: String, detach: Bool) -> Errno? {
        let code = rfs_unmount(path, detach ? 1 : 0)
        if code == 0 { return nil }
        if code == EPERM && !mountsDirectly {
            return unmountByHelper(path, detach: detach) ? nil : .resourceBusy
        }
        return Errno(rawValue: code)
    }

    private static func unmountByHelper(_ path: String, detach: Bool) -> Bool {
        let words = [helper, "-u", "-q"] + (detach ? ["-z"] : []) + ["--", path]
        var arguments = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var child = pid_t()
        guard posix_spawnp(&child, helper, nil, nil, &arguments, environ) == 0 else { return false }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0 {
            guard errno == EINTR else { return false }
        }
        return status == 0
    }
}
