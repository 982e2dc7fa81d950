internal import Base
public import Logging
public import Serving

public import struct SystemPackage.Errno

/// The bounds of a `ReadServer`.
public struct ReadServerBounds: Sendable {
    /// Connections, each with a thread: those of two servers.
    public var connectionCountMax = 100
    /// Files that are lent, each with a descriptor, of all sessions.
    public var loanCountMax = 8192
    public var sessionLoanCountMax = 4096
    /// Directories that are listed at a time, because a listing may be large.
    public var listingCountMax = 4
    /// How long a frame may take from its first byte on.
    public var receiveMilliseconds = 10_000
    /// How long a client may take to take an answer.
    public var sendMilliseconds = 30_000
    /// How long `stop` waits for answers that are being made.
    public var stopMilliseconds = 10_000

    public init() {}

    /// Lends so little that most of a process's descriptors are left for all else that it does: whoever asks by the network
    /// must not take them from the programs on the mount.
    ///
    /// - Parameter descriptorCountMax: how many the process may have (RLIMIT_NOFILE).
    public mutating func leaveDescriptors(of descriptorCountMax: UInt64) {
        let share = Int(clamping: descriptorCountMax / 4)
        loanCountMax = min(loanCountMax, share)
        sessionLoanCountMax = min(sessionLoanCountMax, share)
    }
}

/// Answers what others may read of a volume, over the socket of `ReadProtocol`: the daemon's side.
///
/// Threads of its own, one a connection, all bounded. A client that sends what is none of the protocol, or does not take
/// its answer in time, loses its connection; nothing else is touched by it.
public final class ReadServer: Sendable {
    private struct State {
        var connections: [Int: FrameChannel] = [:]
        var lastNumber = 0
        var listingCount = 0
        var isStopping = false
    }

    private let content: any ServedContent
    private let bounds: ReadServerBounds
    private let directory: OwnedDescriptor
    private let socket: OwnedDescriptor
    private let loans: LoanBook
    private let log: Logger
    private let complaints: Complaints
    private let state = Monitor(State())

    /// Makes the socket and listens; connections wait until `start`. A socket that a dead daemon left behind goes.
    ///
    /// - Precondition: the caller holds the lock of the state directory.
    /// - Throws: EPERM where another user may change the socket's directory.
    public init(
        content: any ServedContent, stateDirectory: String, log: Logger,
        bounds: ReadServerBounds = ReadServerBounds()
    ) throws(Errno) {
        let directory = try ReadPlace.make(stateDirectory: stateDirectory)
        let name = ReadProtocol.socketName
        try Sys.unlink(name, in: directory.raw)
        socket = try UnixSocket.listen(
            at: UnixSocket.Place(name, in: directory.raw), named: name, in: directory.raw,
            mode: 0o666, backlog: 64)
        self.directory = directory
        self.content = content
        self.bounds = bounds
        self.log = log
        complaints = Complaints(log: log)
        loans = LoanBook(
            countMax: bounds.loanCountMax, sessionCountMax: bounds.sessionLoanCountMax)
    }

    /// How many files are lent now, and how many connections there are; for `status` and for tests.
    public var figures: (loanCount: Int, connectionCount: Int) {
        (loans.count, state.withLock { $0.connections.count })
    }

    /// Starts to accept.
    ///
    /// - Throws: EAGAIN where the system has no thread to give.
    public func start() throws(Errno) {
        try Threads.startDetached(name: "read-accept") { [self] in accept() }
    }

    /// Removes the socket's name, ends all connections, and then all loans. Waits for answers that are being made,
    /// but not longer than its bound.
    public func stop() {
        let channels = state.withLock { state in
            state.isStopping = true
            return Array(state.connections.values)
        }
        _ = try? Sys.unlink(ReadProtocol.socketName, in: directory.raw)
        UnixSocket.shutDown(socket.raw)
        for channel in channels { channel.shutDown() }
        let deadline = Deadline(milliseconds: bounds.stopMilliseconds)
        state.withLock { state in
            self.state.wakeAll()
            while !state.connections.isEmpty, !deadline.isOver {
                self.state.wait(&state, milliseconds: Int(deadline.left))
            }
        }
        loans.close()
    }

    private func accept() {
        while !state.withLock({ $0.isStopping }) {
            do throws(Errno) {
                _ = try Sys.wait(for: [socket.raw], milliseconds: nil)
                take(try UnixSocket.accept(socket.raw))
            } catch {
                switch error {
                case .wouldBlock, .resourceTemporarilyUnavailable, .connectionAbort:
                    continue
                case .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory, .noBufferSpace:
                    complaints.warn("cannot accept who wants to read: \(error)")
                    Threads.sleep(milliseconds: 100)
                default:
                    guard !state.withLock({ $0.isStopping }) else { return }
                    log.error("nobody can read any more: accept: \(error)")
                    return
                }
            }
        }
    }

