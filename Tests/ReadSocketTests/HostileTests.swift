import Base
import Glibc
import Multiformats
import ReadSocket
import Serving
import Testing

import struct SystemPackage.Errno

/// A daemon that greets as it should, and then answers with whatever a test says.
private final class FalseDaemon: Sendable {
    /// What it sends for a request: bytes, and descriptors beside them, which it closes.
    struct Answer: Sendable {
        var bytes: [UInt8]
        var paths: [(path: String, flags: Int32)] = []
        /// Ends the connection after it.
        var isLast = false

        static func frame(_ answer: ReadAnswer) -> Answer { Answer(bytes: answer.frame ?? []) }
    }

    private let listener: OwnedDescriptor
    private let directory: OwnedDescriptor
    private let helloVersion: UInt16
    private let answers: Monitor<[Answer]>

    init(
        _ stateDirectory: String, helloVersion: UInt16 = ReadProtocol.version, _ answers: [Answer]
    ) throws {
        let directory = try ReadPlace.make(stateDirectory: stateDirectory)
        let name = ReadProtocol.socketName
        listener = try UnixSocket.listen(
            at: UnixSocket.Place(name, in: directory.raw), named: name, in: directory.raw,
            mode: 0o600, backlog: 16)
        self.directory = directory
        self.helloVersion = helloVersion
        self.answers = Monitor(answers)
        try Threads.startDetached(name: "false") { [self] in
            while true {
                do throws(Errno) {
                    _ = try Sys.wait(for: [listener.raw], milliseconds: nil)
                    let connection = try UnixSocket.accept(listener.raw)
                    let channel = FrameChannel(connection, countMax: 1 << 20)
                    try Threads.startDetached(name: "false") { [self] in serve(channel) }
                } catch {
                    return
                }
            }
        }
    }

    func stop() { UnixSocket.shutDown(listener.raw) }

    private func serve(_ channel: FrameChannel) {
        let deadline = Deadline(milliseconds: 60_000)
        while let frame = try? channel.receive(by: deadline) {
            if frame.kind == 1 {
                let hello = Hello(
                    version: helloVersion, session: SessionID(high: 1, low: 2))
                try? channel.send(ReadAnswer.hello(hello).frame ?? [], by: deadline)
                continue
            }
            // Those have no answer.
            guard frame.kind != 8, frame.kind != 9 else { continue }
            let answer = answers.withLock { $0.isEmpty ? nil : $0.removeFirst() }
            guard let answer else { continue }
            send(answer, to: channel)
            guard !answer.isLast else { break }
        }
        channel.shutDown()
    }

    private func send(_ answer: Answer, to channel: FrameChannel) {
        var descriptors: [Int32] = []
        for (path, flags) in answer.paths { descriptors.append(open(path, flags | O_CLOEXEC)) }
        defer { for descriptor in descriptors { close(descriptor) } }
        // What is too large for one message has no descriptors.
        guard !descriptors.isEmpty else {
            try? channel.send(answer.bytes, by: Deadline(milliseconds: patience))
            return
        }
        answer.bytes.withUnsafeBytes {
            _ = try? UnixSocket.send($0, with: descriptors, to: channel.raw)
        }
    }
}

/// What a client makes of a daemon that lies.
@Suite struct HostileDaemonTests {
    private static func range(_ offset: UInt64, _ count: UInt64) -> [UInt8] {
        ReadAnswer.range(offset: offset, count: count).frame ?? []
    }

