internal import Base
internal import CFuse
internal import Volume

internal import struct SystemPackage.Errno

extension Operations {
    /// getxattr, listxattr and removexattr; SETXATTR is in `DirectRequest`.
    static func addExtendedAttributes(to table: inout fuse_lowlevel_ops) {
        table.getxattr = { request, inode, name, size in
            Operations.sized(request, size) { context throws(Errno) in
                try context.volume.extendedAttribute(
                    try Operations.name(name), of: Inode(inode),
                    for: Operations.caller(of: request).uid)
            }
        }
        table.listxattr = { request, inode, size in
            Operations.sized(request, size) { context throws(Errno) in
                try context.volume.extendedAttributeNames(of: Inode(inode)) {
                    CallerPrivilege.isAdministrator(Operations.caller(of: request))
                }
            }
        }
        table.removexattr = { request, inode, name in
            Operations.done(request) { context throws(Errno) in
                try context.volume.removeExtendedAttribute(
                    try Operations.name(name), of: Inode(inode),
                    caller: Operations.caller(of: request))
            }
        }
    }

    /// Answers with a value, with its size alone where the caller has room for nothing, and with
    /// ERANGE where it has too little (getxattr(2), listxattr(2)).
    @inline(__always)
    private static func sized(
        _ request: fuse_req_t?, _ size: Int,
        _ body: (FuseContext) throws(Errno) -> [UInt8]
    ) {
        guard let request else { return }
        let reply = Reply(request)
        do throws(Errno) {
            let found = try body(context(of: request))
            if size == 0 {
                var out = fuse_getxattr_out()
                out.size = UInt32(clamping: found.count)
                _ = reply.value(out)
            } else if found.count > size {
                reply.failure(.outOfRange)
            } else {
                reply.bytes(found)
            }
        } catch {
            reply.failure(error)
        }
    }
}
