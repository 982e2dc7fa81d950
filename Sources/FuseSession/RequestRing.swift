internal import Base
internal import CURing
internal import Glibc

internal import struct SystemPackage.Errno

/// One place of a queue of FUSE over io_uring, with a ring of its own: the kernel puts one request
/// at a time into its buffers, and takes the answer from them.
///
/// Between the two a request costs one system call and not two, and above all it comes to a thread
/// on the processor of the process that asks: the kernel has a queue for each. A thread somewhere
/// else first has to be woken there, which on a virtual machine often costs more than the request
/// (getxattr: 17 to 25 µs by the device, 10 by a ring).
///
/// Used by the thread that makes it, alone.
///
/// Source: fuse-io-uring.rst of the kernel's documentation, and fs/fuse/dev_uring.c (Linux 6.18).
final class RequestRing {
    private let ring: OpaquePointer
    private let device: Int32
    /// The queue's number, that of its processor.
    private let queue: UInt16
    /// Where the kernel puts the headers of a request and finds those of the answer.
    private let header: UnsafeMutablePointer<rfs_ring_header>
    private let payload: UnsafeMutableRawBufferPointer

    /// - Parameter header: a place for `rfs_ring_header`, eight-byte aligned, as long as this lives,
    ///   as `payload`, which must have room for the largest request that INIT agreed on.
    /// - Throws: EPERM where io_uring is forbidden, ENOSYS and EINVAL where the kernel lacks it.
    init(
        device: Int32, queue: UInt16, header: UnsafeMutableRawPointer,
        payload: UnsafeMutableRawBufferPointer
    ) throws(Errno) {
        self.device = device
        self.queue = queue
        self.header = header.bindMemory(to: rfs_ring_header.self, capacity: 1)
        self.payload = payload
        ring = try Self.open()
    }

    private static func open() throws(Errno) -> OpaquePointer {
        var error: Int32 = 0
        guard let ring = rfs_ring_open(&error) else { throw Errno(rawValue: -error) }
        return ring
    }

    /// Checks that this process may make rings.
    static func check() throws(Errno) {
        rfs_ring_close(try open())
    }

    /// Ends the part in the queue. A request that came since stays without an answer, so this is for
    /// the end of the session only.
    func close() {
        rfs_ring_close(ring)
    }

    /// Asks for a part in the queue; `next` tells when the first request is there.
    func register() {
        let code = rfs_ring_register(
            ring, device, queue, header, payload.baseAddress, payload.count)
        precondition(code == 0, "the first command finds the ring empty")
    }

    /// Queues the answer that the buffers have; it leaves with `next`.
    func commit(error: Int32, payloadByteCount: Int) {
        header.pointee.payload_size = UInt32(payloadByteCount)
        // `struct fuse_out_header`: the length, the error, and the number where the request had it.
        let answer = UnsafeMutableRawPointer(header)
        answer.storeBytes(of: UInt32(16 + payloadByteCount), as: UInt32.self)
        answer.storeBytes(of: error, toByteOffset: 4, as: Int32.self)
        let code = rfs_ring_commit(ring, device, queue, header.pointee.commit_id)
        precondition(code == 0, "a place of a queue has one command at a time")
    }

    /// Whether the kernel has taken the answer of a request, and has put none into the buffers since.
    func isFree(after unique: UInt64) -> Bool {
        let number = UnsafeRawPointer(header).loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        return rfs_ring_left(ring) == 0 && number == unique
    }

    /// What `next` came back with.
    enum Outcome {
        /// A request is in the buffers.
        case request
        /// There is none yet, or a signal came.
        case nothing
        /// The place in the queue is lost: ENOTCONN with the mount.
        case ended(Errno)
    }

    /// Hands over what is queued; with `waits` blocks until a request is there.
    func next(waits: Bool) -> Outcome {
        var result: Int32 = 0
        let code = rfs_ring_next(ring, waits ? 1 : 0, &result)
        if code < 0 { return .ended(Errno(rawValue: -code)) }
        if code == 0 { return .nothing }
        return result < 0 ? .ended(Errno(rawValue: -result)) : .request
    }

    static let headerByteCount = MemoryLayout<rfs_ring_header>.size
    private static let requestHeaderByteCount = 40

    /// Puts the parts of a request together, so that the payload continues them where it stands.
    ///
    /// - Parameter payload: the start of the payload; before it there is room for both headers.
    /// - Returns: the start of the whole and its length, or nil where the kernel's lengths are not
    ///   possible.
    func assemble(
        before payload: UnsafeMutableRawPointer, capacity: Int
    ) -> (start: UnsafeMutableRawPointer, byteCount: Int)? {
        let payloadByteCount = Int(header.pointee.payload_size)
        let byteCount = Int(
            UnsafeRawPointer(header).loadUnaligned(as: UInt32.self))
        // The fixed part's length is what is left of the whole.
        let fixed = byteCount - Self.requestHeaderByteCount - payloadByteCount
        guard payloadByteCount <= capacity, (0...128).contains(fixed) else { return nil }
        let start = payload - fixed - Self.requestHeaderByteCount
        start.copyMemory(from: header, byteCount: Self.requestHeaderByteCount)
        (start + Self.requestHeaderByteCount).copyMemory(
            from: UnsafeRawPointer(header) + Self.operationOffset, byteCount: fixed)
        return (start, byteCount)
    }

    private static let operationOffset = 128
}

/// A ring that takes no part, to do without the queues by.
///
/// It is made before the answer to INIT, because from then on all requests wait until each queue has
/// a place or `giveUp` is called, and by then there may be no descriptor left for it.
///
/// Used by the thread that makes it, alone.
final class RingFallback {
    private let buffer: OwnedBuffer
    private let ring: RequestRing

    /// - Throws: as `RequestRing`, and ENFILE or EMFILE.
    init(device: Int32) throws(Errno) {
        buffer = OwnedBuffer(byteCount: RequestRing.headerByteCount)
        guard let header = buffer.bytes.baseAddress else { throw .noMemory }
        ring = try RequestRing(
            device: device, queue: .max, header: header,
            payload: UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<0]))
    }

    deinit {
        ring.close()
    }

    /// Makes the kernel send all requests of the mount by the device: any command to take part that
    /// it refuses does that, and it has no queue of this number.
    ///
    /// Only where a queue has no place yet. Else requests come by the queues already, and where the
    /// switch is off the kernel would take no answer from them any more.
    func giveUp() {
        ring.register()
        _ = ring.next(waits: false)
    }
}
