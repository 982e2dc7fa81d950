internal import Base
internal import CFuse
internal import Glibc
internal import Volume

internal import struct SystemPackage.Errno

extension Operations {
    /// lookup, forget, and all that makes, moves or removes a name.
    static func addNames(to table: inout fuse_lowlevel_ops) {
        table.lookup = { Operations.lookup($0, $1, $2) }
        table.forget = { request, inode, count in
            guard let request else { return }
            let reply = Reply(request)
            Operations.context(of: request).volume.forget(Inode(inode), count: count)
            reply.none()
        }
        table.forget_multi = { request, count, forgets in
            guard let request else { return }
            let reply = Reply(request)
            let volume = Operations.context(of: request).volume
            for forget in UnsafeBufferPointer(start: forgets, count: count) {
                volume.forget(Inode(forget.ino), count: forget.nlookup)
            }
            reply.none()
        }
        table.mknod = { request, parent, name, mode, device in
            Operations.newEntry(request, in: parent) { context throws(Errno) in
                guard let kind = FileKind(mode: mode) else { throw Errno.invalidArgument }
                return try context.volume.makeNode(
                    try Operations.name(name), in: Inode(parent), kind: kind,
                    mode: mode & Operations.permissionBits, rdev: UInt64(device),
                    caller: Operations.caller(of: request))
            }
        }
        table.mkdir = { request, parent, name, mode in
            Operations.newEntry(request, in: parent) { context throws(Errno) in
                try context.volume.makeDirectory(
                    try Operations.name(name), in: Inode(parent),
                    mode: mode & Operations.permissionBits,
                    caller: Operations.caller(of: request))
            }
        }
        table.symlink = { request, target, parent, name in
            Operations.newEntry(request, in: parent) { context throws(Errno) in
                try context.volume.makeSymlink(
                    try Operations.name(name), in: Inode(parent),
                    target: try Operations.name(target).bytes,
                    caller: Operations.caller(of: request))
            }
        }
        table.link = { request, inode, parent, name in
            Operations.newEntry(request, in: parent) { context throws(Errno) in
                try context.volume.link(
                    Inode(inode), as: try Operations.name(name), in: Inode(parent))
            }
        }
        table.unlink = { request, parent, name in
            Operations.done(request) { context throws(Errno) in
                try context.volume.unlink(try Operations.name(name), in: Inode(parent))
                context.changedEntries(of: Inode(parent))
            }
        }
        table.rmdir = { request, parent, name in
            Operations.done(request) { context throws(Errno) in
                try context.volume.removeDirectory(try Operations.name(name), in: Inode(parent))
                context.changedEntries(of: Inode(parent))
            }
        }
        table.rename = { request, parent, name, newParent, newName, flags in
            Operations.done(request) { context throws(Errno) in
                try context.volume.rename(
                    try Operations.name(name), in: Inode(parent),
                    to: try Operations.name(newName), in: Inode(newParent),
                    flags: RenameFlags(rawValue: flags), caller: Operations.caller(of: request))
                context.changedEntries(of: Inode(parent))
                if newParent != parent { context.changedEntries(of: Inode(newParent)) }
            }
        }
        table.readlink = { request, inode in
            Operations.bytes(request) { context throws(Errno) in
                try context.volume.readSymlink(Inode(inode))
            }
        }
    }

    /// The part of st_mode that is no S_IFMT: permission, set-id and sticky bits.
    static var permissionBits: UInt32 { 0o7777 }

    /// A name that is not there is answered with an entry without node id, which the kernel
    /// remembers, where that is wanted.
    private static func lookup(
        _ request: fuse_req_t?, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>?
    ) {
        guard let request else { return }
        let reply = Reply(request)
        let context = context(of: request)
        do throws(Errno) {
            let attributes = try context.volume.lookup(
                try Operations.name(name), in: Inode(parent))
            if !reply.value(attributes.encodedEntry(context.lifetimes)) {
                context.volume.forget(attributes.inode, count: 1)
            }
        } catch {
            guard error == .noSuchFileOrDirectory, context.lifetimes.negative > 0,
                let asked = try? Operations.name(name),
                !context.volume.namesChangeUnseen(in: Inode(parent), asked)
            else {
                return reply.failure(error)
            }
            var nothing = fuse_entry_out()
            nothing.entry_valid = context.lifetimes.negative
            _ = reply.value(nothing)
        }
    }
}
