import Base
import Glibc

import struct SystemPackage.Errno

/// Tells whoever started the daemon that it is ready, or why it will not be: the parent through
/// a pipe, systemd by sd_notify(3).
final class Readiness: Sendable {
    /// The descriptor that a background daemon is started with.
    static let pipeDescriptor: Int32 = 3

    private let pipe: Monitor<Int32?>

    /// - Parameter pipe: the write end of the parent's pipe; nil in the foreground.
    init(pipe: Int32?) {
        if let pipe { Descriptors.closeOnExec(pipe) }
        self.pipe = Monitor(pipe)
    }

    /// The daemon serves its mount; false where the parent is gone meanwhile.
    func ready() -> Bool {
        Self.notify("READY=1\n")
        return tell("ready\n")
    }

    /// The daemon ends before it is ready.
    func failed(_ failure: Failure) {
        _ = tell("failed \(failure.exitCode) \(RawText.shown(failure.message))\n")
    }

    /// The daemon is about to end.
    func stopping() {
        Self.notify("STOPPING=1\n")
    }

    private func tell(_ line: String) -> Bool {
        let descriptor = pipe.withLock { $0.take() }
        guard let descriptor else { return true }
        defer { close(descriptor) }
        var line = line
        return line.withUTF8 { bytes in
            (try? SystemFiles.write(UnsafeRawBufferPointer(bytes), to: descriptor)) != nil
        }
    }

    /// One datagram to NOTIFY_SOCKET; a name that begins with @ is in the abstract namespace.
    private static func notify(_ message: String) {
        guard let name = getenv("NOTIFY_SOCKET").map({ String(cString: $0) }) else { return }
        var path = Array(name.utf8)
        if path.first == UInt8(ascii: "@") { path[0] = 0 }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard !path.isEmpty, path.count < MemoryLayout.size(ofValue: address.sun_path) else {
            return
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
        let type = Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(AF_UNIX, type, 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        let length = MemoryLayout<sa_family_t>.size + path.count
        let bytes = Array(message.utf8)
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { general in
                _ = sendto(
                    descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL), general,
                    socklen_t(length))
            }
        }
    }
}
