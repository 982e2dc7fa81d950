import Base
import Glibc
import Logging

import struct SystemPackage.Errno

/// Serves the control socket of a daemon on threads of its own, one a connection.
final class ControlServer: Sendable {
    /// Answers one request, by calling `done` or `failed` of the answer, now or later.
    typealias Handler = @Sendable (ControlRequest, ControlAnswer) -> Void

    private struct State {
        var answers: [ControlAnswer] = []
        var isStopping = false
    }

    private let stateDirectory: String
    private let socket: OwnedDescriptor
    private let log: Logger
    private let handler: Handler
    private let state = Monitor(State(), rank: .control)

    /// Makes the socket and listens; connections wait until `start`.
    ///
    /// - Precondition: the caller holds the lock of the state directory.
    init(stateDirectory: String, log: Logger, handler: @escaping Handler) throws(Failure) {
        self.stateDirectory = stateDirectory
        self.log = log
        self.handler = handler
        do throws(Errno) {
            socket = try ControlSocket.listen(stateDirectory: stateDirectory)
        } catch {
            let path = RawText.shown(stateDirectory + "/" + ControlProtocol.socketName)
            throw Failure("cannot listen at \(path): \(error.reason)")
        }
    }

    /// Starts to accept, and the pulse that tells clients that their request is worked on.
    func start() throws(Failure) {
        do throws(Errno) {
            try Threads.startDetached(name: "control") { [self] in acceptConnections() }
            try Threads.startDetached(name: "control-pulse") { [self] in pulse() }
        } catch {
            throw Failure("cannot start a thread: \(error.reason)")
        }
    }

    /// Accepts no more, and removes the socket's name. Answers under way go on.
    func stop() {
        state.withLock { $0.isStopping = true }
        try? ControlSocket.remove(stateDirectory: stateDirectory)
        shutdown(socket.raw, Int32(SHUT_RDWR))
    }

    private func acceptConnections() {
        while !state.withLock({ $0.isStopping }) {
            let raw = accept(socket.raw, nil, nil)
            if raw >= 0 {
                serve(OwnedDescriptor(raw))
            } else if errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS {
                usleep(100_000)
            } else if errno != EINTR && errno != ECONNABORTED {
                break
            }
        }
    }

    private func serve(_ connection: consuming OwnedDescriptor) {
        Descriptors.closeOnExec(connection.raw)
        ControlSocket.setTimeouts(
            connection.raw, receiveSeconds: ControlProtocol.silenceSecondsMax,
            sendSeconds: ControlProtocol.sendSecondsMax)
        let user = ControlSocket.peer(connection.raw)?.user
        let answer = ControlAnswer(connection)
        guard user == geteuid() || user == 0 else {
            return answer.failed(Failure("the daemon belongs to another user: use sudo"))
        }
        let isTaken = state.withLock { state in
            state.answers.removeAll { $0.isOver }
            guard state.answers.count < ControlProtocol.connectionCountMax else { return false }
            state.answers.append(answer)
            return true
        }
        guard isTaken else {
            return answer.failed(Failure("the daemon answers too many commands: try again later"))
        }
        state.wakeAll()
        do throws(Errno) {
            try Threads.startDetached(name: "control-client") { [self] in
                guard let request = answer.request() else { return }
                log.debug("control request", metadata: ["command": "\(request.command)"])
                handler(request, answer)
            }
        } catch {
            answer.failed(Failure("the daemon has no thread to answer: \(error.reason)"))
        }
    }

    private func pulse() {
        while true {
            let answers = state.withLock { state in
                state.answers.removeAll { $0.isOver }
                while state.answers.isEmpty { self.state.wait(&state) }
                return state.answers
            }
            for answer in answers { answer.pulse() }
            sleep(UInt32(ControlProtocol.heartbeatSeconds))
        }
    }
}

/// One connection and the answer to its request, which ends once.
///
/// Any thread may end it: that of `unmount` is ended by whoever closes the volume.
final class ControlAnswer: Sendable {
    private struct State: ~Copyable {
        var socket: OwnedDescriptor?
        /// A send failed or ran out of time: the client is gone, or may have got half a line.
        var isBroken = false
    }

    private let state: Monitor<State>
    private let descriptor: Int32

    init(_ connection: consuming OwnedDescriptor) {
        descriptor = connection.raw
        state = Monitor(State(socket: consume connection))
    }

    /// Whether the answer has ended; nothing more is sent.
    var isOver: Bool { state.withLock { $0.socket == nil } }

    /// Reads the request; where it is none, ends the answer and returns nil.
    func request() -> ControlRequest? {
        // Only this thread ends the answer before a handler has it, so the descriptor stays open.
        var reader = LineReader(
            descriptor,
            deadline: MonotonicClock.milliseconds + Int64(ControlProtocol.silenceSecondsMax) * 1000)
        guard let line = try? reader.line(countMax: ControlProtocol.requestCountMax) else {
            failed(Failure("no request came"))
            return nil
        }
        guard let request = ControlProtocol.decode(ControlRequest.self, from: line),
            request.version == ControlProtocol.version
        else {
            failed(Failure("the daemon is of another version: unmount and mount again"))
            return nil
        }
        return request
    }

    /// Ends the answer: what was asked is done.
    func done(_ result: ControlResult = ControlResult()) {
        end(ControlReply(done: result))
    }

    /// Ends the answer: what was asked is not done.
    func failed(_ failure: Failure) {
        end(ControlReply(failed: ControlFailure(failure)))
    }

    /// Sends raw bytes; blocks while the client does not take them.
    ///
    /// - Throws: kind `unreachable` once the client is gone; the answer cannot go on.
    func data(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
        var rest = bytes
        while rest.count > 0 {
            let part = UnsafeRawBufferPointer(rebasing: rest.prefix(ControlProtocol.dataCountMax))
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(part.count))
            let header = ControlProtocol.encode(ControlReply(data: part.count))
            let isSent = state.withLock { state in
                guard let socket = state.socket?.raw, !state.isBroken else { return false }
                state.isBroken =
                    ControlSocket.send(header[...], to: socket) < header.count
                    || ControlSocket.send(part, to: socket) < part.count
                return !state.isBroken
            }
            guard isSent else { throw Failure("the client is gone", kind: .unreachable) }
        }
    }

    /// Tells the client that its request is worked on.
    fileprivate func pulse() {
        tell(ControlReply(working: true))
    }

    /// Tells the client how far its request is; false once it is gone.
    func progress(_ progress: ControlProgress) -> Bool {
        tell(ControlReply(progress: progress))
        return state.withLock { !$0.isBroken && $0.socket != nil }
    }

    private func tell(_ reply: ControlReply) {
        state.withLock { state in
            guard let socket = state.socket?.raw, !state.isBroken else { return }
            let line = ControlProtocol.encode(reply)
            // A full socket has something for the client to read already.
            let sent = ControlSocket.send(line[...], to: socket, flags: Int32(MSG_DONTWAIT))
            let isFull = errno == EAGAIN || errno == EWOULDBLOCK
            state.isBroken = sent != line.count && !(sent == 0 && isFull)
        }
    }

    private func end(_ reply: ControlReply) {
        let line = ControlProtocol.encode(reply)
        state.withLock { state in
            guard let socket = state.socket.take() else { return }
            guard !state.isBroken else { return }
            _ = ControlSocket.send(line[...], to: socket.raw)
        }
    }
}
