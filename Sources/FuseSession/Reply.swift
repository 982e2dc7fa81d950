internal import Base
internal import CFuse

internal import struct SystemPackage.Errno

/// The duty to answer one request, once.
///
/// The type cannot be copied and every answer consumes it, so a second answer does not compile.
/// One that is dropped without an answer would leave a process of the kernel's waiting for ever;
/// its `deinit` answers EIO.
struct Reply: ~Copyable {
    private let request: fuse_req_t

    init(_ request: fuse_req_t) {
        self.request = request
    }

    deinit {
        let error = Errno.ioError.because("the request was let go without an answer")
        fuse_reply_err(request, (Current.worker?.failed(with: error) ?? error).forKernel)
    }

    /// Answers success without a payload.
    consuming func success() {
        fuse_reply_err(request, 0)
        discard self
    }

    /// Answers an error.
    consuming func failure(_ error: Errno) {
        let answer = Current.worker?.failed(with: error) ?? error
        fuse_reply_err(request, answer.forKernel)
        discard self
    }

    /// Ends a request that has no answer (FORGET).
    consuming func none() {
        fuse_reply_none(request)
        discard self
    }

    /// Answers with the bytes of a value of the protocol; false where the kernel no longer knows
    /// the request (ENOENT: the connection was aborted), so that what the answer handed over (a
    /// lookup reference, a handle) stays ours to take back.
    consuming func value<Value: BitwiseCopyable>(_ value: Value) -> Bool {
        var value = value
        let code = withUnsafeBytes(of: &value) { bytes in
            fuse_reply_buf(
                request, bytes.bindMemory(to: CChar.self).baseAddress, bytes.count)
        }
        discard self
        return code == 0
    }

    /// Answers with bytes.
    consuming func bytes(_ bytes: [UInt8]) {
        _ = bytes.withUnsafeBytes { bytes in
            fuse_reply_buf(
                request, bytes.bindMemory(to: CChar.self).baseAddress, bytes.count)
        }
        discard self
    }
}

extension Errno {
    /// The positive number for an answer: the kernel takes 1 to 4095 (MAX_ERRNO) for an error;
    /// anything else would be read as success or not at all.
    var forKernel: Int32 { (1...4095).contains(rawValue) ? rawValue : Errno.ioError.rawValue }
}
