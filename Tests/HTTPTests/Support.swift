import Base
import Foundation
import HTTP
import HTTPScript

/// A client without proxies and with short limits of its own, which a test may change.
func makeHTTPClient(
    _ change: (inout HTTPConfiguration) throws -> Void = { _ in }
) throws -> HTTPClient {
    var configuration = HTTPConfiguration()
    configuration.userAgent = "registryfs/test"
    configuration.environment = HTTPEnvironment([:])
    try change(&configuration)
    return try HTTPClient(configuration)
}

extension ScriptedServer {
    /// A request to this server, with limits that a slow machine keeps.
    func request(
        _ method: HTTPRequest.Method = .get, _ path: String = "/",
        body: HTTPRequest.Body = .none, _ change: (inout HTTPRequest) -> Void = { _ in }
    ) -> HTTPRequest {
        var request = HTTPRequest(method, "http://\(address)\(path)", body: body)
        request.limits.connectMilliseconds = 10_000
        request.limits.firstByteMilliseconds = 20_000
        request.limits.stallMilliseconds = 20_000
        change(&request)
        return request
    }
}

/// The error that a request ends with; nil where it does not.
func failure(_ body: () throws -> Void) -> HTTPError? {
    do {
        try body()
        return nil
    } catch let error as HTTPError {
        return error
    } catch let error as HTTPStreamError<Never> {
        switch error {
        case .http(let error): return error
        }
    } catch {
        return nil
    }
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

func text(_ reply: HTTPReply) -> String { String(decoding: reply.body, as: UTF8.self) }
