public import Base
public import Logging
public import Multiformats
public import Serving

public import struct SystemPackage.Errno

/// The bounds of a `ReadClient`.
public struct ReadClientBounds: Sendable {
    /// Connections for requests; who finds none free waits until his deadline.
    public var connectionCountMax = 48
    /// Of those connections: for blocks that are not here, which the daemon may have to wait for long, and for names, whose
    /// directories may be elsewhere. Whatever these wait for, the rest is for what is here.
    public var farCountMax = 16
    public var nameCountMax = 16
    /// How many requests wait for these shares. Each further one fails with `unavailable`: for a block at once, for names where
    /// none was answered for a second.
    public var farWaitingCountMax = 64
    public var nameWaitingCountMax = 16
    /// Of each request, from the wait for a connection to the end of the answer.
    public var requestMilliseconds = 30_000
    /// Files that are lent at a time, each with a descriptor; beyond that come bytes.
    public var loanCountMax = 2048
    /// Whole files that are kept for the next who asks; those that were used last.
    public var wholeFileCountMax = 64
    /// Until one is given back that nobody uses.
    public var wholeFileUnusedMilliseconds = 10_000
    /// Until one is asked for again that is used all the time: so long it may be served when it is no longer for others.
    public var wholeFileAgeMilliseconds = 60_000

    public init() {}
}

/// What a daemon serves, in another process: the client of `ReadProtocol`.
///
/// Requests block the thread, each until its deadline at the latest: `timedOut`. While the daemon is away they fail at once
/// with `unavailable`, and the next one after it came back is answered.
public final class ReadClient: ServedContent {
    private let bounds: ReadClientBounds
    private let connections: ReadConnections
    private let loans: LoanKeeper
    private let wholeFiles: WholeFileCache
    private let farRequests: RequestShare
    private let nameRequests: RequestShare
    private let thread = Monitor<JoinableThread?>(nil)

    /// Does not connect yet: the daemon may be away.
    ///
    /// - Parameters:
    ///   - directory: of the socket, from `ReadPlace.open`.
    ///   - owner: the user whose daemon it is; root's is trusted as well.
    /// - Throws: where there is no descriptor or thread left.
    public init(
        directory: consuming OwnedDescriptor, owner: UInt32, log: Logger,
        bounds: ReadClientBounds = ReadClientBounds()
    ) throws(Errno) {
        let loans = try LoanKeeper(countMax: bounds.loanCountMax)
        let wholeFiles = WholeFileCache(bounds)
        self.bounds = bounds
        self.wholeFiles = wholeFiles
        self.loans = loans
        farRequests = RequestShare(
            runningMax: bounds.farCountMax, waitingMax: bounds.farWaitingCountMax)
        nameRequests = RequestShare(
            runningMax: bounds.nameCountMax, waitingMax: bounds.nameWaitingCountMax,
            patienceMilliseconds: 1_000)
        connections = ReadConnections(
            directory: directory, owner: owner, countMax: bounds.connectionCountMax, log: log,
            onSession: { loans.wake() }, onLoss: { wholeFiles.removeAll() })
        let keeper = try Threads.start(name: "read-loans") { [self] in keep() }
        thread.withLock { $0 = keeper }
    }

    /// Ends the connections and the thread, once; requests fail with `unavailable` from then on. Files that were lent
    /// can still be read, but nobody keeps their bytes from changing.
    public func close() {
        guard let keeper = thread.withLock({ $0.take() }) else { return }
        connections.close()
        loans.wake()
        keeper.join()
        wholeFiles.removeAll()
    }

    /// How many files are lent, or may be in a moment; for figures and tests.
    public var loanCount: Int { loans.count }

    // MARK: Requests

    public var tree: any ServedTree { ReadTree(client: self) }

    public func root() throws(ServeFault) -> CID {
        switch try ask(.root, by: newDeadline()) {
        case .root(let cid): return cid
        case let other: throw Self.fault(other)
        }
    }

    public func has(_ cid: CID, scope: BlockScope) throws(ServeFault) -> Bool {
        switch try ask(.has(cid, scope), by: newDeadline()) {
        case .truth(let isHere): return isHere
        case let other: throw Self.fault(other)
        }
    }

    public func block(
        _ cid: CID, scope: BlockScope, reach: BlockReach
    ) throws(ServeFault) -> BytesPlace {
        let deadline = newDeadline()
        do throws(ServeFault) {
            return try block(cid, scope, .here, by: deadline)
        } catch {
            guard reach == .everywhere else { throw error }
            switch error {
            case .notFound, .damaged: break
            default: throw error
            }
        }
        return try farRequests.run(until: deadline.end) { () throws(ServeFault) in
            try block(cid, scope, .everywhere, by: deadline)
        }
    }

