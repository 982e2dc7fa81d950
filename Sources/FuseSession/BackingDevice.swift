internal import Base
internal import CFuse
internal import Volume

internal import struct SystemPackage.Errno

/// Registers backing files with the kernel, through the device of one session.
///
/// Source: `struct fuse_backing_map` and FUSE_DEV_IOC_BACKING_OPEN, _CLOSE of
/// include/uapi/linux/fuse.h, since protocol 7.40 (Linux 6.9).
final class BackingDevice: BackingRegistry {
    /// The session's device; nil once it is closed, which ends all registrations.
    private let descriptor: Monitor<Int32?>
    private let context: FuseContext

    init(_ descriptor: Int32, _ context: FuseContext) {
        self.descriptor = Monitor(descriptor)
        self.context = context
    }

    func attributesMayChange(of inode: Inode) {
        descriptor.withLock { device in
            if device != nil { context.dropAttributes(of: inode) }
        }
    }

    /// - Throws: EPERM without CAP_SYS_ADMIN, ELOOP where the file lies on a stacked filesystem.
    func register(_ file: Int32) throws(Errno) -> BackingID {
        try descriptor.withLock { (device) throws(Errno) in
            guard let device else { throw Errno.noSuchAddressOrDevice }
            let result = rfs_backing_open(device, file)
            guard result > 0 else { throw result < 0 ? Errno(rawValue: -result) : .ioError }
            return BackingID(result)
        }
    }

    func unregister(_ id: BackingID) {
        descriptor.withLock { device in
            if let device { rfs_backing_close(device, id.number) }
        }
    }

    /// Forgets the device, before it is closed.
    func end() {
        descriptor.withLock { $0 = nil }
    }
}

/// Whether the kernel reads and writes open files itself.
public enum Passthrough: Sendable, Equatable {
    case on
    case off(reason: String)

    static func refused(_ error: Errno) -> Passthrough {
        switch error {
        case .notPermitted: .off(reason: "it needs CAP_SYS_ADMIN")
        case .tooManySymbolicLinkLevels:
            .off(reason: "the state directory is on a stacked filesystem (overlayfs)")
        default: .off(reason: "the kernel refuses a file of the state directory: \(error)")
        }
    }
}
