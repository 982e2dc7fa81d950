import Base
import Dispatch
import Foundation
import HTTPServer
import HTTPTypes
import Logging
import Serving

/// What a test's handler does.
struct ClosureHandler: RequestHandler {
    let body: @Sendable (ServeRequest) -> ServeResponse

    func respond(to request: ServeRequest) -> ServeResponse { body(request) }
}

/// A server on the loopback, for one test.
struct RunningServer: Sendable {
    let service: HTTPService
    let address: ListenAddress

    var port: UInt16 {
        if case .network(_, let port) = address { return port }
        return 0
    }

    func url(_ path: String = "/", scheme: String = "http") -> String {
        "\(scheme)://127.0.0.1:\(port)\(path)"
    }

    func connect() throws -> RawClient { try RawClient(to: address) }

    /// A request of its own connection, and all that is answered.
    func ask(_ path: String, method: String = "GET", _ fields: String...) throws -> RawReply {
        let client = try connect()
        let lines = ["\(method) \(path) HTTP/1.1", "Host: test", "Connection: close"] + fields
        try client.send(lines.joined(separator: "\r\n") + "\r\n\r\n")
        return try client.receiveReply(isHead: method == "HEAD")
    }
}

/// Runs a test's blocking part on a thread of its own: Swift's threads are few, and the server needs some.
func onThread<Value: Sendable>(
    _ body: @escaping @Sendable () throws -> Value
) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        do {
            try Threads.startDetached(name: "test") {
                continuation.resume(with: Result { try body() })
            }
        } catch {
            continuation.resume(throwing: error)
        }
    }
}

/// Runs servers on threads of their own: those of Swift's are few, and other tests block them.
final class ServerExecutor: TaskExecutor {
    static let shared = ServerExecutor()
    private let queue = DispatchQueue(label: "servers", attributes: .concurrent)

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}

/// Serves while a body runs, and waits until the server has ended.
func withServer<Value: Sendable>(
    at address: String = "127.0.0.1:0",
    _ configure: (inout ServerConfiguration) throws -> Void = { _ in },
    handler: @escaping @Sendable (ServeRequest) -> ServeResponse,
    _ body: @escaping @Sendable (RunningServer) throws -> Value
) async throws -> Value {
    var configuration = ServerConfiguration()
    configuration.loopThreadCount = 2
    configuration.handlerThreadCount = 8
    configuration.stopMilliseconds = 0
    try configure(&configuration)
    let sockets = try ListeningSocket.open(ListenAddress(address))
    let service = HTTPService(
        configuration, sockets: sockets, handler: ClosureHandler(body: handler),
        log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let run = Task(executorPreference: ServerExecutor.shared) { try await service.run() }
    let server = RunningServer(service: service, address: sockets[0].address)
    let result: Result<Value, any Error>
    do {
        result = .success(try await onThread { try body(server) })
    } catch {
        result = .failure(error)
    }
    service.stop()
    try await run.value
    return try result.get()
}

/// A value that a test waits for.
final class Waited<Value: Sendable>: Sendable {
    private let state = Monitor<[Value]>([])

    func add(_ value: Value) {
        state.withLock { $0.append(value) }
        state.wakeAll()
    }

    var all: [Value] { state.withLock { $0 } }

    /// The first that fits; nil where none comes for a long time.
    func first(where fits: (Value) -> Bool = { _ in true }) -> Value? {
        let end = MonotonicClock.milliseconds + 30_000
        return state.withLock { values in
            while true {
                if let value = values.first(where: fits) { return value }
                let left = end - MonotonicClock.milliseconds
                if left <= 0 { return nil }
                state.wait(&values, milliseconds: Int(left))
            }
        }
    }
}

/// Makes pieces by a closure.
final class ClosureProducer: BodyProducer {
    private let count = Monitor(0)
    private let body: @Sendable (Int) throws(ServeFault) -> BytesPlace?

    init(_ body: @escaping @Sendable (Int) throws(ServeFault) -> BytesPlace?) {
        self.body = body
    }

    func next() throws(ServeFault) -> BytesPlace? {
        let number = count.withLock { count in
            defer { count += 1 }
            return count
        }
        return try body(number)
    }
}

/// A file of pseudo-random bytes that has no name any more.
struct TestFile: Sendable {
    let bytes: [UInt8]
    let shared: SharedFile

    init(byteCount: Int, seed: UInt64 = 7, onEnd: (@Sendable () -> Void)? = nil) throws {
        var state = seed
        bytes = (0..<byteCount).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(truncatingIfNeeded: state >> 33)
        }
        let path = temporaryPath("body")
        let file = try Sys.open(path, flags: O_RDWR | O_CREAT | O_EXCL)
        unlink(path)
        try bytes.withUnsafeBytes { try Sys.write(file.raw, at: 0, $0) }
        shared = SharedFile(file, onEnd: onEnd)
    }

    func range(_ range: Range<Int>) -> BytesPlace {
        .file(
            FileRange(
                shared, offset: UInt64(range.lowerBound), count: UInt64(range.count)))
    }
}

func temporaryPath(_ name: String) -> String {
    FileManager.default.temporaryDirectory.path + "/rfs-\(name)-\(UUID().uuidString)"
}

/// Runs a program; its status and what it wrote.
func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, output: [UInt8]) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, Array(output))
}

func plain(_ text: String, status: Int = 200) -> ServeResponse {
    ServeResponse(status, [.contentType: "text/plain"], .bytes(Array(text.utf8)))
}

/// A handler whose body goes on when it is told to.
///
/// - Parameter count: the length that it tells; nil for none.
func slowBody(
    started: Waited<Bool>, goOn: Base.Semaphore, count: UInt64? = 8
) -> @Sendable (ServeRequest) -> ServeResponse {
    { _ in
        ServeResponse(
            200, [:],
            .producer(
                ClosureProducer { number in
                    switch number {
                    case 0: return .bytes(Array("begin".utf8))
                    case 1:
                        started.add(true)
                        goOn.wait()
                        return .bytes(Array("end".utf8))
                    default: return nil
                    }
                }, count: count))
    }
}