    private func block(
        _ cid: CID, _ scope: BlockScope, _ reach: BlockReach, by deadline: Deadline
    ) throws(ServeFault) -> BytesPlace {
        let place = try place(by: deadline) { .block(cid, scope, reach, loan: $0) }
        guard let place else { throw Self.fault(.nothing) }
        return place
    }

    public func wholeFile(_ cid: CID, scope: BlockScope) throws(ServeFault) -> BytesPlace? {
        let deadline = newDeadline()
        let key = WholeFileCache.Key(cid: cid, scope: scope)
        return try wholeFiles.place(key, by: deadline) { () throws(ServeFault) in
            try place(by: deadline) { .wholeFile(cid, scope, loan: $0) }
        }
    }

    public func expect(_ cids: [CID]) { loans.expect(cids) }

    fileprivate func entry(at path: [[UInt8]]) throws(ServeFault) -> ServedEntry? {
        let deadline = newDeadline()
        let answer = try nameRequests.run(until: deadline.end) { () throws(ServeFault) in
            try ask(.entry(path: path), by: deadline)
        }
        switch answer {
        case .entry(let entry): return entry
        case .nothing: return nil
        case let other: throw Self.fault(other)
        }
    }

    fileprivate func names(at path: [[UInt8]]) throws(ServeFault) -> [ServedName]? {
        let deadline = newDeadline()
        return try nameRequests.run(until: deadline.end) { () throws(ServeFault) in
            try names(at: path, by: deadline)
        }
    }

    private func names(
        at path: [[UInt8]], by deadline: Deadline
    ) throws(ServeFault) -> [ServedName]? {
        let listing = try exchange(.names(path: path), by: deadline) {
            (channel) throws(ChannelFault) -> Result<[ServedName]?, ServeFault> in
            var names: [ServedName] = []
            while true {
                switch try Self.answer(from: channel, by: deadline).answer {
                case .names(let part, let isLast):
                    guard names.count + part.count <= ServedNames.countMax, isLast || !part.isEmpty
                    else { throw .malformed(ReadMalformed("a listing without an end")) }
                    names += part
                    if isLast { return .success(names) }
                case .nothing: return .success(nil)
                case let other: return .failure(Self.fault(other))
                }
            }
        }
        return try listing.get()
    }

    // MARK: Exchanges

    private func newDeadline() -> Deadline { Deadline(milliseconds: bounds.requestMilliseconds) }

    private func ask(
        _ request: ReadRequest, by deadline: Deadline
    ) throws(ServeFault) -> ReadAnswer {
        try exchange(request, by: deadline) { (channel) throws(ChannelFault) in
            let (answer, descriptors) = try Self.answer(from: channel, by: deadline)
            guard descriptors == nil else {
                throw .malformed(ReadMalformed("a range that nobody asked for"))
            }
            return answer
        }
    }

    private func place(
        by deadline: Deadline, _ request: (_ loan: UInt64) -> ReadRequest
    ) throws(ServeFault) -> BytesPlace? {
        let loan = loans.number()
        let (answer, descriptors): (ReadAnswer, UnixSocket.Received?)
        do throws(ServeFault) {
            (answer, descriptors) = try exchange(request(loan), by: deadline) {
                (channel) throws(ChannelFault) in
                let (answer, descriptors) = try Self.answer(from: channel, by: deadline)
                guard descriptors == nil || loan != 0 else {
                    throw .malformed(ReadMalformed("a range that nobody asked for"))
                }
                return (answer, descriptors)
            }
        } catch {
            // It may have been made all the same.
            loans.end(loan)
            throw error
        }
        guard case .range(let offset, let count) = answer, let file = descriptors?.take() else {
            loans.unused(loan)
            switch answer {
            case .bytes(let bytes): return .bytes(bytes)
            case .nothing: return nil
            case let other: throw Self.fault(other)
            }
        }
        let loans = loans
        let lent = SharedFile(file) { loans.end(loan) }
        if let fault = LentFile.fault(of: lent.raw, offset: offset, count: count) { throw fault }
        return .file(FileRange(lent, offset: offset, count: count))
    }

