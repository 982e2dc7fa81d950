internal import Base
internal import CFuse
internal import Volume

internal import struct SystemPackage.Errno

/// The requests that are decoded here and not by libfuse.
///
/// READ, READDIR, READDIRPLUS and WRITE, because their bytes are made and taken in place in the
/// thread's buffer; WRITE and SETXATTR also because libfuse 3.14 drops the bits that ask to clear
/// set-id bits; TMPFILE, STATX and SYNCFS, because 3.14 does not know them. The kernel treats ENOSYS
/// for the last three as "never ask again", so libfuse's own answer would disable them.
///
/// Each function returns the byte count of the payload it made, or throws what is answered.
struct DirectRequest {
    let request: Request
    /// Where the answer is made. A WRITE's bytes stand there until it is done.
    let payload: UnsafeMutableRawBufferPointer
    let context: FuseContext

    private var volume: Volume { context.volume }
    private var inode: Inode { Inode(request.header.nodeid) }

    /// Takes the fixed part of a body; one that is cut short is EIO.
    private func body<Body: BitwiseCopyable>(as type: Body.Type) throws(Errno) -> Body {
        guard let body = request.body(as: type) else {
            throw .ioError.because("the kernel's request is malformed")
        }
        return body
    }

    private func caller(umask: UInt32 = 0) -> Caller {
        Caller(
            uid: request.header.uid, gid: request.header.gid,
            pid: Int32(truncatingIfNeeded: request.header.pid), umask: umask)
    }

    private func store<Value: BitwiseCopyable>(_ value: Value) -> Int {
        payload.storeBytes(of: value, as: Value.self)
        return MemoryLayout<Value>.size
    }

    /// The part of the payload that the kernel has room for.
    private func room(_ size: UInt32) -> UnsafeMutableRawBufferPointer {
        let count = min(Int(size), context.configuration.requestBytesMax)
        return UnsafeMutableRawBufferPointer(rebasing: payload[..<count])
    }

    func read() throws(Errno) -> Int {
        let body = try body(as: fuse_read_in.self)
        return try volume.read(HandleID(body.fh), at: body.offset, into: room(body.size))
    }

    func write() throws(Errno) -> Int {
        let body = try body(as: fuse_write_in.self)
        let start = Request.bodyOffset + MemoryLayout<fuse_write_in>.size
        guard let bytes = request.bytes(at: start, count: Int(body.size)) else {
            throw .ioError.because("the kernel's request is malformed")
        }
        let written = try volume.write(
            HandleID(body.fh), at: body.offset, bytes,
            clearSetID: body.write_flags & BodyFlag.writeKillSetID != 0,
            caller: body.write_flags & BodyFlag.writeFromPages == 0 ? caller() : nil)
        var out = fuse_write_out()
        out.size = UInt32(clamping: written)
        return store(out)
    }

    func readDirectory() throws(Errno) -> Int {
        let body = try body(as: fuse_read_in.self)
        var packer = DirectoryPacker(room(body.size))
        if body.offset == 0 { context.beginListing(inode) }
        try volume.readDirectory(inode, from: body.offset, isForWalk: true) { packer.add($0) }
        if packer.byteCount == 0 { context.endListing(inode) }
        return packer.byteCount
    }

    /// Fills a packer; where the volume fails midway, the references of what was packed go back.
    func readDirectoryPlus(_ packer: inout DirectoryPacker) throws(Errno) -> Int {
        let body = try body(as: fuse_read_in.self)
        packer = DirectoryPacker(room(body.size))
        if body.offset == 0 { context.beginListing(inode) }
        do throws(Errno) {
            try volume.readDirectoryPlus(inode, from: body.offset, isForWalk: true) {
                entry, attributes in
                packer.add(entry, attributes, context.lifetimes)
            }
        } catch {
            packer.forEachReference { volume.forget($0, count: 1) }
            packer = DirectoryPacker(payload)
            throw error
        }
        if packer.byteCount == 0 { context.endListing(inode) }
        return packer.byteCount
    }

    func setExtendedAttribute() throws(Errno) -> Int {
        guard let size = request.word(at: 40), let flags = request.word(at: 44) else {
            throw .ioError.because("the kernel's request is malformed")
        }
        let isExtended = context.agreed(on: InitFlag.extendedSetExtendedAttribute)
        let moreFlags = isExtended ? request.word(at: 48) ?? 0 : 0
        let start = isExtended ? 56 : 48
        guard let name = request.name(at: start),
            let value = request.bytes(at: start + name.count + 1, count: Int(size))
        else { throw .ioError.because("the kernel's request is malformed") }
        try volume.setExtendedAttribute(
            FileName([UInt8](name)), of: inode, to: [UInt8](value),
            flags: Int32(bitPattern: flags),
            clearSetGID: moreFlags & BodyFlag.aclKillSetGID != 0, caller: caller())
        return 0
    }

    func statx() throws(Errno) -> Int {
        store(try volume.attributes(of: inode).encodedStatx(context.lifetimes))
    }

    func synchronizeAll() throws(Errno) -> Int {
        try volume.synchronizeAll()
        return 0
    }

    /// O_TMPFILE: the body is CREATE's, its name without meaning.
    func makeTemporary() throws(Errno) -> (Attributes, OpenedFile) {
        let body = try body(as: fuse_create_in.self)
        return try volume.makeTemporary(
            in: inode, mode: body.mode,
            flags: OpenFlags(rawValue: Int32(bitPattern: body.flags)),
            caller: caller(umask: body.umask))
    }

    /// Makes the answer to TMPFILE: the entry, and after it how it is open.
    func encode(_ attributes: Attributes, _ file: OpenedFile) -> Int {
        store(
            CreatedAnswer(
                entry: attributes.encodedCreated(context.lifetimes),
                open: file.encoded(isWritable: true, context)))
    }
}

/// The answer to CREATE and TMPFILE: `struct fuse_entry_out`, then `struct fuse_open_out`.
struct CreatedAnswer: BitwiseCopyable {
    var entry: fuse_entry_out
    var open: rfs_open_out
}

extension OpenedFile {
    /// The answer to OPEN. What was opened to read needs no FLUSH: there is nothing that close(2)
    /// could still fail with.
    ///
    /// What may wait for a Kubo node is read without the page cache. A process that waits for the request
    /// itself can be interrupted by any signal, and leaves nothing behind; one that waits for a page
    /// dies of fatal signals only, and leaves a page locked, on which truncation and removal wait, and
    /// a read-ahead that keeps its place among the requests in the background.
    func encoded(isWritable: Bool, _ context: FuseContext) -> rfs_open_out {
        var out = rfs_open_out()
        out.fh = handle.number
        out.open_flags = BodyFlag.openParallelDirectWrites
        switch access {
        case .volume(let keepsPages):
            if keepsPages { out.open_flags |= BodyFlag.openKeepCache }
            if mayWait, context.agreed(on: InitFlag.directIOAllowsMappings) {
                out.open_flags |= BodyFlag.openDirectIO
            }
        case .backingFile(let id, let byRequest):
            out.open_flags |= BodyFlag.openPassthrough
            if byRequest { out.open_flags |= BodyFlag.openDirectIO }
            out.backing_id = id.number
        }
        if !isWritable { out.open_flags |= BodyFlag.openNoFlush }
        return out
    }
}
