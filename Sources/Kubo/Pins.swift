public import Base
public import Multiformats

/// A pin of a node.
public struct KuboPin: Sendable, Hashable {
    /// What a pin covers.
    public enum Kind: String, Sendable {
        /// The block alone.
        case direct
        /// The block and all below it.
        case recursive
        /// Nothing of its own: it is below a recursive one.
        case indirect
    }

    public var cid: CID
    public var kind: Kind
    public var name: String?

    public init(cid: CID, kind: Kind, name: String?) {
        self.cid = cid
        self.kind = kind
        self.name = name
    }
}

extension KuboClient {
    /// Pins a DAG. Tried again where nothing of an answer came.
    ///
    /// It may take as long as it takes to read all of the DAG, as long as the node goes on, which tells twice
    /// a second how many blocks it has come to; `pinMilliseconds` of the configuration at the most.
    ///
    /// - Parameters:
    ///   - name: at most 255 bytes.
    ///   - isRecursive: everything below it too; the node walks all of that.
    ///   - isOffline: the node asks no peers for the root. A node with peers looks for what is
    ///     missing below it all the same (seen of 0.42), without an end.
    ///   - stallMilliseconds: the limit of the time from one block to the next; nil for
    ///     `workMilliseconds`.
    /// - Throws: `notFound` or `timeout` where blocks are missing.
    public func pinAdd(
        _ cid: CID, name: String? = nil, isRecursive: Bool = true, isOffline: Bool = false,
        stallMilliseconds: Int? = nil, cancellation: Cancellation? = nil
    ) throws(KuboError) {
        var call = Call("pin/add", .harmless, subject: "\(cid)")
        call.add(argument: "\(cid)")
        call.add("progress", true)
        if let name { call.add("name", name) }
        if !isRecursive { call.add("recursive", false) }
        if isOffline { call.add("offline", true) }
        call.isLongWork = true
        call.attemptMilliseconds = configuration.pinMilliseconds
        call.cancellation = cancellation
        let stall = Int64(stallMilliseconds ?? configuration.workMilliseconds)
        var lines = LineSplitter()
        var pins: [String]?
        var (blockCount, countedAt) = (Int64(-1), MonotonicClock.milliseconds)
        do throws(KuboStreamError<KuboError>) {
            try download(call) { (piece) throws(KuboError) in
                for line in try lines.take(piece, of: call) {
                    let reply = try call.decode(PinProgress.self, from: line)
                    pins = reply.Pins ?? pins
                    guard let count = reply.Progress else { continue }
                    if count != blockCount {
                        (blockCount, countedAt) = (count, MonotonicClock.milliseconds)
                    } else if MonotonicClock.milliseconds - countedAt > stall {
                        throw call.error(
                            .timeout, "no further block was found in \(stall) ms, after \(count)")
                    }
                }
            }
        } catch {
            switch error {
            case .kubo(let error), .source(let error): throw error
            }
        }
        try expect([cid], in: pins ?? [], of: call)
    }

    /// Pins one DAG in place of another, in one step; the node walks only what differs. The new pin
    /// has the old one's name. Not tried again.
    ///
    /// - Parameters:
    ///   - unpinsOld: whether the old pin ends.
    ///   - isOffline: see `pinAdd`; what is missing below is looked for until the deadline.
    ///   - deadlineMilliseconds: the limit for all of it; nil for `workMilliseconds`.
    /// - Throws: `notFound` where `old` is not pinned recursively; `conflict` where `new` is.
    public func pinUpdate(
        from old: CID, to new: CID, unpinsOld: Bool = true, isOffline: Bool = false,
        deadlineMilliseconds: Int? = nil, cancellation: Cancellation? = nil
    ) throws(KuboError) {
        var call = Call("pin/update", .onlyUnsent, subject: "\(new)")
        call.add(argument: "\(old)")
        call.add(argument: "\(new)")
        if !unpinsOld { call.add("unpin", false) }
        if isOffline { call.add("offline", true) }
        call.limit(toMilliseconds: deadlineMilliseconds)
        call.isLongWork = true
        call.cancellation = cancellation
        try expectPins([old, new], in: perform(call), of: call)
    }

