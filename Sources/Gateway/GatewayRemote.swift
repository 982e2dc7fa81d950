public import Base
internal import HTTP
internal import MerkleDAG
internal import Multiformats
public import Remotes

/// A trustless HTTP gateway as a remote: raw blocks, and archives of whole files and directories.
///
/// Nothing that it says is believed but bytes that have the hash of their CID: not its headers, not the roots
/// or the order of an archive, not that it lacks something (which is this remote's word only). Nothing is sent
/// to it but paths and the name of the program.
///
/// Nothing is tried again here: whoever asks has others to ask (`SourceSet`), or waits.
///
/// Source: https://specs.ipfs.tech/http-gateways/trustless-gateway
public final class GatewayRemote: RemoteTrees {
    /// The most redirects that are followed for one request; none of them is from https to http.
    public static let redirectsMax = 5

    private let configuration: GatewayConfiguration
    let http: HTTPClient
    private let admission: GatewayAdmission

    /// Makes a remote. Nothing is sent yet. From the first request over https on, the process ignores SIGPIPE
    /// (`HTTPClient`).
    ///
    /// - Throws: `failed` where libcurl cannot be initialised.
    public init(_ configuration: GatewayConfiguration) throws(RemoteError) {
        self.configuration = configuration
        let requestsMax = max(2, configuration.requestsMax)
        admission = GatewayAdmission(requestsMax: requestsMax)
        var transport = HTTPConfiguration()
        transport.userAgent = configuration.userAgent
        transport.server = "the gateway"
        // Who may ask is decided here, so that no request waits for another there.
        transport.connectionsMax = requestsMax
        transport.idleConnectionsMax = requestsMax
        transport.environment = configuration.environment
        do throws(HTTPError) {
            http = try HTTPClient(transport)
        } catch {
            throw RemoteError(.failed, "\(configuration.url): \(error.message)")
        }
    }

    public var address: String { "\(configuration.url)" }

    public func block(
        _ request: BlockRequest, memory: ReplyMemory?
    ) throws(RemoteError) -> [UInt8] {
        let cid = request.cid
        var ask = GatewayAsk(
            cid, query: "format=raw", accept: "application/vnd.ipld.raw",
            asksPeers: request.asksPeers, deadlineMilliseconds: request.deadlineMilliseconds)
        ask.cancellation = request.cancellation
        ask.user = request.user
        if ask.cancellation?.isCancelled ?? false {
            throw error(.cancelled, of: ask, "cancelled")
        }
        if cid.multihash.code == .identity { return cid.multihash.digest }
        let reply = try admitted(ask) { (http) throws(RemoteError) -> HTTPReply in
            var request = self.request(ask)
            request.replyBytesMax = DAGNode.blockSizeMax
            request.memory = memory
            do throws(HTTPError) {
                return try http.send(request)
            } catch {
                throw self.error(error, of: ask)
            }
        }
        guard reply.status == 200 else {
            defer { memory?.keep(reply.body) }
            throw error(reply, of: ask)
        }
        do throws(MultihashError) {
            try reply.body.withBytes { (raw) throws(MultihashError) in try cid.verify(raw) }
        } catch {
            defer { memory?.keep(reply.body) }
            switch error {
            case .unsupportedFunction(let code):
                throw self.error(.refused, of: ask, "the hash function \(code) is not known here")
            default: throw otherBytes(reply, of: ask)
            }
        }
        return reply.body
    }

    // MARK: Requests

    /// Runs a body that makes the request, when one more may be made.
    func admitted<Result, Failure: Error>(
        _ ask: GatewayAsk, orElse wrap: (RemoteError) -> Failure,
        _ body: (HTTPClient) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        do throws(GatewayAdmission.Refusal) {
            try admission.enter(
                isSearch: ask.asksPeers, for: ask.user, ask.cancellation, deadline: ask.deadline)
        } catch {
            switch error {
            case .cancelled: throw wrap(self.error(.cancelled, of: ask, "cancelled"))
            case .timeout:
                throw wrap(
                    self.error(
                        .timeout, of: ask, "no connection became free within the request's time"))
            }
        }
        defer { admission.leave(isSearch: ask.asksPeers, for: ask.user) }
        return try body(http)
    }

    private func admitted<Result>(
        _ ask: GatewayAsk, _ body: (HTTPClient) throws(RemoteError) -> Result
    ) throws(RemoteError) -> Result {
        try admitted(ask, orElse: { $0 }, body)
    }

    func request(_ ask: GatewayAsk) -> HTTPRequest {
        let url = configuration.url
        var request = HTTPRequest(
            .get, "\(url.base)/ipfs/\(ask.cid)?\(ask.query)",
            route: HTTPRoute(
                isDirect: url.isLocal, isPublicOnly: configuration.isPublicOnly))
        request.headers.append("Accept", ask.accept)
        // Without this a server may choose any coding (RFC 9110, section 12.5.3).
        request.headers.append("Accept-Encoding", "identity")
        // A gateway that knows this asks nobody for what it lacks: 412, or 504 by RFC 9111, section 5.2.1.7.
        if !ask.asksPeers { request.headers.append("Cache-Control", "only-if-cached") }
        request.acceptedStatuses = 200...200
        request.redirectsMax = Self.redirectsMax
        // What came is compared with hashes, so nothing has to be known of its end.
        request.takesUnknownEnd = true
        request.cancellation = ask.cancellation
        request.limits.connectMilliseconds = configuration.connectMilliseconds
        request.limits.firstByteMilliseconds =
            ask.asksPeers ? ask.deadlineMilliseconds : configuration.firstByteMilliseconds
        request.limits.stallMilliseconds = configuration.stallMilliseconds
        request.limits.deadline = ask.deadline
        return request
    }

