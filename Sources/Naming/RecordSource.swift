public import Base
internal import Glibc
public import HTTP

internal import struct SystemPackage.Errno

/// Somebody who has IPNS records. What he gives is checked by whoever asked.
public protocol IPNSRecordSource: Sendable {
    /// Who it is, for people. No credentials.
    var address: String { get }

    /// Gives the record of a name as bytes that nobody has looked at, at most `IPNSRecord.byteCountMax` and
    /// one more. Blocks the calling thread.
    ///
    /// - Parameter deadline: when it ends at the latest, by `MonotonicClock.milliseconds`.
    /// - Throws: `notFound` where he has none; `unreachable`, `timeout`, `refused`, `malformed`, `cancelled`,
    ///   `failed`.
    func record(
        of name: IPNSName, deadline: Int64, cancellation: Cancellation?
    ) throws(NamingError) -> [UInt8]
}

/// An HTTP gateway that gives records.
///
/// Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/ "GET /ipns/{key}".
public final class GatewayRecords: IPNSRecordSource {
    static let type = "application/vnd.ipfs.ipns-record"
    /// How many redirects are followed.
    static let redirectsMax = 1

    public let address: String
    private let http: HTTPClient
    private let isPublicOnly: Bool

    /// Takes the URL of a gateway, as `https://example.org`. Nothing is sent yet.
    ///
    /// - Parameter isPublicOnly: it is asked at public addresses alone (`HTTPRoute.isPublicOnly`).
    public init(
        _ url: String, isPublicOnly: Bool = false,
        configuration: HTTPConfiguration = HTTPConfiguration()
    ) throws(NamingError) {
        self.isPublicOnly = isPublicOnly
        var base = url[...]
        while base.hasSuffix("/") { base.removeLast() }
        guard base.hasPrefix("https://") || base.hasPrefix("http://"),
            base.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }), !base.contains("?"),
            !base.contains("#"), !base.contains("@")
        else {
            throw NamingError(
                .malformed,
                "'\(url)' is no gateway: it is http:// or https:// and a host, without "
                    + "a user and a query")
        }
        address = String(base)
        do throws(HTTPError) {
            http = try HTTPClient(configuration)
        } catch {
            throw NamingError(error)
        }
    }

    public func record(
        of name: IPNSName, deadline: Int64, cancellation: Cancellation?
    ) throws(NamingError) -> [UInt8] {
        // A server may look at either.
        var request = HTTPRequest(
            .get, "\(address)/ipns/\(name)?format=ipns-record",
            route: HTTPRoute(isPublicOnly: isPublicOnly))
        request.headers.append("Accept", Self.type)
        request.acceptedStatuses = 200...200
        request.replyBytesMax = IPNSRecord.byteCountMax
        request.redirectsMax = Self.redirectsMax
        request.limits.deadline = deadline
        request.cancellation = cancellation
        let reply: HTTPReply
        do throws(HTTPError) {
            reply = try http.send(request)
        } catch {
            throw NamingError(error)
        }
        switch reply.status {
        case 200: break
        // Some gateways answer so for a name that nobody has published, 500 among them.
        case 404, 410, 500, 502:
            throw NamingError(
                .notFound, "\(address) has no record of \(name) (HTTP status \(reply.status))")
        case 504:
            throw NamingError(.timeout, "\(address) does not find a record of \(name) in time")
        default:
            throw NamingError(
                .refused, "\(address) gives no record of \(name): HTTP status \(reply.status)")
        }
        let type = (reply.headers["Content-Type"] ?? "").prefix { $0 != ";" && $0 != " " }
        guard type.lowercased() == Self.type else {
            throw NamingError(
                .refused,
                "\(address) gives no records: it answers \(type.isEmpty ? "without a type" : type)")
        }
        return reply.body
    }
}

/// A file with a record.
public struct RecordFile: IPNSRecordSource {
    public let address: String

    /// Takes the path of a file, which is read when it is asked for.
    public init(path: String) {
        address = path
    }

    public func record(
        of name: IPNSName, deadline: Int64, cancellation: Cancellation?
    ) throws(NamingError) -> [UInt8] {
        do throws(Errno) {
            let file = try Sys.open(address, flags: O_RDONLY | O_NONBLOCK)
            guard FileKind(mode: try Sys.status(of: file.raw).mode) == .regular else {
                throw Errno.invalidArgument.because("it is no regular file")
            }
            var bytes = [UInt8](repeating: 0, count: IPNSRecord.byteCountMax + 1)
            let count = try bytes.withMutableBytes { [raw = file.raw] (buffer) throws(Errno) in
                try Sys.read(raw, at: 0, into: buffer)
            }
            return Array(bytes[..<count])
        } catch {
            throw NamingError(
                error == .noSuchFileOrDirectory ? .notFound : .failed,
                "\(address): \(FailureCause.words(for: error))")
        }
    }
}
