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
    /// - Throws: kind `unreachable` where no daemon listens, `foreign` where another user might; else
    ///   what the daemon said, or that it was waited for too long.
    func ask(
        _ request: ControlRequest,
        pulse: (ControlProgress?) -> Void = { _ in },
        data: (UnsafeRawBufferPointer) throws(Failure) -> Void = { _ in }
    ) throws(Failure) -> ControlResult {
        let socket = try connect()
        try send(ControlProtocol.encode(request), to: socket.raw)
        let patience = request.patience
        let end = MonotonicClock.milliseconds + Int64(patience.seconds) * 1000
        var reader = LineReader(socket.raw, deadline: end)
        var progress: ControlProgress?
        func noteMove() {
            guard let seconds = patience.stallSeconds else { return }
            reader.deadline = min(end, MonotonicClock.milliseconds + Int64(seconds) * 1000)
        }
        noteMove()
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
                noteMove()
            } else if let done = reply.done {
                return done
            } else if let failed = reply.failed {
                throw failed.failure
            } else {
                if let now = reply.progress, now != progress {
                    progress = now
                    noteMove()
                }
                pulse(reply.progress)
            }
        }
    }

    /// The daemon's process; nil where none listens, or in a process namespace of its own.
    var process: Int32? {
        guard let socket = try? connect(), let peer = ControlSocket.peer(socket.raw),
            peer.process > 0
        else { return nil }
        return peer.process
    }

    /// Whether a daemon listens.
    ///
    /// - Throws: where that cannot be told, or somebody else listens.
    var isReachable: Bool {
        get throws(Failure) {
            do throws(Failure) {
                _ = try connect()
                return true
            } catch {
                guard error.kind == .unreachable else { throw error }
                return false
            }
        }
    }

    private var shownDirectory: String { RawText.shown(stateDirectory) }

    /// Connects to the daemon, who is root or the caller.
    private func connect() throws(Failure) -> OwnedDescriptor {
        // What else is mounted under our type has whatever source it likes.
        guard stateDirectory.hasPrefix("/") else {
            throw Failure("'\(shownDirectory)' is no state directory", kind: .unreachable)
        }
        let distrusted = try telling { () throws(Errno) in
            try ControlSocket.distrust(stateDirectory: stateDirectory)
        }
        if let (path, distrust) = distrusted {
            throw Failure("\(RawText.shown(path)) \(distrust)", kind: .foreign)
        }
        let socket = try telling { () throws(Errno) in
            try ControlSocket.connect(stateDirectory: stateDirectory)
        }
        guard let peer = ControlSocket.peer(socket.raw)?.user, peer == 0 || peer == geteuid()
        else {
            throw Failure(
                "another user listens at \(shownDirectory)/\(ControlProtocol.socketName)",
                kind: .foreign)
        }
        return socket
    }

    private func telling<Result: ~Copyable>(
        _ body: () throws(Errno) -> Result
    ) throws(Failure) -> Result {
        do throws(Errno) {
            return try body()
        } catch {
            switch error {
            case .connectionRefused, .noSuchFileOrDirectory:
                throw Failure("no daemon serves \(shownDirectory)", kind: .unreachable)
            case .permissionDenied, .notPermitted:
                throw Failure(
                    "the daemon of \(shownDirectory) belongs to another user: use sudo",
                    kind: .foreign)
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
        case .wouldBlock, .resourceTemporarilyUnavailable:
            Failure(
                "the daemon of \(shownDirectory) does not answer: it is stopped or stuck, "
                    + "see \(shownDirectory)/\(LogFile.name)")
        case .timedOut:
            Failure(
                "the daemon of \(shownDirectory) answers without an end: "
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
