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
///
/// A thread with a ring gets its requests by that: the headers at the start of the buffer, and what
/// follows them at the page, where the payload of the answer is expected too. The headers are put
/// before it, and all is as if the device had been read.
final class Worker {
    private let buffer: OwnedBuffer
    private let session: OpaquePointer
    private let context: FuseContext
    private let source: Source
    private var ring: RequestRing?
    /// The answer of the request that is being served, for the ring; nil until it is known.
    private var ringAnswer: (error: Int32, payloadByteCount: Int)?
    /// INIT as this thread received it; its answer leaves on the same thread.
    private(set) var offer: InitOffer?
    /// The request that is being served by libfuse.
    private(set) var request: Request?
    /// The number of the request that is being served.
    private(set) var unique: UInt64 = 0
    /// On whose behalf it is served; the kernel gives what it does by itself no user's number.
    private(set) var user: UInt32 = 0
    /// Its operation, and the inode that it names.
    private var (opcode, nodeID): (UInt32, UInt64) = (0, 0)
    /// What this thread counts. Threads that only stand by have none.
    private lazy var counters: OperationTable = {
        hasCounters = true
        return context.counters.take()
    }()
    private var hasCounters = false
    /// The request has waited for a Kubo node.
    var hasWaited = false
    /// The request's wait was ended for want of a thread, or with the mount: EIO, not EINTR.
    var isRefused = false
    /// One of those of its queue whose buffers keep their memory although a request in them has waited.
    var isHolder = false
    /// Who stands in for this thread while its request waits.
    let crew: WaitingRequests.Crew
    /// A request was taken that cannot be answered any more.
    private(set) var isBroken = false

    private static let pageByteCount = 4096
    private static let requestOffset = pageByteCount - 80
    private static let answerHeaderByteCount = MemoryLayout<fuse_out_header>.size

    /// Where a thread's requests come from.
    enum Source {
        /// The device, in turn with others.
        case device(ReaderThrottle)
        /// A queue of io_uring's; the closure is called once, with what came of taking part.
        case queue(UInt16, whenRegistered: (Errno?) -> Void)
    }

    init(session: OpaquePointer, context: FuseContext, source: Source) {
        self.session = session
        self.source = source
        switch source {
        case .device: crew = .device
        case .queue(let number, _): crew = .queue(number)
        }
        self.context = context
        // libfuse reads up to its own idea of a buffer, 1 MiB and a page in 3.14; the read
        // callback below cuts that to `capacity`.
        buffer = OwnedBuffer(
            byteCount: 2 * Self.pageByteCount + context.configuration.requestBytesMax)
    }

    deinit {
        if hasCounters { context.counters.giveBack(counters) }
    }

    /// How many bytes a request from the device can have.
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
        switch source {
        case .device(let throttle): return serveDevice(throttle)
        case .queue(let number, let whenRegistered):
            return serveQueue(number, whenRegistered)
        }
    }

    private func serveDevice(_ throttle: ReaderThrottle) -> Bool {
        var received = fuse_buf()
        received.mem = buffer.bytes.baseAddress.map { $0 + Self.requestOffset }
        while throttle.enter() && fuse_session_exited(session) == 0 {
            let count = fuse_session_receive_buf(session, &received)
            throttle.leave()
            if count > 0 {
                let start = Self.requestOffset
                serve(start..<min(start + Int(count), buffer.bytes.count))
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
        throttle.close()
        return true
    }

    /// What is answered for an error of the request that is being served: the one place where that is
    /// decided. Counts it, and logs what no program should have to see.
    func failed(with error: Errno) -> Errno {
        var error = error
        if error == .interrupted, isRefused {
            error = .ioError.because(
                "the wait for the node was refused: too many requests wait, or the mount ends")
        }
        counters.note(opcode, error)
        guard !error.isOrdinary else { return error }
        let failure = FailureLog.Failure(
            operation: OperationName.of(opcode), inode: nodeID, error: error,
            cause: FailureCause.take())
        context.failures.note(failure) { [volume = context.volume, nodeID] in
            volume.shownPath(of: Inode(nodeID))
        }
        return error
    }

    private func serve(_ range: Range<Int>) {
        let start = MonotonicClock.nanoseconds
        // What work of before left behind, which went well in the end.
        FailureCause.take()
        (opcode, nodeID) = (0, 0)
        serveNow(range)
        counters.note(opcode, nanoseconds: MonotonicClock.nanoseconds - start)
    }

    private func serveNow(_ range: Range<Int>) {
        let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[range])
        guard let request = Request(UnsafeRawBufferPointer(bytes)) else {
            context.log.error("a request of the kernel is malformed")
            return
        }
        (unique, user) = (request.header.unique, request.header.uid)
        (opcode, nodeID) = (request.header.opcode, request.header.nodeid)
        switch request.header.opcode {
        case Opcode.initialize:
            offer = InitOffer(request)
        case Opcode.interrupt:
            // The kernel wants to stop waiting for a request: it asks, and the request may be
            // finished all the same (fuse.rst, "Interrupting filesystem operations"). What waits for
            // a Kubo node ends; all else ends by itself, as on a local disk.
            if let body = request.body(as: fuse_interrupt_in.self) {
                context.waits.interrupt(body.unique)
            }
            return
        default:
            if serveDirectly(request) { return }
        }
        self.request = request
        var received = fuse_buf()
        received.mem = bytes.baseAddress
        received.size = bytes.count
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
            header.error = -failed(with: error).forKernel
        }
        if ring != nil {
            ringAnswer = (header.error, payloadByteCount)
            return true
        }
        let start = Self.pageByteCount - Self.answerHeaderByteCount
        let count = Self.answerHeaderByteCount + payloadByteCount
        header.len = UInt32(count)
        buffer.bytes.storeBytes(of: header, toByteOffset: start, as: fuse_out_header.self)
        let answer = UnsafeRawBufferPointer(rebasing: buffer.bytes[start..<start + count])
        return write(fuse_session_fd(session), answer.baseAddress, count) == count
    }
}

