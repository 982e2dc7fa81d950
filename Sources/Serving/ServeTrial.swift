internal import Base
internal import HTTPTypes
internal import Naming

/// A place to try what the handlers make of requests and files that may be anything: for the fuzz target, which is a package of
/// its own.
///
/// Traps where an answer is none that a healthy server gives: a status that no handler has, a body of another length than was said,
/// a refusal of the registry that is no JSON.
public struct ServeTrial: Sendable {
    /// Who answers.
    public enum Face: Sendable, CaseIterable {
        /// All handlers, blocks and archives alone behind `/ipfs`.
        case blocks
        /// All handlers, with files as they are.
        case files
        /// A host of its own, whose `_redirects` counts.
        case site
    }

    /// More than any answer has of what a trial serves, in bytes.
    public static let bodyBytesMax = 4 << 20

    /// Nothing is wrong with what is served, so there is no 502, 503 or 504, and 500 only of a `_redirects` that cannot be read.
    private static let statuses: Set<Int> = [
        200, 204, 206, 301, 302, 303, 304, 307, 308, 400, 404, 405, 406, 410, 412, 416, 422, 451,
        500, 501,
    ]

    private let handlers: [Face: any RequestHandler]

    /// - Parameters:
    ///   - content: what is served, in the scope of its tree.
    ///   - peer: the text of a key's name.
    /// - Throws: where the name is none.
    public init(content: any ServedContent, peer: String) throws {
        var options = ServeOptions(peer: try IPNSName(peer))
        options.addresses = [try ProviderAddress(baseURL: "https://gateway.example")]
        let blocks = ServeRouter(content: content, options) { _ in }
        options.isDeserialized = true
        let trustless = TrustlessGateway(content: content, scope: options.scope)
        handlers = [
            .blocks: blocks, .files: ServeRouter(content: content, options) { _ in },
            .site: PathGateway(
                content: content, scope: options.scope, names: nil, trustless: trustless,
                redirects: true),
        ]
    }

    /// Has a request answered, and its body made to the end.
    ///
    /// - Parameter text: a line of method and target, and one for each field: its name, a colon, its value. What is no field is
    ///   left out, as by a server that reads the head.
    /// - Returns: nil for what is no request.
    public func answer(_ text: [UInt8], by face: Face) -> (status: Int, body: [UInt8])? {
        guard let request = Self.request(text), let handler = handlers[face] else { return nil }
        let response = handler.respond(to: request)
        let isRegistry = face != .site && request.names.first == Array("v2".utf8)
        precondition(Self.statuses.contains(response.status), "no handler has this status")
        precondition(response.status != 500 || face == .site, "nothing failed")
        guard request.method != .head else {
            precondition(response.status != 206, "ranges are of GET")
            return (response.status, [])
        }
        let body = Self.bytes(of: response.body)
        precondition(response.status != 304 || body.isEmpty, "what did not change has no body")
        // 412 is of HTTP, and has no body.
        if isRegistry, response.status >= 400, response.status != 412 {
            var reader = JSONReader(body)
            precondition((try? reader.skipValue()) != nil && reader.isAtEnd(), "errors are JSON")
        }
        return (response.status, body)
    }

    /// Nil for what no server would give to a handler.
    private static func request(_ text: [UInt8]) -> ServeRequest? {
        let lines = text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        let words = (lines.first ?? []).split(
            separator: UInt8(ascii: " "), maxSplits: 1, omittingEmptySubsequences: false)
        guard words.count == 2,
            let method = HTTPRequest.Method(String(decoding: words[0], as: UTF8.self))
        else { return nil }
        var fields = HTTPFields()
        for line in lines.dropFirst() {
            let sides = line.split(
                separator: UInt8(ascii: ":"), maxSplits: 1, omittingEmptySubsequences: false)
            guard sides.count == 2,
                let name = HTTPField.Name(String(decoding: sides[0], as: UTF8.self))
            else { continue }
            let value = sides[1].drop { $0 == UInt8(ascii: " ") }
            fields.append(HTTPField(name: name, value: String(decoding: value, as: UTF8.self)))
        }
        return ServeRequest(
            method: method, target: String(decoding: words[1], as: UTF8.self), fields: fields)
    }

    private static func bytes(of body: ServeBody) -> [UInt8] {
        var bytes: [UInt8] = []
        func take(_ piece: BytesPlace) {
            guard let read = try? piece.read() else { preconditionFailure("it is in memory") }
            bytes += read
            precondition(bytes.count <= bodyBytesMax, "this is more than there is")
        }
        switch body {
        case .none: break
        case .pieces(let pieces): for piece in pieces { take(piece) }
        case .producer(let producer, _):
            do throws(ServeFault) {
                while let piece = try producer.next() {
                    precondition(piece.count > 0, "an empty piece would end a chunked answer")
                    take(piece)
                }
            } catch {
                // An archive is cut off where a block is missing or not in scope; what has a length has all its bytes.
                precondition(body.count == nil, "what was promised comes")
            }
        }
        precondition(body.count ?? UInt64(bytes.count) == UInt64(bytes.count))
        return bytes
    }

    // MARK: What is read beside requests

    /// Reads bytes as a manifest, a `_redirects` file, a file whose type is asked, and the value of Range.
    public static func read(_ bytes: [UInt8]) {
        if ManifestFields(bytes) != nil {
            var reader = JSONReader(bytes)
            precondition((try? reader.skipValue()) != nil, "what was read is JSON")
        }
        precondition(TypeSniffer.type(of: bytes).contains("/"), "a type has two parts")
        if let rules = try? Redirects(bytes) {
            for path in ["", "a", "a/b", "a/b/c.html"] {
                _ = rules.answer(to: path.split(separator: "/").map { Array($0.utf8) })
            }
        }
        for size in [0, 1, 1_000, UInt64.max] {
            let text = String(decoding: bytes, as: UTF8.self)
            guard case .ranges(let ranges) = ByteRanges.parse(text, size: size) else { continue }
            precondition((1...ByteRanges.countMax).contains(ranges.count))
            let sorted = ranges.sorted { $0.lowerBound < $1.lowerBound }
            precondition(sorted.allSatisfy { !$0.isEmpty && $0.upperBound <= size })
            precondition(
                zip(sorted, sorted.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound },
                "no byte is sent twice")
        }
    }
}