    /// Answers to a request for a block, none of which may be believed; FILE, DIRECTORY and FIFO are made by the test.
    private static let lies: [(String, FalseDaemon.Answer)] = [
        ("another question's", .frame(.truth(true))),
        ("a hello", .frame(.hello(Hello(session: .none)))),
        ("nothing", .frame(.nothing)),
        ("no kind", .init(bytes: [0, 0, 0, 0, 99, 0, 0, 0])),
        ("a request's kind", .init(bytes: [0, 0, 0, 0, 2, 0, 0, 0])),
        ("bits of no meaning", .init(bytes: [0, 0, 0, 0, 136, 1, 0, 0])),
        ("too long", .init(bytes: [1, 0, 0x20, 0, 136, 0, 0, 0])),
        ("endless", .init(bytes: [255, 255, 255, 255, 136, 0, 0, 0])),
        ("a fault of no kind", .init(bytes: [1, 0, 0, 0, 139, 0, 0, 0, 77])),
        ("cut in its head", .init(bytes: [0, 0, 0], isLast: true)),
        ("cut in its body", .init(bytes: [9, 0, 0, 0, 136, 0, 0, 0, 1], isLast: true)),
        ("cut before it", .init(bytes: [], isLast: true)),
        ("without a descriptor", .init(bytes: range(0, 100_000))),
        (
            "with two",
            .init(bytes: range(0, 100_000), paths: [("FILE", O_RDONLY), ("FILE", O_RDONLY)])
        ),
        (
            "with four",
            .init(
                bytes: range(0, 100_000), paths: Array(repeating: ("FILE", O_RDONLY), count: 4))
        ),
        ("bytes with one", .init(bytes: [0, 0, 0, 0, 136, 0, 0, 0], paths: [("FILE", O_RDONLY)])),
        ("a directory", .init(bytes: range(0, 0), paths: [("DIRECTORY", O_RDONLY)])),
        ("a fifo", .init(bytes: range(0, 0), paths: [("FIFO", O_RDONLY | O_NONBLOCK)])),
        ("a writable file", .init(bytes: range(0, 100_000), paths: [("FILE", O_RDWR)])),
        ("a file to write", .init(bytes: range(0, 100_000), paths: [("FILE", O_WRONLY)])),
        ("a place", .init(bytes: range(0, 100_000), paths: [("FILE", Sys.pathOnly)])),
        ("beyond the end", .init(bytes: range(1, 100_000), paths: [("FILE", O_RDONLY)])),
        ("beyond all numbers", .init(bytes: range(.max, 2), paths: [("FILE", O_RDONLY)])),
        ("of no end", .init(bytes: range(2, .max), paths: [("FILE", O_RDONLY)])),
    ]

    @Test(arguments: lies.indices) private func aLieIsNotBelieved(_ number: Int) throws {
        let (name, lie) = Self.lies[number]
        let directory = try TemporaryDirectory()
        let file = try directory.file("flat", pattern(100_000))
        let fifo = directory.path + "/fifo"
        #expect(mkfifo(fifo, 0o600) == 0)
        var answer = lie
        answer.paths = lie.paths.map { path, flags in
            switch path {
            case "DIRECTORY": (directory.path, flags)
            case "FIFO": (fifo, flags)
            default: (file, flags)
            }
        }
        let good = FalseDaemon.Answer(bytes: Self.range(0, 100_000), paths: [(file, O_RDONLY)])
        let daemon = try FalseDaemon(directory.path, [answer, good])
        defer { daemon.stop() }
        let client = try ReadClient(
            directory: try ReadPlace.open(stateDirectory: directory.path), owner: geteuid(),
            log: quiet)
        defer { client.close() }
        let fault = fault { () throws(ServeFault) in
            try client.block(cid(1), scope: .any, reach: .here)
        }
        switch fault {
        case .failed, .unavailable: break
        default: Issue.record("\(name): \(String(describing: fault))")
        }
        #expect(eventually { directory.openCount("flat") == 0 }, "\(name)")
        #expect(eventually { directory.openCount("fifo") == 0 }, "\(name)")
        // The next answer is not mixed up with this one.
        let place = try client.block(cid(1), scope: .any, reach: .here)
        #expect(try place.read() == pattern(100_000), "\(name)")
    }