    // MARK: Errors

    func error(_ kind: RemoteError.Kind, of ask: GatewayAsk, _ what: String) -> RemoteError {
        RemoteError(kind, "\(address): \(ask.cid): \(oneLine(what)) (\(kind.rawValue))")
    }

    /// What a failure on the way to the gateway means.
    func error(_ error: HTTPError, of ask: GatewayAsk) -> RemoteError {
        switch error.kind {
        case .tooLarge:
            self.error(
                .wrongBytes, of: ask,
                "the gateway sent more than the \(DAGNode.blockSizeMax) bytes of the largest block")
        case .offline: self.error(.unreachable, of: ask, error.message)
        case .timeout: self.error(.timeout, of: ask, error.message)
        case .cancelled: self.error(.cancelled, of: ask, error.message)
        case .untrusted: self.error(.refused, of: ask, error.message)
        case .protocolViolation, .invalidRequest, .failed:
            self.error(.failed, of: ask, error.message)
        }
    }

    /// What a reply means that should be the block, and is not.
    private func otherBytes(_ reply: HTTPReply, of ask: GatewayAsk) -> RemoteError {
        // Boxo tells so where it has no room for another status any more.
        if let text = reply.trailers["X-Stream-Error"] { return error(.failed, of: ask, text) }
        if let coding = reply.headers["Content-Encoding"], coding.lowercased() != "identity" {
            // The block may be in it: a proxy that does not do what it is asked, and no lie.
            return error(
                .failed, of: ask,
                "the gateway encoded the block (\(coding)), which it was not to do")
        }
        let type = reply.headers["Content-Type"] ?? "no type"
        // A reply that ends with its connection may as well have been cut off.
        return error(
            reply.isDelimited ? .wrongBytes : .unreachable, of: ask,
            "the gateway gave \(reply.body.count) bytes (\(type)) that are not this block")
    }

    /// What a reply means that has no block in it.
    func error(_ reply: HTTPReply, of ask: GatewayAsk) -> RemoteError {
        let text = String(decoding: reply.body.prefix(300), as: UTF8.self)
        let kind = GatewayStatus.kind(reply.status, text, isOnlyIfCached: !ask.asksPeers)
        var words = "status \(reply.status)"
        let type = reply.headers["Content-Type"] ?? ""
        // A page is for people with a browser.
        if type.contains("html") {
            words += " with a page (\(type))"
        } else if (300...399).contains(reply.status) {
            words +=
                ", a redirect that is not followed: \(reply.headers["Location"] ?? "to nowhere")"
        } else if !text.isEmpty {
            words += ": \(text)"
        }
        var error = error(kind, of: ask, words)
        if kind == .busy, let value = reply.headers["Retry-After"],
            let wait = RetryAfter.milliseconds(value, now: Timestamp.now().seconds)
        {
            error.notBefore = MonotonicClock.milliseconds + wait
        }
        return error
    }
}

/// One question to the gateway.
struct GatewayAsk {
    let cid: CID
    /// Without the `?`.
    let query: String
    let accept: String
    let asksPeers: Bool
    let deadlineMilliseconds: Int
    /// By `MonotonicClock.milliseconds`.
    let deadline: Int64
    var cancellation: Cancellation?
    var user: UInt32?

    init(
        _ cid: CID, query: String, accept: String, asksPeers: Bool, deadlineMilliseconds: Int
    ) {
        self.cid = cid
        self.query = query
        self.accept = accept
        self.asksPeers = asksPeers
        self.deadlineMilliseconds = min(max(0, deadlineMilliseconds), Int(Int32.max))
        deadline = MonotonicClock.milliseconds + Int64(self.deadlineMilliseconds)
    }
}

/// What the status of a reply means.
enum GatewayStatus {
    /// - Parameters:
    ///   - text: the begin of the reply's body.
    ///   - isOnlyIfCached: whether the gateway was asked for what it has, and no more.
    static func kind(_ status: Int, _ text: String, isOnlyIfCached: Bool) -> RemoteError.Kind {
        switch status {
        // Also what is withheld: to others it may be there.
        case 404, 410, 451: .notFound
        case 412: .notFound
        case 504 where isOnlyIfCached: .notFound
        // 524 is Cloudflare's word for 504.
        case 408, 504, 524: .timeout
        case 429, 503: .busy
        case 500 where saysNotFound(text): .notFound
        case 501: .refused
        case 500...599: .failed
        default: .refused
        }
    }

    /// Whether the text of an error is of a block that the gateway lacks. Those that are made of Kubo's library have
    /// said "could not find" and "not found locally".
    private static func saysNotFound(_ text: String) -> Bool {
        let text = text.lowercased()
        return ["could not find", "not found locally", "block not found"].contains {
            text.contains($0)
        }
    }
}
