internal import Base
internal import Glibc
internal import Logging
internal import Serving

internal import struct SystemPackage.Errno

/// The client's connections: one that carries a session and its ends of loans, and a pool for requests.
final class ReadConnections: Sendable {
    /// A connection that one request has at a time.
    struct Connection: Sendable {
        var channel: FrameChannel
        /// Whether it has answered before, so that it may have ended since.
        var isUsed = false
        fileprivate var generation: Int
        fileprivate var idleSince: Int64 = 0
    }

    /// What the daemon knows this client by.
    struct Session: Sendable {
        var id: SessionID
        /// Used by the client's thread alone.
        var channel: FrameChannel
        var generation: Int
    }

    private struct State {
        var session: Session?
        var isBeginning = false
        /// Counts the sessions, begun or lost.
        var generation = 0
        var idle: [Connection] = []
        /// Of connections, those being made too.
        var count = 0
        var isClosed = false
    }

    private static let idleMillisecondsMax: Int64 = 60_000

    private let directory: OwnedDescriptor
    private let place: UnixSocket.Place
    private let owner: UInt32
    private let countMax: Int
    private let log: Logger
    private let onSession: @Sendable () -> Void
    private let onLoss: @Sendable () -> Void
    private let state = Monitor(State())

    /// - Parameters:
    ///   - owner: who may listen, beside root.
    ///   - onSession: called when a session has begun.
    ///   - onLoss: called when one is lost, with all that was lent.
    init(
        directory: consuming OwnedDescriptor, owner: UInt32, countMax: Int, log: Logger,
        onSession: @escaping @Sendable () -> Void, onLoss: @escaping @Sendable () -> Void
    ) {
        place = UnixSocket.Place(ReadProtocol.socketName, in: directory.raw)
        self.directory = directory
        self.owner = owner
        self.countMax = countMax
        self.log = log
        self.onSession = onSession
        self.onLoss = onLoss
    }

    var session: Session? { state.withLock { $0.session } }
    var isClosed: Bool { state.withLock { $0.isClosed } }

    // MARK: The pool

    private enum Step {
        case idle(Connection)
        case open
        case fault(ServeFault)
    }

    /// A connection that nobody else has until it is given back or dropped.
    ///
    /// - Parameter isFresh: whether it has to be a new one.
    func take(isFresh: Bool, by deadline: Deadline) throws(ServeFault) -> Connection {
        var stale: [Connection] = []
        let step: Step = state.withLock { state in
            while true {
                if state.isClosed { return .fault(.unavailable) }
                if let connection = state.idle.last {
                    state.idle.removeLast()
                    if !isFresh { return .idle(connection) }
                    state.count -= 1
                    stale.append(connection)
                }
                if state.count < countMax {
                    state.count += 1
                    return .open
                }
                if deadline.isOver { return .fault(.timedOut) }
                self.state.wait(&state, milliseconds: Int(deadline.left))
            }
        }
        switch step {
        case .idle(let connection): return connection
        case .fault(let fault): throw fault
        case .open: break
        }
        do throws(ServeFault) {
            return try open(by: deadline)
        } catch {
            discard()
            throw error
        }
    }

    /// Gives one back whose answer was whole.
    func giveBack(_ connection: Connection) {
        let isKept = state.withLock { state in
            guard !state.isClosed, connection.generation == state.generation else { return false }
            var connection = connection
            connection.isUsed = true
            connection.idleSince = MonotonicClock.milliseconds
            state.idle.append(connection)
            return true
        }
        if isKept { state.wakeAll() } else { discard() }
    }

    /// Makes room for another: the connection is not used any more.
    func discard() {
        state.withLock { $0.count -= 1 }
        state.wakeAll()
    }

    /// Closes what nobody has used for a while.
    func trim() {
        let now = MonotonicClock.milliseconds
        let old: [Connection] = state.withLock { state in
            // The last used is at the end.
            let old = state.idle.prefix { now - $0.idleSince >= Self.idleMillisecondsMax }
            state.idle.removeFirst(old.count)
            state.count -= old.count
            return Array(old)
        }
        withExtendedLifetime(old) {}
    }

    /// Closes all that is idle, and lends no connection any more.
    func close() {
        let old = state.withLock { state in
            state.isClosed = true
            defer {
                state.count -= state.idle.count
                state.idle = []
                state.session = nil
            }
            return (state.idle, state.session)
        }
        state.wakeAll()
        withExtendedLifetime(old) {}
    }

    // MARK: Sessions