    /// Sends a request and reads its answer, over a new connection where an idle one turns out to have ended.
    private func exchange<Answer>(
        _ request: ReadRequest, by deadline: Deadline,
        _ read: (FrameChannel) throws(ChannelFault) -> Answer
    ) throws(ServeFault) -> Answer {
        guard let frame = request.frame else {
            throw .tooLarge(reason: "a path of more than \(ReadProtocol.requestCountMax) bytes")
        }
        var isFresh = false
        while true {
            let connection = try connections.take(isFresh: isFresh, by: deadline)
            do throws(ChannelFault) {
                try connection.channel.send(frame, by: deadline)
                let answer = try read(connection.channel)
                connections.giveBack(connection)
                return answer
            } catch {
                connection.channel.shutDown()
                connections.discard()
                guard error == .lost else { throw ServeFault(error) }
                connections.look()
                guard connection.isUsed, !isFresh else { throw .unavailable }
                isFresh = true
            }
        }
    }

    /// The next answer, with what came beside it where that is right.
    static func answer(
        from channel: FrameChannel, by deadline: Deadline
    ) throws(ChannelFault) -> (answer: ReadAnswer, descriptors: UnixSocket.Received?) {
        guard let frame = try channel.receive(by: deadline) else { throw .lost }
        let answer: ReadAnswer
        do throws(ReadMalformed) {
            answer = try ReadAnswer(kind: frame.kind, body: frame.body)
        } catch {
            throw .malformed(error)
        }
        guard frame.hasDescriptors(answer.hasDescriptor ? 1 : 0) else {
            let isCut = frame.descriptors.contains { $0.isCut }
            throw .malformed(
                ReadMalformed(
                    isCut
                        ? "descriptors were lost: there are too many, or this process has too many open"
                        : "an answer with too many descriptors, or none"))
        }
        return (answer, frame.descriptors.first)
    }

    private static func fault(_ answer: ReadAnswer) -> ServeFault {
        guard case .fault(let fault) = answer else {
            return .failed(reason: "the daemon answers another question than was asked")
        }
        return fault
    }

    // MARK: The thread

    /// Tells the daemon what there is to tell, sees when it is gone, and lets go of what nobody uses.
    private func keep() {
        while true {
            // Without a session there is nothing to keep: the next one wakes this thread.
            let watched = connections.session
            let places = [loans.raw] + (watched.map { [$0.channel.raw] } ?? [])
            _ = try? Sys.wait(for: places, milliseconds: watched == nil ? nil : 1_000)
            withExtendedLifetime(watched) {}
            let (ended, expected) = loans.take()
            // What wakes this thread is taken by now, so what it is woken for is looked at after that.
            guard !connections.isClosed else { return }
            connections.look()
            // What was lent by a session that is over has ended with it. The session is looked up after that, because
            // what is told to a later one does no harm.
            if let session = connections.session { tell(session, ended, expected) }
            wholeFiles.expire()
            connections.trim()
            // Where many loans end, many go with one frame.
            if !ended.isEmpty { Threads.sleep(milliseconds: 10) }
        }
    }

    private func tell(_ session: ReadConnections.Session, _ ended: [UInt64], _ expected: [CID]) {
        var requests: [ReadRequest] = expected.isEmpty ? [] : [.expect(expected)]
        for start in stride(from: 0, to: ended.count, by: ReadProtocol.endedLoansMax) {
            let end = min(ended.count, start + ReadProtocol.endedLoansMax)
            requests.append(.endOfLoans(Array(ended[start..<end])))
        }
        let deadline = Deadline(milliseconds: 5_000)
        for request in requests {
            guard let frame = request.frame else { continue }
            do throws(ChannelFault) {
                try session.channel.send(frame, by: deadline)
            } catch {
                session.channel.shutDown()
                return connections.lost(session)
            }
        }
    }
}

/// The volume's tree as the daemon has it.
private struct ReadTree: ServedTree {
    let client: ReadClient

    func entry(at path: [[UInt8]]) throws(ServeFault) -> ServedEntry? {
        try client.entry(at: path)
    }

    func names(at path: [[UInt8]]) throws(ServeFault) -> [ServedName]? {
        try client.names(at: path)
    }
}

extension ServeFault {
    /// Why an exchange with the daemon came to nothing.
    init(_ error: ChannelFault) {
        switch error {
        case .lost: self = .unavailable
        case .timedOut: self = .timedOut
        case .malformed(let malformed):
            self = .failed(reason: "the daemon answers wrongly: \(malformed.reason)")
        case .system(let error): self = .failed(reason: "the connection to the daemon: \(error)")
        }
    }
}
