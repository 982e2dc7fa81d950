internal import Base
internal import CFuse
internal import Glibc
internal import Volume

internal import struct SystemPackage.Errno

extension Operations {
    /// open and create, and what goes by a handle except READ and WRITE.
    static func addFiles(to table: inout fuse_lowlevel_ops) {
        table.open = { Operations.open($0, $1, $2) }
        table.create = { Operations.create($0, $1, $2, $3, $4) }
        // FLUSH has nothing to tell: the error of a write was its answer. ENOSYS makes the kernel
        // leave the request out for good; what a shared mapping changed it still writes at close(2).
        table.flush = { request, _, _ in
            guard let request else { return }
            Reply(request).failure(.noFunction)
        }
        table.release = { request, _, file in
            Operations.done(request) { context throws(Errno) in
                let handle = try Operations.handle(of: file)
                if !context.releases.add(handle) { context.volume.release(handle) }
            }
        }
        table.fsync = { request, _, dataOnly, file in
            Operations.done(request) { context throws(Errno) in
                try context.volume.synchronize(
                    try Operations.handle(of: file), dataOnly: dataOnly != 0)
            }
        }
        table.fallocate = { request, _, mode, offset, length, file in
            Operations.done(request) { context throws(Errno) in
                guard let offset = UInt64(exactly: offset), let length = UInt64(exactly: length)
                else { throw Errno.invalidArgument }
                try context.volume.allocate(
                    try Operations.handle(of: file), mode: mode, offset: offset, length: length,
                    caller: Operations.caller(of: request))
            }
        }
        table.copy_file_range = { request, _, from, source, _, to, destination, length, flags in
            Operations.value(request) { context throws(Errno) in
                guard flags == 0, let from = UInt64(exactly: from), let to = UInt64(exactly: to)
                else { throw Errno.invalidArgument }
                // The answer has 32 bits for the count, so the kernel asks for no more either.
                let length = min(UInt64(length), UInt64(UInt32.max) & ~4095)
                var out = fuse_write_out()
                out.size = UInt32(
                    clamping: try context.volume.copyRange(
                        from: try Operations.handle(of: source), at: from,
                        to: try Operations.handle(of: destination), at: to, length: length,
                        caller: Operations.caller(of: request)))
                return out
            }
        }
        table.lseek = { request, _, offset, whence, file in
            Operations.value(request) { context throws(Errno) in
                // lseek(2): ENXIO, offset beyond the end; the kernel lets negative ones through.
                guard let offset = UInt64(exactly: offset) else {
                    throw Errno.noSuchAddressOrDevice
                }
                var out = fuse_lseek_out()
                out.offset = try context.volume.seek(
                    try Operations.handle(of: file), from: offset, whence: whence)
                return out
            }
        }
    }

    /// The handle that OPEN answered with; NULL, which libfuse gives for no such request, is EBADF.
    private static func handle(
        of file: UnsafeMutablePointer<fuse_file_info>?
    ) throws(Errno) -> HandleID {
        guard let file else { throw Errno.badFileDescriptor }
        return HandleID(file.pointee.fh)
    }

    private static func open(
        _ request: fuse_req_t?, _ inode: fuse_ino_t, _ file: UnsafeMutablePointer<fuse_file_info>?
    ) {
        guard let request else { return }
        let reply = Reply(request)
        let context = context(of: request)
        let volume = context.volume
        let flags = OpenFlags(rawValue: file?.pointee.flags ?? 0)
        do throws(Errno) {
            let opened = try volume.open(
                Inode(inode), flags: flags, caller: caller(of: request),
                clearSetID: clearsSetID(flags))
            if !reply.value(opened.encoded(isWritable: flags.isWritable, context)) {
                volume.release(opened.handle)
            }
        } catch {
            reply.failure(error)
        }
    }

    private static func create(
        _ request: fuse_req_t?, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>?,
        _ mode: mode_t, _ file: UnsafeMutablePointer<fuse_file_info>?
    ) {
        guard let request else { return }
        let reply = Reply(request)
        let context = context(of: request)
        let flags = OpenFlags(rawValue: file?.pointee.flags ?? 0)
        do throws(Errno) {
            let (attributes, opened) = try context.volume.create(
                try Operations.name(name), in: Inode(parent), mode: mode & permissionBits,
                flags: flags, caller: caller(of: request))
            context.changedEntries(of: Inode(parent))
            let answer = CreatedAnswer(
                entry: attributes.encodedCreated(context.lifetimes),
                open: opened.encoded(isWritable: flags.isWritable, context))
            if !reply.value(answer) {
                context.volume.release(opened.handle)
                context.volume.forget(attributes.inode, count: 1)
            }
        } catch {
            reply.failure(error)
        }
    }

    /// Whether an open with O_TRUNC comes from somebody without CAP_FSETID. Of the request libfuse
    /// 3.14 hands on everything but this flag, so it is read from the raw one.
    private static func clearsSetID(_ flags: OpenFlags) -> Bool {
        guard flags.truncates, let openFlags = Current.worker?.request?.word(at: 44) else {
            return false
        }
        return openFlags & BodyFlag.openKillSetID != 0
    }
}
