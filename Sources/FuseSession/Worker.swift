internal import Base
internal import CFuse
internal import Glibc
internal import Logging
internal import Volume

internal import struct SystemPackage.Errno

/// One thread that receives requests and answers them, with the one buffer it needs.
///
///     0            4016      4080  4096 (page)                          + 1 MiB
///     | unused     | request …                                                |
///                  | header, WRITE's body | WRITE's bytes, page-aligned        |
///                  (answer:)      | header | payload, page-aligned             |
///
/// A request is received so that the bytes of a WRITE start at a page; the payload of a READ is
/// made at the same place, because by then all of the request has been read. So neither copies,
/// and a thread needs 1 MiB in all.
final class Worker {
    private let buffer: OwnedBuffer
    private let session: OpaquePointer
    private let context: FuseContext
    private let receivers: Receivers
    /// INIT as this thread received it; its answer leaves on the same thread.
    private(set) var offer: InitOffer?
    /// The request that is being served by libfuse.
    private(set) var request: Request?
    /// The number of the request that is being served.
    private(set) var unique: UInt64 = 0
    /// The request has waited for a node.
    var hasWaited = false
    /// The request's wait was ended for want of a thread, or with the mount: EIO, not EINTR.
    var isRefused = false

    private static let pageByteCount = 4096
    private static let requestOffset = pageByteCount - 80
    private static let answerHeaderByteCount = MemoryLayout<fuse_out_header>.size

    init(session: OpaquePointer, context: FuseContext, receivers: Receivers) {
        self.session = session
        self.receivers = receivers
        self.context = context
        // libfuse reads up to its own idea of a buffer, 1 MiB and a page in 3.14; the read
        // callback below cuts that to `capacity`.
        buffer = OwnedBuffer(
            byteCount: 2 * Self.pageByteCount + context.configuration.requestBytesMax)
    }

    /// How many bytes a request can have.
    var capacity: Int { buffer.bytes.count - Self.requestOffset }

    /// Where the payload of an answer is made, one page-aligned MiB.
    var payload: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[Self.pageByteCount...])
    }

    /// Serves requests until the session ends: the mount is gone, or it was told to exit.
    ///
    /// - Returns: false where the session goes on, without this thread.
    func serve() -> Bool {
        Current.set(self)
        defer { Current.set(nil) }
        var received = fuse_buf()
        received.mem = buffer.bytes.baseAddress.map { $0 + Self.requestOffset }
        while receivers.enter() && fuse_session_exited(session) == 0 {
            let count = fuse_session_receive_buf(session, &received)
            receivers.leave()
            if count > 0 {
                serve(received, byteCount: Int(count))
                if hasWaited {
                    (hasWaited, isRefused) = (false, false)
                    if context.waits.takesSpare() { return false }
                }
            } else if count == 0 {
                break
            } else if count != -EINTR && count != -EAGAIN {
                context.log.error(
                    "reading from the FUSE device failed", metadata: ["errno": "\(-count)"])
                break
            }
        }
        receivers.close()
        return true
    }

    /// What is answered for an error of the volume's.
    func answered(_ error: Errno) -> Errno {
        error == .interrupted && isRefused ? .ioError : error
    }

    private func serve(_ received: fuse_buf, byteCount: Int) {
        let start = Self.requestOffset
        let bytes = UnsafeRawBufferPointer(
            rebasing: buffer.bytes[start..<min(start + byteCount, buffer.bytes.count)])
        guard let request = Request(bytes) else {
            context.log.error("a request of the kernel is malformed")
            return
        }
        unique = request.header.unique
        switch request.header.opcode {
        case Opcode.initialize:
            offer = InitOffer(request)
        case Opcode.interrupt:
            // The kernel wants to stop waiting for a request: it asks, and the request may be
            // finished all the same (fuse.rst, "Interrupting filesystem operations"). What waits for
            // a node ends; all else ends by itself, as on a local disk.
            if let body = request.body(as: fuse_interrupt_in.self) {
                context.waits.interrupt(body.unique)
            }
            return
        default:
            if serveDirectly(request) { return }
        }
        self.request = request
        var received = received
        fuse_session_process_buf(session, &received)
        self.request = nil
    }

    /// Serves what is not left to libfuse; false for all else.
    private func serveDirectly(_ request: Request) -> Bool {
        let direct = DirectRequest(request: request, payload: payload, context: context)
        switch request.header.opcode {
        case Opcode.read: answer(request, direct.read)
        case Opcode.write: answer(request, direct.write)
        case Opcode.readDirectory: answer(request, direct.readDirectory)
        case Opcode.readDirectoryPlus: serveReadDirectoryPlus(request, direct)
        case Opcode.setExtendedAttribute: answer(request, direct.setExtendedAttribute)
        case Opcode.statx: answer(request, direct.statx)
        case Opcode.synchronizeAll: answer(request, direct.synchronizeAll)
        case Opcode.makeTemporary: serveMakeTemporary(request, direct)
        default: return false
        }
        return true
    }

    private func serveReadDirectoryPlus(_ request: Request, _ direct: DirectRequest) {
        var packer = DirectoryPacker(payload)
        let isTaken = answer(request) { () throws(Errno) in
            try direct.readDirectoryPlus(&packer)
        }
        guard !isTaken else { return }
        packer.forEachReference { context.volume.forget($0, count: 1) }
    }

    private func serveMakeTemporary(_ request: Request, _ direct: DirectRequest) {
        var made: (Attributes, OpenedFile)?
        let isTaken = answer(request) { () throws(Errno) in
            let new = try direct.makeTemporary()
            made = new
            return direct.encode(new.0, new.1)
        }
        guard !isTaken, let (attributes, file) = made else { return }
        context.volume.release(file.handle)
        context.volume.forget(attributes.inode, count: 1)
    }

    /// Answers a request with what a body made in `payload`, by its byte count, or with the error
    /// that it threw: once, whatever happens. False where the kernel no longer knows the request.
    @discardableResult
    private func answer(_ request: Request, _ body: () throws(Errno) -> Int) -> Bool {
        var header = fuse_out_header()
        header.unique = request.header.unique
        var payloadByteCount = 0
        do throws(Errno) {
            payloadByteCount = try body()
        } catch {
            header.error = -answered(error).forKernel
        }
        let start = Self.pageByteCount - Self.answerHeaderByteCount
        let count = Self.answerHeaderByteCount + payloadByteCount
        header.len = UInt32(count)
        buffer.bytes.storeBytes(of: header, toByteOffset: start, as: fuse_out_header.self)
        let answer = UnsafeRawBufferPointer(rebasing: buffer.bytes[start..<start + count])
        return write(fuse_session_fd(session), answer.baseAddress, count) == count
    }
}

