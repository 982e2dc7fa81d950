internal import Base
internal import CFuse
internal import Glibc
internal import Volume

internal import struct SystemPackage.Errno

extension Operations {
    /// getattr, setattr and statfs.
    static func addAttributes(to table: inout fuse_lowlevel_ops) {
        table.getattr = { request, inode, _ in
            Operations.value(request) { context throws(Errno) in
                try context.volume.attributes(of: Inode(inode)).encodedAlone(context.lifetimes)
            }
        }
        table.setattr = { request, inode, attributes, valid, file in
            Operations.value(request) { context throws(Errno) in
                guard let attributes else {
                    throw Errno.ioError.because("the kernel's request is malformed")
                }
                return try context.volume.setAttributes(
                    of: Inode(inode), Operations.change(attributes.pointee, valid),
                    handle: file.map { HandleID($0.pointee.fh) },
                    caller: Operations.caller(of: request)
                ).encodedAlone(context.lifetimes)
            }
        }
        table.statfs = { request, _ in
            Operations.value(request) { context throws(Errno) in
                try context.volume.statistics().encoded
            }
        }
    }

    /// What SETATTR asks for, from the values and the bits that say which of them count.
    private static func change(_ new: stat, _ valid: Int32) throws(Errno) -> AttributeChange {
        func has(_ bit: Int32) -> Bool { valid & bit != 0 }
        var change = AttributeChange()
        if has(FUSE_SET_ATTR_MODE) { change.mode = new.st_mode & permissionBits }
        if has(FUSE_SET_ATTR_UID) { change.uid = new.st_uid }
        if has(FUSE_SET_ATTR_GID) { change.gid = new.st_gid }
        if has(FUSE_SET_ATTR_SIZE) {
            guard let size = UInt64(exactly: new.st_size) else { throw Errno.invalidArgument }
            change.size = size
        }
        if has(FUSE_SET_ATTR_ATIME) {
            change.accessed =
                has(FUSE_SET_ATTR_ATIME_NOW) ? .now : .at(Timestamp(new.st_atim))
        }
        if has(FUSE_SET_ATTR_MTIME) {
            change.modified =
                has(FUSE_SET_ATTR_MTIME_NOW) ? .now : .at(Timestamp(new.st_mtim))
        }
        if has(FUSE_SET_ATTR_CTIME) { change.changed = Timestamp(new.st_ctim) }
        change.clearSetID = has(BodyFlag.attributeKillSetID)
        return change
    }
}

extension Timestamp {
    fileprivate init(_ time: timespec) {
        self.init(seconds: Int64(time.tv_sec), nanoseconds: Int64(time.tv_nsec))
    }
}