    @Test func moreDescriptorsThanThereIsRoomForAreClosed() throws {
        let directory = try TemporaryDirectory()
        let file = try directory.file("flat", pattern(100_000))
        // Two messages for one frame, each with as many as there is room for.
        let bytes = Self.range(0, 100_000)
        let paths = Array(repeating: (path: file, flags: O_RDONLY), count: 4)
        let (one, other) = try UnixSocket.pair()
        let (sender, receiver) = (
            FrameChannel(OwnedDescriptor(one), countMax: 100),
            FrameChannel(OwnedDescriptor(other), countMax: 100)
        )
        for part in [bytes.prefix(4), bytes.dropFirst(4)] {
            let descriptors = paths.map { open($0.path, $0.flags | O_CLOEXEC) }
            defer { for descriptor in descriptors { close(descriptor) } }
            _ = try Array(part).withUnsafeBytes {
                try UnixSocket.send($0, with: descriptors, to: sender.raw)
            }
        }
        #expect(directory.openCount("flat") == 0)
        #expect(throws: ChannelFault.self) {
            try receiver.receive(by: Deadline(milliseconds: patience))
        }
        #expect(directory.openCount("flat") == 0)
    }

    private func expectListingFails(
        of daemon: FalseDaemon, in directory: TemporaryDirectory
    ) throws {
        defer { daemon.stop() }
        let client = try ReadClient(
            directory: try ReadPlace.open(stateDirectory: directory.path), owner: geteuid(),
            log: quiet)
        defer { client.close() }
        let fault = fault { () throws(ServeFault) in try client.tree.names(at: []) }
        guard case .failed = fault else {
            Issue.record("\(String(describing: fault))")
            return
        }
    }

    @Test func aListingWithoutAnEndIsNotFollowed() throws {
        let directory = try TemporaryDirectory()
        let empty = ReadAnswer.names([], isLast: false).frame ?? []
        let daemon = try FalseDaemon(directory.path, [.init(bytes: empty)])
        try expectListingFails(of: daemon, in: directory)
    }

    @Test func aListingOfTooManyNamesIsNotTaken() throws {
        let directory = try TemporaryDirectory()
        let name = ServedName(name: [], mayBeDirectory: false)
        let part = ReadAnswer.names(Array(repeating: name, count: 150_000), isLast: false)
        let bytes = part.frame ?? []
        let daemon = try FalseDaemon(directory.path, [.init(bytes: bytes + bytes)])
        try expectListingFails(of: daemon, in: directory)
    }

    @Test func aDaemonOfAnotherVersionIsNamed() throws {
        let directory = try TemporaryDirectory()
        let daemon = try FalseDaemon(directory.path, helloVersion: 9, [])
        defer { daemon.stop() }
        let client = try ReadClient(
            directory: try ReadPlace.open(stateDirectory: directory.path), owner: geteuid(),
            log: quiet)
        defer { client.close() }
        let fault = fault { () throws(ServeFault) in try client.root() }
        guard case .failed(let reason) = fault else {
            Issue.record("\(String(describing: fault))")
            return
        }
        #expect(reason.contains("version 9"))
    }
}

/// What the daemon makes of a client that lies.
@Suite struct HostileClientTests {
    private static let block = ReadRequest.block(cid(1), .any, .here, loan: 1).frame ?? []
    private static let hello = ReadRequest.hello(Hello(session: .none)).frame ?? []

    @Test(arguments: [
        hello, [0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 77, 0, 0, 0], [0, 0, 0, 0, 130, 0, 0, 0],
        [0, 0, 0, 0, 2, 0, 0, 1], [1, 0, 1, 0, 3, 0, 0, 0], [255, 255, 255, 255, 3, 0, 0, 0],
        [1, 0, 0, 0, 2, 0, 0, 0, 0], [3, 0, 0, 0, 3, 0, 0, 0, 9, 0, 1],
        // The same loan again.
        block + block,
    ])
    func nonsenseEndsItsConnectionAndNoOther(_ bytes: [UInt8]) throws {
        let stand = try Stand()
        let path = try stand.directory.file("flat", pattern(100_000))
        stand.content.change { $0.blocks[cid(1)] = .file(path, offset: 0, count: 100_000) }
        let (channel, _) = try stand.greet()
        try channel.send(bytes, by: Deadline(milliseconds: patience))
        #expect(ends(channel))
        #expect(stand.isWell)
        #expect(eventually { stand.loanCount == 0 && stand.directory.openCount("flat") == 0 })
    }

    @Test(arguments: [[], hello.dropLast(1), block, [0, 0, 0, 0, 2, 0, 0, 0]] as [[UInt8]])
    func whoDoesNotGreetIsNotServed(_ bytes: [UInt8]) throws {
        let stand = try Stand()
        let channel = try stand.connect()
        if !bytes.isEmpty { try channel.send(bytes, by: Deadline(milliseconds: patience)) }
        _ = Glibc.shutdown(channel.raw, Int32(SHUT_WR))
        #expect(ends(channel))
        #expect(stand.content.now.askedCount == 0)
        #expect(stand.isWell)
    }

    @Test(arguments: [1, 4]) func requestsBringNoDescriptors(_ count: Int) throws {
        let stand = try Stand()
        let path = try stand.directory.file("brought", [1])
        let (channel, _) = try stand.greet()
        let descriptors = (0..<count).map { _ in open(path, O_RDONLY | O_CLOEXEC) }
        _ = try Self.block.withUnsafeBytes {
            try UnixSocket.send($0, with: descriptors, to: channel.raw)
        }
        for descriptor in descriptors { close(descriptor) }
        #expect(ends(channel))
        #expect(eventually { stand.directory.openCount("brought") == 0 })
        #expect(stand.content.now.askedCount == 0)
        #expect(stand.isWell)
    }
}