    private func take(_ connection: consuming OwnedDescriptor) {
        let channel = FrameChannel(connection, countMax: ReadProtocol.requestCountMax)
        let number: Int? = state.withLock { state in
            guard !state.isStopping, state.connections.count < bounds.connectionCountMax else {
                return nil
            }
            state.lastNumber += 1
            state.connections[state.lastNumber] = channel
            return state.lastNumber
        }
        guard let number else {
            complaints.warn("more than \(bounds.connectionCountMax) connections to read: refused")
            return refuse(channel)
        }
        do throws(Errno) {
            try Threads.startDetached(name: "read-client") { [self] in
                serve(channel)
                leave(number)
            }
        } catch {
            complaints.warn("no thread for who wants to read: \(error)")
            refuse(channel)
            leave(number)
        }
    }

    private func leave(_ number: Int) {
        let channel = state.withLock { $0.connections.removeValue(forKey: number) }
        channel?.shutDown()
        state.wakeAll()
    }

    private func refuse(_ channel: FrameChannel) {
        guard let frame = ReadAnswer.fault(.unavailable).frame else { return }
        try? channel.send(frame, by: Deadline(milliseconds: 0))
    }

    // MARK: One connection

    private func serve(_ channel: FrameChannel) {
        do throws(ChannelFault) {
            guard let session = try greet(channel) else { return }
            defer { loans.leave(session) }
            while let frame = try channel.receive(
                by: nil, restWithin: bounds.receiveMilliseconds)
            {
                try answer(try Self.request(frame), of: session, to: channel)
            }
        } catch {
            switch error {
            case .lost: break
            case .timedOut: complaints.warn("who reads is too slow: the connection is ended")
            case .malformed(let malformed):
                complaints.warn("who reads sent nonsense: \(malformed.reason)")
            case .system(let error):
                complaints.warn("the connection of who reads: \(error)")
            }
        }
    }

    private static func request(_ frame: ReceivedFrame) throws(ChannelFault) -> ReadRequest {
        guard frame.hasDescriptors(0) else {
            throw .malformed(ReadMalformed("a request brings descriptors"))
        }
        do throws(ReadMalformed) {
            return try ReadRequest(kind: frame.kind, body: frame.body)
        } catch {
            throw .malformed(error)
        }
    }

    private func greet(_ channel: FrameChannel) throws(ChannelFault) -> SessionID? {
        let user: UInt32
        do throws(Errno) { user = try UnixSocket.peer(channel.raw) } catch { throw .system(error) }
        let deadline = Deadline(milliseconds: bounds.receiveMilliseconds)
        guard let frame = try channel.receive(by: deadline) else { return nil }
        guard case .hello(let hello) = try Self.request(frame) else {
            throw .malformed(ReadMalformed("the first request is no hello"))
        }
        guard hello.version == ReadProtocol.version else {
            try send(.hello(Hello(session: .none)), to: channel)
            complaints.warn(
                "user \(user) wants to read by version \(hello.version) of the protocol, "
                    + "this daemon has \(ReadProtocol.version)")
            return nil
        }
        var session: SessionID?
        if hello.session == .none {
            session = loans.begin(user: user)
        } else if loans.join(hello.session, user: user) {
            session = hello.session
        }
        do throws(ChannelFault) {
            try send(.hello(Hello(session: session ?? .none)), to: channel)
        } catch {
            if let session { loans.leave(session) }
            throw error
        }
        return session
    }

    private func answer(
        _ request: ReadRequest, of session: SessionID, to channel: FrameChannel
    ) throws(ChannelFault) {
        switch request {
        case .hello:
            throw .malformed(ReadMalformed("a hello comes once"))
        case .endOfLoans(let numbers):
            loans.end(numbers, of: session)
        case .expect(let cids):
            content.expect(cids)
        case .names(let path):
            try list(path, to: channel)
        case .root:
            try send(to: channel) { () throws(ServeFault) in .root(try content.root()) }
        case .entry(let path):
            try send(to: channel) { () throws(ServeFault) in
                try content.tree.entry(at: path).map { .entry($0) } ?? .nothing
            }
        case .has(let cid, let scope):
            try send(to: channel) { () throws(ServeFault) in
                .truth(try content.has(cid, scope: scope))
            }
        case .block(let cid, let scope, let reach, let loan):
            try send(loan, of: session, to: channel, else: Self.tooLarge) { () throws(ServeFault) in
                try content.block(cid, scope: scope, reach: reach)
            }
        case .wholeFile(let cid, let scope, let loan):
            // Who is told of no whole file reads its leaves.
            try send(loan, of: session, to: channel, else: .nothing) { () throws(ServeFault) in
                try content.wholeFile(cid, scope: scope)
            }
        }
    }

