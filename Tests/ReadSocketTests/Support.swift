import Base
import Foundation
import Glibc
import Logging
import Multiformats
import ReadSocket
import Serving

import struct SystemPackage.Errno

let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

func cid(_ number: Int) -> CID { .raw(sha256: bytes("block \(number)")) }

/// Bytes that differ from place to place: a run whose length divides nothing, again and again.
func pattern(_ count: Int) -> [UInt8] {
    let run = (0..<4093).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 7) }
    var bytes: [UInt8] = []
    while bytes.count < count { bytes += run }
    return Array(bytes.prefix(count))
}

/// A directory that goes with its test.
final class TemporaryDirectory: Sendable {
    // A unix socket's address is short.
    let path = "/tmp/rfs-\(UUID().uuidString.prefix(13))"

    init() throws {
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: false,
            attributes: [.posixPermissions: 0o700])
    }

    /// Writes a file and gives its path.
    func file(_ name: String, _ bytes: [UInt8]) throws -> String {
        let path = path + "/" + name
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        return path
    }

    /// How many descriptors of this process are of files with such a name here.
    func openCount(_ name: String) -> Int {
        let path = path + "/" + name
        return ((try? Sys.names(in: AT_FDCWD, path: "/proc/self/fd")) ?? []).count { number in
            let link = try? FileManager.default.destinationOfSymbolicLink(
                atPath: "/proc/self/fd/" + number)
            return link == path
        }
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Waits for what another thread does, not for ever.
func eventually(_ condition: () -> Bool) -> Bool {
    for _ in 0..<2_000 {
        if condition() { return true }
        Threads.sleep(milliseconds: 10)
    }
    return condition()
}

/// The fault that a request ends with; nil where it does not.
func fault<Result>(_ body: () throws(ServeFault) -> Result) -> ServeFault? {
    do throws(ServeFault) {
        _ = try body()
        return nil
    } catch {
        return error
    }
}

/// Content in memory and in files, which counts what it lends.
final class ContentDouble: ServedContent {
    enum Place: Sendable {
        case bytes([UInt8])
        case file(String, offset: UInt64, count: UInt64, flags: Int32 = O_RDONLY)
        case fault(ServeFault)
        /// Until the semaphore has a signal.
        case wait(Base.Semaphore)
        case waitForFile(Base.Semaphore, String, count: UInt64)
    }

    struct State: Sendable {
        var root: Result<CID, ServeFault> = .failure(.notFound)
        var blocks: [CID: Place] = [:]
        /// Of the blocks: those that a source has.
        var elsewhere: Set<CID> = []
        var wholeFiles: [CID: Place] = [:]
        var entries: [[[UInt8]]: ServedEntry] = [:]
        /// Names that are told once the semaphore has a signal.
        var waitsForNames: Base.Semaphore?
        var listings: [[[UInt8]]: [ServedName]] = [:]
        var scopes: [BlockScope] = []
        var reaches: [BlockReach] = []
        var expected: [CID] = []
        var askedCount = 0
        var lentCount = 0
        var endedCount = 0
    }

    let state = Monitor(State())

    func change(_ body: (inout State) -> Void) { state.withLock(body) }
    var now: State { state.withLock { $0 } }

    var tree: any ServedTree { TreeDouble(content: self) }

    func root() throws(ServeFault) -> CID { try now.root.get() }

    func block(
        _ cid: CID, scope: BlockScope, reach: BlockReach
    ) throws(ServeFault) -> BytesPlace {
        let place = state.withLock { state in
            state.askedCount += 1
            state.scopes.append(scope)
            state.reaches.append(reach)
            return reach == .here && state.elsewhere.contains(cid) ? nil : state.blocks[cid]
        }
        guard let place else { throw .notFound }
        return try lend(place)
    }

    func wholeFile(_ cid: CID, scope: BlockScope) throws(ServeFault) -> BytesPlace? {
        let place = state.withLock { state in
            state.askedCount += 1
            return state.wholeFiles[cid]
        }
        return try place.map { (place) throws(ServeFault) in try lend(place) }
    }

    func has(_ cid: CID, scope: BlockScope) throws(ServeFault) -> Bool {
        now.blocks[cid] != nil
    }

    func expect(_ cids: [CID]) { state.withLock { $0.expected += cids } }

    private func lend(_ place: Place) throws(ServeFault) -> BytesPlace {
        switch place {
        case .bytes(let bytes): return .bytes(bytes)
        case .fault(let fault): throw fault
        case .wait(let semaphore):
            semaphore.wait()
            return .bytes([])
        case .waitForFile(let semaphore, let path, let count):
            semaphore.wait()
            return try lend(.file(path, offset: 0, count: count))
        case .file(let path, let offset, let count, let flags):
            let raw = open(path, flags | O_CLOEXEC)
            guard raw >= 0 else { throw .failed(reason: "no file") }
            state.withLock { $0.lentCount += 1 }
            let state = state
            let file = SharedFile(OwnedDescriptor(raw)) {
                state.withLock { $0.endedCount += 1 }
            }
            return .file(FileRange(file, offset: offset, count: count))
        }
    }
}

private struct TreeDouble: ServedTree {
    let content: ContentDouble

    func entry(at path: [[UInt8]]) throws(ServeFault) -> ServedEntry? {
        let now = content.now
        now.waitsForNames?.wait()
        return now.entries[path]
    }

    func names(at path: [[UInt8]]) throws(ServeFault) -> [ServedName]? {
        content.now.listings[path]
    }
}

/// A daemon's side with a client.
final class Stand: Sendable {
    let directory: TemporaryDirectory
    let content = ContentDouble()
    private let current: Monitor<ReadServer?>
    let client: ReadClient

    init(
        server serverBounds: ReadServerBounds = ReadServerBounds(),
        client clientBounds: ReadClientBounds = ReadClientBounds()
    ) throws {
        directory = try TemporaryDirectory()
        let server = try ReadServer(
            content: content, stateDirectory: directory.path, log: quiet, bounds: serverBounds)
        try server.start()
        current = Monitor(server)
        client = try ReadClient(
            directory: try ReadPlace.open(stateDirectory: directory.path), owner: geteuid(),
            log: quiet, bounds: clientBounds)
    }

    deinit {
        client.close()
        stopServer()
    }

    func stopServer() {
        current.withLock { $0.take() }?.stop()
    }

    func startServer() throws {
        let server = try ReadServer(content: content, stateDirectory: directory.path, log: quiet)
        try server.start()
        current.withLock { $0 = server }
    }

    var loanCount: Int { current.withLock { $0 }?.figures.loanCount ?? 0 }
    var connectionCount: Int { current.withLock { $0 }?.figures.connectionCount ?? 0 }

    /// A connection without a client, on which a test says what it likes.
    func connect() throws -> FrameChannel { try connectRaw(to: directory.path) }

    /// A connection of a session, a new one where none is given.
    func greet(
        session: SessionID = .none
    ) throws -> (channel: FrameChannel, session: SessionID) {
        let channel = try connect()
        let answer = try ask(.hello(Hello(session: session)), channel)
        guard case .hello(let hello) = answer.answer else { throw Surprise(answer: answer.answer) }
        return (channel, hello.session)
    }

    /// Whether others are still served.
    var isWell: Bool {
        content.change { $0.root = .success(cid(1)) }
        return (try? client.root()) == cid(1)
    }
}

struct Surprise: Error {
    var answer: ReadAnswer?
}

func connectRaw(to stateDirectory: String) throws -> FrameChannel {
    let directory = try ReadPlace.open(stateDirectory: stateDirectory)
    let place = UnixSocket.Place(ReadProtocol.socketName, in: directory.raw)
    return FrameChannel(
        try UnixSocket.connect(to: place), countMax: ReadProtocol.answerCountMax)
}

let patience = 20_000

/// Sends a request as it is and takes its answer.
func ask(
    _ request: ReadRequest, _ channel: FrameChannel
) throws -> (answer: ReadAnswer, frame: ReceivedFrame) {
    guard let bytes = request.frame else { throw Surprise() }
    try channel.send(bytes, by: Deadline(milliseconds: patience))
    guard let frame = try channel.receive(by: Deadline(milliseconds: patience)) else {
        throw Surprise()
    }
    return (try ReadAnswer(kind: frame.kind, body: frame.body), frame)
}

/// Whether the other side ends a connection, whatever it sends before.
func ends(_ channel: FrameChannel) -> Bool {
    while true {
        do throws(ChannelFault) {
            guard try channel.receive(by: Deadline(milliseconds: patience)) != nil else {
                return true
            }
        } catch {
            return error == .lost
        }
    }
}

/// Runs a body on many threads and waits for all.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) throws {
    let threads = try (0..<count).map { number in
        try Threads.start(name: "test") { body(number) }
    }
    for thread in threads { thread.join() }
}