// MARK: - Requests of a ring

extension Worker {
    private func serveQueue(_ number: UInt16, _ whenRegistered: (Errno?) -> Void) -> Bool {
        guard let header = buffer.bytes.baseAddress else {
            whenRegistered(.noMemory)
            return false
        }
        // The kernel's reason to have a queue for each processor; it goes without, where a cpuset
        // leaves this one out, but slower.
        Threads.pin(toProcessor: Int(number))
        // Who else runs on this processor cannot be left behind for another.
        Threads.preferLatency()
        let priority = context.queuePriority
        let member = priority?.join()
        defer { if let member { priority?.leave(member) } }
        let ring: RequestRing
        do throws(Errno) {
            ring = try RequestRing(
                device: fuse_session_fd(session), queue: number, header: header,
                payload: UnsafeMutableRawBufferPointer(
                    rebasing: payload[..<context.configuration.requestBytesMax]))
        } catch {
            whenRegistered(error)
            return false
        }
        self.ring = ring
        defer {
            self.ring = nil
            ring.close()
        }
        ring.register()
        var outcome = ring.next(waits: false)
        if case .ended(let error) = outcome {
            whenRegistered(error)
            return error == .socketNotConnected
        }
        whenRegistered(nil)
        while fuse_session_exited(session) == 0 {
            switch outcome {
            case .request:
                serveAssembled(ring)
                if let member { priority?.beforeAnswer(member) }
                outcome = commit(to: ring)
            case .nothing:
                outcome = ring.next(waits: true)
            case .ended(.socketNotConnected), .ended(.connectionAbort):
                return true
            case .ended(let error):
                context.log.error(
                    "a queue of the FUSE device failed",
                    metadata: ["queue": "\(number)", "errno": "\(error)"])
                isBroken = true
                return true
            }
        }
        return true
    }

    private func serveAssembled(_ ring: RequestRing) {
        ringAnswer = nil
        guard let start = payload.baseAddress,
            let whole = ring.assemble(before: start, capacity: payload.count),
            let base = buffer.bytes.baseAddress
        else {
            context.log.error("a request of the kernel is malformed")
            return
        }
        let offset = UnsafeRawPointer(whole.start) - UnsafeRawPointer(base)
        serve(offset..<offset + whole.byteCount)
    }

    /// Sends the answer, and EIO where there is none, and waits for the next request.
    private func commit(to ring: RequestRing) -> RequestRing.Outcome {
        let answer = ringAnswer ?? (error: -unanswered().forKernel, payloadByteCount: 0)
        ring.commit(error: answer.error, payloadByteCount: answer.payloadByteCount)
        if hasWaited {
            (hasWaited, isRefused) = (false, false)
            if !context.waits.keepsMemory(self) { return commitAndReleaseMemory(to: ring) }
        }
        return ring.next(waits: true)
    }

    private func unanswered() -> Errno {
        failed(with: .ioError.because("nothing made an answer"))
    }

    /// Sends the answer, and gives the buffer's memory back before it waits for the next request.
    ///
    /// The kernel puts a request into the buffer only on this thread, in a call that waits
    /// (IORING_SETUP_DEFER_TASKRUN of io_uring_setup(2)), or in the very call that takes the answer;
    /// then the header is that of another request.
    private func commitAndReleaseMemory(to ring: RequestRing) -> RequestRing.Outcome {
        let outcome = ring.next(waits: false)
        guard case .nothing = outcome, ring.isFree(after: unique) else { return outcome }
        buffer.release(from: Self.pageByteCount)
        return outcome
    }

    /// Takes an answer that libfuse sends; false for what is no answer to this thread's request.
    fileprivate func takeAnswer(_ vectors: UnsafeMutablePointer<iovec>, _ count: Int32) -> Bool {
        guard ring != nil, count > 0, let base = vectors[0].iov_base,
            let start = payload.baseAddress,
            vectors[0].iov_len == Self.answerHeaderByteCount
        else { return false }
        let header = base.loadUnaligned(as: fuse_out_header.self)
        guard header.unique == unique else { return false }
        var offset = 0
        for vector in UnsafeBufferPointer(start: vectors + 1, count: Int(count) - 1) {
            guard let bytes = vector.iov_base, vector.iov_len > 0 else { continue }
            guard vector.iov_len <= payload.count - offset else { return false }
            // libfuse may have made it in the request's own bytes.
            memmove(start + offset, bytes, vector.iov_len)
            offset += vector.iov_len
        }
        ringAnswer = (header.error, offset)
        return true
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
            if let worker = Current.worker, worker.takeAnswer(vectors, count) {
                return UnsafeBufferPointer(start: vectors, count: Int(count))
                    .reduce(0) { $0 + $1.iov_len }
            }
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
                reply, wantsPassthrough: context.configuration.usesPassthrough,
                wantsRings: context.wantsRings)
        else { return writev(descriptor, vectors, count) }
        let written = writev(descriptor, vectors, count)
        if written >= 0 { context.initialized(with: flags) }
        return written
    }
}