    /// The session is over: what was lent is no longer pinned, and idle connections have ended with it.
    func lost(_ session: Session) {
        let old: [Connection]? = state.withLock { state in
            guard state.session?.generation == session.generation else { return nil }
            state.session = nil
            state.generation += 1
            state.count -= state.idle.count
            defer { state.idle = [] }
            return state.idle
        }
        guard let old else { return }
        withExtendedLifetime(old) {}
        state.wakeAll()
        log.info("the daemon of the volume has closed the connection")
        onLoss()
    }

    /// Looks whether the session has ended, and if so notes it: nothing else comes by its connection.
    func look() {
        guard let session else { return }
        let isOver = try? Sys.wait(for: [session.channel.raw], milliseconds: 0).first
        if isOver ?? true { lost(session) }
    }

    private func open(by deadline: Deadline) throws(ServeFault) -> Connection {
        // A session that ended this moment is begun again once.
        for _ in 0..<2 {
            let session = try sessionNow(by: deadline)
            let (channel, id) = try connect(session.id, by: deadline)
            if id == session.id {
                return Connection(channel: channel, generation: session.generation)
            }
            lost(session)
        }
        throw .unavailable
    }

    private func sessionNow(by deadline: Deadline) throws(ServeFault) -> Session {
        let known: Result<Session?, ServeFault> = state.withLock { state in
            while true {
                if state.isClosed { return .failure(.unavailable) }
                if let session = state.session { return .success(session) }
                if !state.isBeginning {
                    state.isBeginning = true
                    return .success(nil)
                }
                if deadline.isOver { return .failure(.timedOut) }
                self.state.wait(&state, milliseconds: Int(deadline.left))
            }
        }
        if let session = try known.get() { return session }
        do throws(ServeFault) {
            let (channel, id) = try connect(.none, by: deadline)
            guard id != .none else { throw .unavailable }
            let session: Session? = state.withLock { state in
                state.isBeginning = false
                guard !state.isClosed else { return nil }
                state.generation += 1
                let session = Session(id: id, channel: channel, generation: state.generation)
                state.session = session
                return session
            }
            state.wakeAll()
            guard let session else { throw .unavailable }
            onSession()
            return session
        } catch {
            state.withLock { $0.isBeginning = false }
            state.wakeAll()
            throw error
        }
    }

    // MARK: One connection

    private func connect(
        _ session: SessionID, by deadline: Deadline
    ) throws(ServeFault) -> (FrameChannel, SessionID) {
        let channel = FrameChannel(
            try connect(by: deadline), countMax: ReadProtocol.answerCountMax)
        try trust(channel)
        let hello = try greet(channel, session, by: deadline)
        guard hello.version == ReadProtocol.version else {
            throw .failed(
                reason:
                    "the daemon is read by version \(hello.version) of the protocol, this program "
                    + "has \(ReadProtocol.version): start both from one release")
        }
        return (channel, hello.session)
    }

    private func greet(
        _ channel: FrameChannel, _ session: SessionID, by deadline: Deadline
    ) throws(ServeFault) -> Hello {
        do throws(ChannelFault) {
            guard let frame = ReadRequest.hello(Hello(session: session)).frame else { throw .lost }
            try channel.send(frame, by: deadline)
            switch try ReadClient.answer(from: channel, by: deadline).0 {
            case .hello(let hello): return hello
            case .fault: throw .lost
            default: throw .malformed(ReadMalformed("the first answer is no hello"))
            }
        } catch {
            throw ServeFault(error)
        }
    }

    private func connect(by deadline: Deadline) throws(ServeFault) -> OwnedDescriptor {
        while true {
            do throws(Errno) {
                return try UnixSocket.connect(to: place)
            } catch {
                switch error {
                case .noSuchFileOrDirectory, .connectionRefused:
                    throw .unavailable
                case .wouldBlock, .resourceTemporarilyUnavailable:
                    // So many wait already; the daemon takes them one by one.
                    guard !deadline.isOver else { throw .timedOut }
                    Threads.sleep(milliseconds: 5)
                default:
                    throw .failed(reason: "cannot connect to the daemon: \(error)")
                }
            }
        }
    }

    private func trust(_ channel: FrameChannel) throws(ServeFault) {
        let user: UInt32
        do throws(Errno) {
            user = try UnixSocket.peer(channel.raw)
        } catch {
            throw .failed(reason: "cannot ask who listens: \(error)")
        }
        guard user == 0 || user == owner else {
            throw .failed(
                reason: "user \(user) listens in place of the daemon, who is user \(owner)")
        }
    }
}