/// The worker of the calling thread, for callbacks of libfuse that need more of a request than
/// libfuse hands on. It is set only while `serve` runs, which keeps the worker alive.
enum Current {
    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let code = pthread_key_create(&key, nil)
        precondition(code == 0, "the process has no thread-specific key left")
        return key
    }()

    fileprivate static func set(_ worker: Worker?) {
        pthread_setspecific(key, worker.map { Unmanaged.passUnretained($0).toOpaque() })
    }

    static var worker: Worker? {
        pthread_getspecific(key).map { Unmanaged<Worker>.fromOpaque($0).takeUnretainedValue() }
    }
}

/// The device's reads and writes, as libfuse calls them (`fuse_session_custom_io`).
enum DeviceIO {
    static var callbacks: fuse_custom_io {
        var callbacks = fuse_custom_io()
        callbacks.read = { descriptor, bytes, count, _ in
            // Never more than the thread's buffer holds, whatever libfuse's own size is.
            read(descriptor, bytes, min(count, Current.worker?.capacity ?? count))
        }
        callbacks.writev = { descriptor, vectors, count, userdata in
            guard let vectors, let userdata else { return writev(descriptor, vectors, count) }
            let context = Unmanaged<FuseContext>.fromOpaque(userdata)
            return context._withUnsafeGuaranteedRef { context in
                context.isInitialized
                    ? writev(descriptor, vectors, count)
                    : DeviceIO.sendInitialAnswer(descriptor, vectors, count, context)
            }
        }
        return callbacks
    }

    /// Sends an answer, and mends it first if it is the one to INIT.
    private static func sendInitialAnswer(
        _ descriptor: Int32, _ vectors: UnsafeMutablePointer<iovec>, _ count: Int32,
        _ context: FuseContext
    ) -> Int {
        guard count == 2, let base = vectors[0].iov_base, let body = vectors[1].iov_base,
            vectors[0].iov_len == MemoryLayout<fuse_out_header>.size,
            let offer = Current.worker?.offer
        else { return writev(descriptor, vectors, count) }
        let header = base.loadUnaligned(as: fuse_out_header.self)
        let reply = UnsafeMutableRawBufferPointer(start: body, count: vectors[1].iov_len)
        guard header.unique == offer.unique, header.error == 0,
            let flags = offer.mend(
                reply, wantsPassthrough: context.configuration.usesPassthrough)
        else { return writev(descriptor, vectors, count) }
        let written = writev(descriptor, vectors, count)
        if written >= 0 { context.initialized(with: flags) }
        return written
    }
}
