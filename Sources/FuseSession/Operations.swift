internal import Base
internal import CFuse
internal import Volume

internal import struct SystemPackage.Errno

/// The callbacks that libfuse calls for each kind of request; one group to a file.
///
/// All of them run on our workers' threads, in functions that belong to no actor. None decides
/// anything: arguments become the volume's types, and its answer or error becomes the kernel's.
enum Operations {
    /// The table for `fuse_session_new`.
    ///
    /// Not in it, for a reason: `getlk`, `setlk` and `flock`, so that the kernel keeps the locks of
    /// this one host by itself; `access`, which `default_permissions` makes the kernel answer;
    /// `write_buf`, `read` and the others of `DirectRequest`, which never reach libfuse.
    static var table: fuse_lowlevel_ops {
        var table = fuse_lowlevel_ops()
        table.`init` = { userdata, connection in
            guard let userdata, let connection else { return }
            Unmanaged<FuseContext>.fromOpaque(userdata)._withUnsafeGuaranteedRef { context in
                Operations.negotiate(connection, context)
            }
        }
        addNames(to: &table)
        addFiles(to: &table)
        addAttributes(to: &table)
        addExtendedAttributes(to: &table)
        addDirectories(to: &table)
        return table
    }

    /// Chooses among what the kernel offers; `InitOffer` adds what libfuse 3.14 cannot say.
    private static func negotiate(
        _ connection: UnsafeMutablePointer<fuse_conn_info>, _ context: FuseContext
    ) {
        let wanted: [UInt32] = [
            UInt32(FUSE_CAP_ASYNC_READ), UInt32(FUSE_CAP_ATOMIC_O_TRUNC),
            // The volume applies the umask, because a default ACL may overrule it.
            UInt32(FUSE_CAP_DONT_MASK), UInt32(FUSE_CAP_POSIX_ACL),
            UInt32(FUSE_CAP_READDIRPLUS), UInt32(FUSE_CAP_READDIRPLUS_AUTO),
            UInt32(FUSE_CAP_PARALLEL_DIROPS), UInt32(FUSE_CAP_ASYNC_DIO),
            UInt32(FUSE_CAP_CACHE_SYMLINKS),
            // Content changes only through the kernel, so a new mtime is no reason to drop pages.
            UInt32(FUSE_CAP_EXPLICIT_INVAL_DATA),
        ]
        for capability in wanted { _ = rfs_want(connection, UInt64(capability)) }
        let refused: [UInt32] = [
            UInt32(FUSE_CAP_AUTO_INVAL_DATA), UInt32(FUSE_CAP_WRITEBACK_CACHE),
            UInt32(FUSE_CAP_HANDLE_KILLPRIV), UInt32(FUSE_CAP_SPLICE_READ),
            UInt32(FUSE_CAP_SPLICE_WRITE), UInt32(FUSE_CAP_SPLICE_MOVE),
            UInt32(FUSE_CAP_IOCTL_DIR),
        ]
        for capability in refused { rfs_refuse(connection, UInt64(capability)) }
        let configuration = context.configuration
        if configuration.keepsFileHandles {
            _ = rfs_want(connection, UInt64(FUSE_CAP_EXPORT_SUPPORT))
        }
        if configuration.usesPassthrough { rfs_want_passthrough(connection) }
        connection.pointee.max_write = UInt32(configuration.requestBytesMax)
        connection.pointee.max_background = configuration.backgroundRequestsMax
        connection.pointee.congestion_threshold =
            max(1, configuration.backgroundRequestsMax / 4 * 3)
    }

    /// Serves a request whose answer has no payload.
    @inline(__always)
    static func done(
        _ request: fuse_req_t?, _ body: (FuseContext) throws(Errno) -> Void
    ) {
        guard let request else { return }
        let reply = Reply(request)
        do throws(Errno) {
            try body(context(of: request))
            reply.success()
        } catch {
            reply.failure(error)
        }
    }

    /// Serves a request whose answer is an entry, with which a lookup reference goes to the kernel.
    @inline(__always)
    static func entry(
        _ request: fuse_req_t?, _ body: (FuseContext) throws(Errno) -> Attributes
    ) {
        guard let request else { return }
        let reply = Reply(request)
        let context = context(of: request)
        do throws(Errno) {
            let attributes = try body(context)
            if !reply.value(attributes.encodedEntry(context.lifetimes)) {
                context.volume.forget(attributes.inode, count: 1)
            }
        } catch {
            reply.failure(error)
        }
    }

    /// Serves a request that makes a name in a directory.
    @inline(__always)
    static func newEntry(
        _ request: fuse_req_t?, in parent: fuse_ino_t,
        _ body: (FuseContext) throws(Errno) -> Attributes
    ) {
        entry(request) { context throws(Errno) in
            let attributes = try body(context)
            context.changedEntries(of: Inode(parent))
            return attributes
        }
    }

    /// Serves a request whose answer is a value of the protocol.
    @inline(__always)
    static func value<Value: BitwiseCopyable>(
        _ request: fuse_req_t?, _ body: (FuseContext) throws(Errno) -> Value
    ) {
        guard let request else { return }
        let reply = Reply(request)
        do throws(Errno) {
            let found = try body(context(of: request))
            _ = reply.value(found)
        } catch {
            reply.failure(error)
        }
    }

    /// Serves a request whose answer is bytes.
    @inline(__always)
    static func bytes(
        _ request: fuse_req_t?, _ body: (FuseContext) throws(Errno) -> [UInt8]
    ) {
        guard let request else { return }
        let reply = Reply(request)
        do throws(Errno) {
            let found = try body(context(of: request))
            reply.bytes(found)
        } catch {
            reply.failure(error)
        }
    }

    /// The user data of the session; libfuse hands back the pointer that it was made with.
    @inline(__always)
    static func context(of request: fuse_req_t) -> FuseContext {
        guard let userdata = fuse_req_userdata(request) else {
            preconditionFailure("the session was made without its context")
        }
        return Unmanaged<FuseContext>.fromOpaque(userdata).takeUnretainedValue()
    }

    /// On whose behalf a request is made.
    static func caller(of request: fuse_req_t?) -> Caller {
        guard let request, let sender = fuse_req_ctx(request)?.pointee else {
            preconditionFailure("libfuse gave a request without its context")
        }
        return Caller(uid: sender.uid, gid: sender.gid, pid: sender.pid, umask: sender.umask)
    }

    /// A name that libfuse points at; NULL, which it never gives, is EIO.
    static func name(_ pointer: UnsafePointer<CChar>?) throws(Errno) -> FileName {
        guard let pointer else {
            throw .ioError.because("the kernel's request is malformed")
        }
        return FileName(cString: pointer)
    }
}
