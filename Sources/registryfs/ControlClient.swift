import Base
import Glibc

import struct SystemPackage.Errno

/// Asks a daemon through the control socket of its state directory.
struct ControlClient: Sendable {
    let stateDirectory: String

    /// Sends one request and waits for its end.
    ///
    /// - Parameters:
    ///   - data: takes raw bytes as they come.
    ///   - pulse: called about once a second while the daemon works, or when it tells how far it is.
    /// - Throws: kind `unreachable` where no daemon listens; else what the daemon said.
    func ask(
        _ request: ControlRequest,
        pulse: (ControlProgress?) -> Void = { _ in },
        data: (UnsafeRawBufferPointer) throws(Failure) -> Void = { _ in }
    ) throws(Failure) -> ControlResult {
        let socket = try connect()
        try send(ControlProtocol.encode(request), to: socket.raw)
        var reader = LineReader(socket.raw)
        while true {
            let line: [UInt8]?
            do throws(Errno) {
                line = try reader.line(countMax: ControlProtocol.lineCountMax)
            } catch {
                throw broken(error)
            }
            guard let line else { throw broken(.connectionReset) }
            guard let reply = ControlProtocol.decode(ControlReply.self, from: line) else {
                throw Failure(
                    "the daemon of \(shownDirectory) speaks another version: unmount and mount again"
                )
            }
            if let count = reply.data {
                guard (0...ControlProtocol.dataCountMax).contains(count) else {
                    throw broken(.protocolError)
                }
                try receive(count, from: &reader, data)
            } else if let done = reply.done {
                return done
            } else if let failed = reply.failed {
                throw failed.failure
            } else {
                pulse(reply.progress)
            }
        }
    }

    /// The daemon's process; nil where none listens, or in a process namespace of its own.
    var process: Int32? {
        guard let socket = try? ControlSocket.connect(stateDirectory: stateDirectory),
            let peer = ControlSocket.peer(socket.raw), peer.process > 0
        else { return nil }
        return peer.process
    }

    /// Whether a daemon listens.
    var isReachable: Bool {
        (try? ControlSocket.connect(stateDirectory: stateDirectory)) != nil
    }

    private var shownDirectory: String { RawText.shown(stateDirectory) }

    private func connect() throws(Failure) -> OwnedDescriptor {
        // What else is mounted under our type has whatever source it likes.
        guard stateDirectory.hasPrefix("/") else {
            throw Failure("'\(shownDirectory)' is no state directory", kind: .unreachable)
        }
        do throws(Errno) {
            return try ControlSocket.connect(stateDirectory: stateDirectory)
        } catch {
            switch error {
            case .connectionRefused, .noSuchFileOrDirectory:
                throw Failure("no daemon serves \(shownDirectory)", kind: .unreachable)
            case .permissionDenied, .notPermitted:
                throw Failure("the daemon of \(shownDirectory) belongs to another user: use sudo")
            default:
                throw broken(error)
            }
        }
    }

    private func receive(
        _ count: Int, from reader: inout LineReader,
        _ data: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        let bytes: ArraySlice<UInt8>
        do throws(Errno) {
            bytes = try reader.bytes(count: count)
        } catch {
            throw broken(error)
        }
        var failure: Failure?
        bytes.withUnsafeBytes { buffer in
            do throws(Failure) { try data(buffer) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    private func send(_ bytes: [UInt8], to socket: Int32) throws(Failure) {
        guard ControlSocket.send(bytes[...], to: socket) == bytes.count else {
            throw broken(Errno(rawValue: errno))
        }
    }

    private func broken(_ error: Errno) -> Failure {
        switch error {
        case .wouldBlock, .resourceTemporarilyUnavailable, .timedOut:
            Failure(
                "the daemon of \(shownDirectory) does not answer: it is stopped or stuck, "
                    + "see \(shownDirectory)/\(LogFile.name)")
        case .connectionReset, .brokenPipe:
            Failure(
                "the daemon of \(shownDirectory) ended without an answer: "
                    + "see \(shownDirectory)/\(LogFile.name)")
        default:
            Failure("the control socket in \(shownDirectory): \(error.reason)")
        }
    }
}

extension ControlSocket {
    /// Sends bytes without SIGPIPE; returns how many went, less than all only at an error.
    static func send(_ bytes: ArraySlice<UInt8>, to socket: Int32, flags: Int32 = 0) -> Int {
        bytes.withUnsafeBytes { send($0, to: socket, flags: flags) }
    }

    /// Sends bytes without SIGPIPE; returns how many went, less than all only at an error.
    static func send(_ bytes: UnsafeRawBufferPointer, to socket: Int32, flags: Int32 = 0) -> Int {
        let noSignal = Int32(MSG_NOSIGNAL)
        var done = 0
        while done < bytes.count, let base = bytes.baseAddress {
            let count = Glibc.send(socket, base + done, bytes.count - done, noSignal | flags)
            if count >= 0 {
                done += count
            } else if errno != EINTR {
                break
            }
        }
        return done
    }
}
