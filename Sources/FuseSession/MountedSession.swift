internal import Base
internal import CFuse
internal import Glibc
internal import Logging

internal import struct SystemPackage.Errno

/// What a mount consists of: libfuse's session on its connection to the kernel, and its place.
///
/// Sendable although unchecked: what keeps it from being checked are libfuse's session pointer and
/// the retained user data. They are made by `open` and freed by `destroy`, once, by the thread that
/// ends the session, after the last worker has been joined; in between the workers use the pointer
/// only for what libfuse lets several threads do at once (receive, process, reply, notify, exit).
struct MountedSession: @unchecked Sendable {
    let session: OpaquePointer
    let context: FuseContext
    let point: MountPoint
    private let userdata: Unmanaged<FuseContext>
    /// As mountinfo lists it; nil where it could not be read.
    private let entry: MountEntry?

    /// Mounts: makes libfuse's session on a new connection to the kernel.
    ///
    /// - Throws: what is wrong with the device or the rights; nothing is mounted then.
    static func open(at point: MountPoint, _ context: FuseContext) throws(FuseError) -> Self {
        let userdata = Unmanaged.passRetained(context)
        do throws(FuseError) {
            let session =
                KernelMount.mountsDirectly
                ? try openDirectly(at: point, userdata) : try openByHelper(at: point, userdata)
            context.attach(to: session)
            return Self(
                session: session, context: context, point: point, userdata: userdata,
                entry: MountEntry.top(at: point.path))
        } catch {
            userdata.release()
            throw error
        }
    }

    private static func openDirectly(
        at point: MountPoint, _ userdata: Unmanaged<FuseContext>
    ) throws(FuseError) -> OpaquePointer {
        let session = try makeSession(["registryfs"], userdata)
        var callbacks = DeviceIO.callbacks
        let descriptor: Int32
        do throws(FuseError) {
            descriptor = try KernelMount.mount(
                at: point, userdata.takeUnretainedValue().configuration
            ).take()
        } catch {
            fuse_session_destroy(session)
            throw error
        }
        guard fuse_session_custom_io(session, &callbacks, descriptor) == 0 else {
            _ = KernelMount.unmount(point.path, detach: true)
            close(descriptor)
            fuse_session_destroy(session)
            throw .sessionRefused
        }
        return session
    }

    private static func openByHelper(
        at point: MountPoint, _ userdata: Unmanaged<FuseContext>
    ) throws(FuseError) -> OpaquePointer {
        try KernelMount.checkHelper()
        let session = try makeSession(
            KernelMount.helperArguments(userdata.takeUnretainedValue().configuration), userdata)
        guard fuse_session_mount(session, point.path) == 0 else {
            fuse_session_destroy(session)
            throw .mountHelperFailed(path: point.path)
        }
        var callbacks = DeviceIO.callbacks
        guard fuse_session_custom_io(session, &callbacks, fuse_session_fd(session)) == 0 else {
            fuse_session_unmount(session)
            fuse_session_destroy(session)
            throw .sessionRefused
        }
        return session
    }

    private static func makeSession(
        _ words: [String], _ userdata: Unmanaged<FuseContext>
    ) throws(FuseError) -> OpaquePointer {
        var arguments = fuse_args()
        defer { fuse_opt_free_args(&arguments) }
        for word in words {
            guard fuse_opt_add_arg(&arguments, word) == 0 else { throw .sessionRefused }
        }
        var table = Operations.table
        guard let session = rfs_session_new(&arguments, &table, userdata.toOpaque()) else {
            throw .sessionRefused
        }
        return session
    }

    /// The connection to the kernel; it stays the session's to close.
    var device: Int32 { fuse_session_fd(session) }

    /// Where the mount stands, as the kernel lists it; where it was made, if that cannot be read.
    /// Touches no mount.
    var path: String {
        let own = (try? MountEntry.all())?.last { $0.isSameMount(as: entry) }
        return own?.mountPoint ?? point.path
    }

    /// Raises the read-ahead of the mount, which INIT can only lower; best effort, as it needs a
    /// writable sysfs. The directory is named by the device in mountinfo: asking the mount itself
    /// for it could wait for ourselves.
    func raiseReadAhead(_ log: Logger) {
        guard let device = entry?.device else { return }
        do {
            let file = try Sys.open("/sys/class/bdi/\(device)/read_ahead_kb", flags: O_WRONLY)
            let text = Array("\(context.configuration.readAheadKibibytes)\n".utf8)
            try text.withUnsafeBytes { try Sys.write(file.raw, at: 0, $0) }
        } catch {
            log.debug("the read-ahead stays as it is", metadata: ["errno": "\(error)"])
        }
    }

    // MARK: End

    /// Lets the kernel write dirty pages of shared mappings, which only syncfs(2) and unmounting do.
    /// The workers serve the requests that this causes.
    ///
    /// Where a page is of a file whose content is at a Kubo node, that may wait for it; what is not
    /// written in a certain time fails then.
    func writeBack(_ path: String, _ log: Logger) {
        let isOver = Monitor(false)
        let watch = try? Threads.start(name: "write-back") { [waits = context.waits] in
            let end = MonotonicClock.milliseconds + Self.writeBackMilliseconds
            let isLate = isOver.withLock { state in
                while !state {
                    let left = end - MonotonicClock.milliseconds
                    guard left > 0 else { return true }
                    isOver.wait(&state, milliseconds: Int(left))
                }
                return false
            }
            if isLate { waits.end() }
        }
        defer {
            isOver.withLock { $0 = true }
            isOver.wakeAll()
            watch?.join()
        }
        do throws(Errno) {
            let directory = try Sys.open(path, flags: O_RDONLY | O_DIRECTORY)
            _ = rfs_syncfs(directory.raw)
        } catch {
            log.debug("the mount could not be synchronized", metadata: ["errno": "\(error)"])
        }
    }

    /// How long dirty pages of shared mappings may take to be written when the mount is to end.
    private static var writeBackMilliseconds: Int64 { 10_000 }

    /// After an abort of the connection the mount still stands, and would answer ENOTCONN to all.
    /// It is known by its id and device, so that a mount of somebody else's is left alone.
    func detachIfStillThere(_ log: Logger) {
        let path = path
        guard MountEntry.top(at: path)?.isSameMount(as: entry) == true else { return }
        if let error = KernelMount.unmount(path, detach: true) {
            log.warning(
                "the dead mount could not be removed",
                metadata: ["path": "\(path)", "errno": "\(error)"])
        }
    }

    /// Frees what the mount consists of, once, after the last worker.
    func destroy() {
        // Closes the device where the helper mounted, and unmounts through it; else does nothing.
        fuse_session_unmount(session)
        // Closes the device. What still uses a detached mount gets ENOTCONN from now on.
        fuse_session_destroy(session)
        userdata.release()
    }
}
