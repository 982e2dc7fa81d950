import HTTPScript
import Kubo
import Logging

/// Replies of a node's.
extension Reply {
    static let version = whole(200, #"{"Version":"0.43.0","Commit":"c"}"#)
    static let flushed = whole(
        200, #"{"Cid":"bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"}"#)
}

/// A log that calls back at each line, for a test to act at that moment.
struct LogHook: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .trace
    let body: @Sendable (String) -> Void

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        body("\(event.message) \(event.metadata ?? [:])")
    }

    static func logger(_ body: @escaping @Sendable (String) -> Void) -> Logger {
        Logger(label: "test") { _ in LogHook(body: body) }
    }
}

/// A client with short limits, which a test may change.
func makeClient(
    _ address: String, log: Logger = LogHook.logger { _ in },
    _ change: (inout KuboConfiguration) throws -> Void = { _ in }
) throws -> KuboClient {
    var configuration = KuboConfiguration(address: try KuboAddress(address))
    configuration.userAgent = "registryfs/test"
    configuration.connectMilliseconds = 10_000
    configuration.firstByteMilliseconds = 20_000
    configuration.workMilliseconds = 20_000
    configuration.stallMilliseconds = 20_000
    try change(&configuration)
    return try KuboClient(configuration, log: log)
}

/// The error that a call ends with; nil where it does not.
func failure(_ body: () throws -> Void) -> KuboError? {
    do {
        try body()
        return nil
    } catch let error as KuboError {
        return error
    } catch let error as KuboStreamError<KuboError> {
        switch error {
        case .kubo(let error), .source(let error): return error
        }
    } catch let error as KuboStreamError<Never> {
        switch error {
        case .kubo(let error): return error
        }
    } catch {
        return nil
    }
}
