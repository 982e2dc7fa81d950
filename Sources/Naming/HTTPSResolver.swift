// A name server that is asked over HTTPS.
//
// Request:  GET URL?dns=QUESTION, the packet of the question with the id 0 in base64url without padding, and
//           Accept: application/dns-message.
// Reply:    200, Content-Type application/dns-message, and the packet of the answer. What it says of times to
//           live counts from when it was made: Age is how long that is.
// Source:   RFC 8484

public import Base
public import HTTP
internal import Multiformats

/// Asks a name server over HTTPS.
public final class HTTPSResolver: DNSResolver {
    private static let type = "application/dns-message"

    public let address: String
    private let http: HTTPClient

    /// Takes the URL of a server, as `https://example.org/dns-query`. Nothing is sent yet.
    ///
    /// - Throws: `malformed` for a URL that has a query already, or is none.
    public init(
        _ url: String, configuration: HTTPConfiguration = HTTPConfiguration()
    ) throws(NamingError) {
        guard url.hasPrefix("https://") || url.hasPrefix("http://"),
            url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }), !url.contains("?"),
            !url.contains("#"), !url.contains("@")
        else {
            throw NamingError(
                .malformed, "'\(url)' is no name server: the URL must have no query and no user")
        }
        address = url
        do throws(HTTPError) {
            http = try HTTPClient(configuration)
        } catch {
            throw NamingError(error)
        }
    }

    public func texts(
        of name: DNSName, deadline: Int64, cancellation: Cancellation?
    ) throws(NamingError) -> DNSAnswer {
        let question = DNSMessage.question(name, id: 0)
        var request = HTTPRequest(
            .get, "\(address)?dns=\(Multibase.base64url.encodeWithoutPrefix(question))")
        request.headers.append("Accept", Self.type)
        request.acceptedStatuses = 200...200
        request.replyBytesMax = DNSMessage.byteCountMax
        request.limits.deadline = deadline
        request.cancellation = cancellation
        let reply: HTTPReply
        do throws(HTTPError) {
            reply = try http.send(request)
        } catch {
            throw NamingError(error)
        }
        guard reply.status == 200 else {
            throw NamingError(
                .failed, "\(address) answers for \(name) with HTTP status \(reply.status)")
        }
        let type = (reply.headers["Content-Type"] ?? "").prefix { $0 != ";" && $0 != " " }
        guard type.lowercased() == Self.type else {
            throw NamingError(.malformed, "\(address) is no name server: it answers \(type)")
        }
        var message: DNSMessage
        do throws(DNSMessageError) {
            message = try DNSMessage(decoding: reply.body, answering: name)
            guard message.id == 0, !message.isTruncated else { throw .notTheAnswer }
        } catch {
            throw NamingError(.malformed, "\(address) sends no answer for \(name): \(error)")
        }
        message.age(bySeconds: reply.headers["Age"].flatMap { UInt32($0) } ?? 0)
        return try message.answer(to: name, from: address)
    }
}

extension DNSMessage {
    /// Takes time off all times to live.
    fileprivate mutating func age(bySeconds seconds: UInt32) {
        for index in answers.indices {
            let ttl = answers[index].ttlSeconds
            answers[index].ttlSeconds = ttl > seconds ? ttl - seconds : 0
        }
    }
}