    private static let tooLarge = ReadAnswer.fault(
        .tooLarge(reason: "more than \(ReadProtocol.bytesCountMax) bytes at once"))

    private func send(_ answer: ReadAnswer, to channel: FrameChannel) throws(ChannelFault) {
        guard let frame = answer.frame ?? Self.tooLarge.frame else { throw .lost }
        try channel.send(frame, by: Deadline(milliseconds: bounds.sendMilliseconds))
    }

    private func send(
        to channel: FrameChannel, _ make: () throws(ServeFault) -> ReadAnswer
    ) throws(ChannelFault) {
        let answer: ReadAnswer
        do throws(ServeFault) { answer = try make() } catch { answer = .fault(error) }
        try send(answer, to: channel)
    }

    /// Sends a place: a range as a loan, or the bytes.
    ///
    /// - Parameter instead: the answer where neither can be.
    private func send(
        _ loan: UInt64, of session: SessionID, to channel: FrameChannel, else instead: ReadAnswer,
        _ make: () throws(ServeFault) -> BytesPlace?
    ) throws(ChannelFault) {
        let place: BytesPlace?
        do throws(ServeFault) {
            place = try make()
        } catch {
            return try send(.fault(error), to: channel)
        }
        guard let place else { return try send(.nothing, to: channel) }
        if case .file(let range) = place, loan != 0, range.count >= ReadProtocol.lentCountMin,
            try lend(range, as: loan, of: session, to: channel)
        {
            return
        }
        guard place.count <= UInt64(ReadProtocol.bytesCountMax) else {
            return try send(instead, to: channel)
        }
        try send(to: channel) { () throws(ServeFault) in .bytes(try place.read()) }
    }

    /// - Returns: false where nothing more can be lent.
    private func lend(
        _ range: FileRange, as number: UInt64, of session: SessionID, to channel: FrameChannel
    ) throws(ChannelFault) -> Bool {
        // Nothing leaves this process by which somebody could write.
        if let fault = LentFile.fault(
            of: range.file.raw, offset: range.offset, count: range.count)
        {
            complaints.warn("not lent: \(fault)")
            try send(.fault(fault), to: channel)
            return true
        }
        switch loans.lend(range.file, as: number, to: session) {
        case .full: return false
        case .taken: throw .malformed(ReadMalformed("the loan \(number) is there already"))
        case .lent: break
        }
        do throws(ChannelFault) {
            let answer = ReadAnswer.range(offset: range.offset, count: range.count)
            guard let frame = answer.frame else { throw .lost }
            try channel.send(
                frame, with: range.file.raw, by: Deadline(milliseconds: bounds.sendMilliseconds))
            return true
        } catch {
            loans.end([number], of: session)
            throw error
        }
    }

    private func list(_ path: [[UInt8]], to channel: FrameChannel) throws(ChannelFault) {
        guard beginListing() else { return try send(.fault(.unavailable), to: channel) }
        defer { endListing() }
        let found: [ServedName]?
        do throws(ServeFault) {
            found = try content.tree.names(at: path)
        } catch {
            return try send(.fault(error), to: channel)
        }
        guard let names = found else { return try send(.nothing, to: channel) }
        guard names.count <= ServedNames.countMax else {
            let reason = "more than \(ServedNames.countMax) names"
            return try send(.fault(.tooLarge(reason: reason)), to: channel)
        }
        let deadline = Deadline(milliseconds: bounds.sendMilliseconds)
        var start = 0
        repeat {
            var (end, count) = (start, 0)
            while end < names.count, count < ReadProtocol.namesPartCount {
                count += 3 + names[end].name.count
                end += 1
            }
            let part = ReadAnswer.names(Array(names[start..<end]), isLast: end == names.count)
            guard let frame = part.frame else { return try send(Self.tooLarge, to: channel) }
            try channel.send(frame, by: deadline)
            start = end
        } while start < names.count
    }

    private func beginListing() -> Bool {
        let deadline = Deadline(milliseconds: bounds.receiveMilliseconds)
        return state.withLock { state in
            while state.listingCount >= bounds.listingCountMax {
                guard !state.isStopping, !deadline.isOver else { return false }
                self.state.wait(&state, milliseconds: Int(deadline.left))
            }
            state.listingCount += 1
            return true
        }
    }

    private func endListing() {
        state.withLock { $0.listingCount = max(0, $0.listingCount - 1) }
        state.wakeAll()
    }
}