    /// Ends a recursive pin. Not tried again.
    ///
    /// - Throws: `notFound` where there is none.
    public func pinRemove(_ cid: CID, cancellation: Cancellation? = nil) throws(KuboError) {
        var call = Call("pin/rm", .onlyUnsent, subject: "\(cid)")
        call.add(argument: "\(cid)")
        call.isLongWork = true
        call.cancellation = cancellation
        try expectPins([cid], in: perform(call), of: call)
    }

    /// Lists the recursive pins, all of them or those of exactly this name. Tried again.
    public func pins(
        named name: String? = nil, cancellation: Cancellation? = nil
    ) throws(KuboError) -> [KuboPin] {
        try pins(namesWith: name, cancellation: cancellation).filter { pin in
            name == nil || pin.name == name
        }
    }

    /// Lists the recursive pins, all of them or those that have some text in their names; older nodes give all. Tried again.
    public func pins(
        namesWith name: String?, cancellation: Cancellation? = nil
    ) throws(KuboError) -> [KuboPin] {
        var call = Call("pin/ls", .harmless, subject: name)
        call.add("type", "recursive")
        call.add("stream", true)
        call.add("names", true)
        // The node looks for the name anywhere in the names, and older ones do not know the option.
        if let name { call.add("name", name) }
        call.replyBytesMax = Call.listingBytesMax
        call.isLongWork = true
        call.cancellation = cancellation
        var pins: [KuboPin] = []
        for line in try call.decodeLines(PinLine.self, from: perform(call)) {
            let pinName = line.Name.flatMap { $0.isEmpty ? nil : $0 }
            pins.append(
                KuboPin(
                    cid: try call.cid(line.Cid), kind: try pinKind(line.Kind, of: call),
                    name: pinName))
        }
        return pins
    }

    /// Says how a CID is pinned; nil where it is not. Tried again.
    ///
    /// - Parameter kind: looks for such a pin alone. Where there may be any, the node goes through all
    ///   that is pinned before it says no.
    public func pin(
        of cid: CID, kind: KuboPin.Kind? = nil, cancellation: Cancellation? = nil
    ) throws(KuboError) -> KuboPin? {
        var call = Call("pin/ls", .harmless, subject: "\(cid)")
        call.add(argument: "\(cid)")
        if let kind { call.add("type", kind.rawValue) }
        call.add("names", true)
        call.isLongWork = true
        call.cancellation = cancellation
        do throws(KuboError) {
            let reply = try call.decode(PinKeys.self, from: perform(call))
            guard let found = reply.Keys.first(where: { matches($0.key, cid) })?.value else {
                throw call.error(.protocolViolation, "the node speaks of another pin")
            }
            return KuboPin(
                cid: cid, kind: try pinKind(found.Kind, of: call),
                name: found.Name.flatMap { $0.isEmpty ? nil : $0 })
        } catch {
            guard error.kind == .notFound else { throw error }
            return nil
        }
    }

    private func pinKind(_ text: String, of call: Call) throws(KuboError) -> KuboPin.Kind {
        // "indirect through CID" for a single one.
        guard let kind = KuboPin.Kind(rawValue: String(text.prefix { $0 != " " })) else {
            throw call.error(.protocolViolation, "the reply has a pin of an unknown kind")
        }
        return kind
    }

    private func expectPins(
        _ cids: [CID], in reply: [UInt8], of call: Call
    ) throws(KuboError) {
        try expect(cids, in: try call.decode(PinsReply.self, from: reply).Pins, of: call)
    }

    private func expect(_ cids: [CID], in pins: [String], of call: Call) throws(KuboError) {
        guard pins.count == cids.count, zip(pins, cids).allSatisfy({ matches($0, $1) }) else {
            throw call.error(.protocolViolation, "the node names other pins than were asked for")
        }
    }
}

private struct PinsReply: Decodable {
    var Pins: [String]
}

/// A line of `pin/add` that tells of its progress, or the last one.
private struct PinProgress: Decodable {
    var Progress: Int64?
    var Pins: [String]?
}

private struct PinLine: Decodable {
    var Cid: String
    var Kind: String
    var Name: String?

    private enum CodingKeys: String, CodingKey {
        case Cid, Name
        case Kind = "Type"
    }
}

private struct PinKeys: Decodable {
    struct Pin: Decodable {
        var Kind: String
        var Name: String?

        private enum CodingKeys: String, CodingKey {
            case Name
            case Kind = "Type"
        }
    }

    var Keys: [String: Pin]
}
