public import Base
internal import FoundationEssentials
internal import HTTP

// IPNS records of names. Nothing of a record is looked at here: whoever asks checks it.
//
// Kubo 0.40 and later take and give records by `name/put` and `name/get`; the ones before by `routing/put` and
// `routing/get`, whose value is base64 in a line of JSON of type 5.
extension KuboClient {
    /// The most bytes that a record may have. Source: https://specs.ipfs.tech/ipns/ipns-record/.
    public static let recordBytesMax = 10_240
    /// Events of the search, with the addresses of peers.
    private static let eventsBytesMax = 4 << 20

    /// Gives the record that the node, or a peer of it, has of a name. Tried again.
    ///
    /// - Parameters:
    ///   - name: the text of an IPNS name.
    ///   - isOffline: the node asks no peers.
    ///   - deadlineMilliseconds: the limit for all of it.
    /// - Throws: `notFound` where nobody has one.
    public func record(
        of name: String, isOffline: Bool = false, deadlineMilliseconds: Int,
        cancellation: Cancellation? = nil
    ) throws(KuboError) -> [UInt8] {
        func prepared(_ command: String, _ argument: String) -> Call {
            var call = Call(command, .harmless, subject: name)
            call.add(argument: argument)
            if isOffline { call.add("offline", true) }
            call.asksPeers = !isOffline
            call.limit(toMilliseconds: deadlineMilliseconds)
            call.isLongWork = true
            call.cancellation = cancellation
            return call
        }
        do throws(KuboError) {
            var call = prepared("name/get", name)
            call.replyBytesMax = Self.recordBytesMax
            return try perform(call)
        } catch {
            guard error.isUnknownCommand else { throw error }
        }
        var call = prepared("routing/get", "/ipns/" + name)
        call.replyBytesMax = Self.eventsBytesMax
        for event in try call.decodeLines(RoutingEvent.self, from: perform(call)) {
            guard event.kind == RoutingEvent.value, let text = event.extra, !text.isEmpty else {
                continue
            }
            guard let record = Data(base64Encoded: text), record.count <= Self.recordBytesMax else {
                throw call.error(.protocolViolation, "the value is no record")
            }
            return Array(record)
        }
        throw call.error(.notFound, "the node finds no record")
    }

    /// Hands the node a record, which it checks, keeps, and gives to its peers where it has any. Not tried
    /// again where the node may have taken it; to hand it over once more is harmless.
    ///
    /// - Parameters:
    ///   - name: the text of an IPNS name.
    ///   - deadlineMilliseconds: the limit for all of it.
    /// - Throws: `conflict` where the node has a later record.
    public func putRecord(
        _ record: [UInt8], of name: String, deadlineMilliseconds: Int,
        cancellation: Cancellation? = nil
    ) throws(KuboError) {
        precondition(record.count <= Self.recordBytesMax, "no record is as long")
        func put(_ command: String, _ argument: String) throws(KuboError) {
            var call = Call(command, .onlyUnsent, subject: name)
            call.add(argument: argument)
            // Without peers the node would keep nothing.
            call.add("allow-offline", true)
            call.limit(toMilliseconds: deadlineMilliseconds)
            call.isLongWork = true
            call.cancellation = cancellation
            call.replyBytesMax = Self.eventsBytesMax
            let multipart = Multipart()
            call.isUpload = true
            call.contentType = multipart.contentType
            call.body = [multipart.head(name: "file", filename: "record"), record, multipart.end]
            _ = try perform(call)
        }
        do throws(KuboError) {
            try put("name/put", name)
        } catch {
            guard error.isUnknownCommand else { throw error }
            try put("routing/put", "/ipns/" + name)
        }
    }
}

extension KuboError {
    /// What the node's HTTP server says of a command that it does not have.
    fileprivate var isUnknownCommand: Bool {
        kind == .refused && message == "404 page not found"
    }
}

/// A line of `routing/get`. Source: core/commands/routing.go of Kubo.
private struct RoutingEvent: Decodable {
    static let value = 5

    var kind: Int
    var extra: String?

    private enum CodingKeys: String, CodingKey {
        case kind = "Type"
        case extra = "Extra"
    }
}
