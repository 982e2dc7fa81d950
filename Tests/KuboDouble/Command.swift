internal import Foundation
internal import MerkleDAG
internal import Multiformats

/// What a command takes, and what it does.
struct Command {
    enum Option {
        case bool
        case integer
        case unsigned
        case text
    }

    /// The names of the positional arguments that must be there.
    var arguments: [String] = []
    /// The name of the file in the body, if it must be there.
    var file: String?
    var options: [String: Option] = [:]
    var run: @Sendable (Call) throws(Halt) -> Void
}

/// One call of a command. Belongs to the thread that runs it.
final class Call {
    let node: DoubleNode
    let name: String
    let arguments: [[UInt8]]
    let reply: Reply
    private let values: [String: String]
    private let exchange: Exchange
    private let faults: [Fault]
    private let deadline: Date?
    private let base: Multibase?
    private(set) var requestByteCount = 0
    private var multipart: MultipartReader?
    /// Whether missing blocks are not waited for.
    let isOffline: Bool

    /// Options that every command has.
    static let globalOptions: [String: Command.Option] = [
        "encoding": .text, "timeout": .text, "offline": .bool, "cid-base": .text,
        "stream-channels": .bool, "flush": .bool,
    ]

    /// - Throws: an error with status 400 where the query is no call of this command.
    init(
        _ command: Command, name: String, node: DoubleNode, exchange: Exchange, reply: Reply,
        faults: [Fault]
    ) throws(Halt) {
        self.node = node
        self.name = name
        self.exchange = exchange
        self.reply = reply
        self.faults = faults
        let target = exchange.head.target
        let query = target.firstIndex(of: "?").map { target[target.index(after: $0)...] } ?? ""
        var arguments: [[UInt8]] = []
        var values: [String: String] = [:]
        for pair in query.utf8.split(separator: UInt8(ascii: "&")) {
            let parts = pair.split(
                separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            let key = String(decoding: URLText.unescaped(Array(parts[0])), as: UTF8.self)
            let value = parts.count > 1 ? URLText.unescaped(Array(parts[1])) : []
            if key == "arg" {
                arguments.append(value)
            } else if let option = command.options[key] ?? Self.globalOptions[key] {
                if let first = values[key] {
                    let text = String(decoding: value, as: UTF8.self)
                    throw .error(
                        .badRequest(
                            "expected key \(key) to have only a single value, received "
                                + "[\(first) \(text)]"))
                }
                let text = String(decoding: value, as: UTF8.self)
                values[key] = try Self.checked(text, option, key)
            }
        }
        self.arguments = arguments
        self.values = values
        isOffline = node.isOffline || values["offline"] == "true"
        base = try values["cid-base"].map { (text) throws(Halt) in try Self.base(text) }
        deadline = try values["timeout"].map { (text) throws(Halt) in
            guard let seconds = Self.seconds(text) else {
                // A node answers this with nothing.
                var error = CommandError.badRequest("")
                (error.message, error.status) = ("", 200)
                throw .error(error)
            }
            return Date(timeIntervalSinceNow: seconds)
        }
        if arguments.count < command.arguments.count {
            let name = command.arguments[arguments.count]
            throw .error(.badRequest("argument \"\(name)\" is required"))
        }
        if let file = command.file {
            guard let boundary else {
                throw .error(.badRequest("file argument '\(file)' is required"))
            }
            multipart = MultipartReader(boundary: boundary) { [unowned self] () throws(Halt) in
                try self.nextPiece()
            }
        }
    }

    // MARK: Options

    func isSet(_ name: String, default: Bool = false) -> Bool {
        values[name].map { $0 == "true" } ?? `default`
    }

    func text(_ name: String) -> String? { values[name] }

    func integer(_ name: String) -> Int64? { values[name].flatMap { Int64($0) } }

    private static func checked(
        _ text: String, _ option: Command.Option, _ key: String
    ) throws(Halt) -> String {
        let type: String
        switch option {
        case .text: return text
        case .bool:
            if ["", "1", "t", "T", "true", "TRUE", "True"].contains(text) { return "true" }
            if ["0", "f", "F", "false", "FALSE", "False"].contains(text) { return "false" }
            type = "bool"
        case .integer:
            if let number = number(text) { return String(number) }
            type = "int64"
        case .unsigned:
            if let number = number(text), number >= 0 { return String(number) }
            type = "uint"
        }
        let message =
            "could not convert value \"\(text)\" to type \"\(type)\" (for option \"-\(key)\")"
        throw .error(.badRequest(message))
    }

    /// Go's base 0: a leading `0x` is hexadecimal, a leading 0 octal.
    private static func number(_ text: String) -> Int64? {
        if text.hasPrefix("0x") { return Int64(text.dropFirst(2), radix: 16) }
        if text.hasPrefix("0"), text.count > 1 { return Int64(text.dropFirst(1), radix: 8) }
        return Int64(text)
    }

    /// A duration as Go writes it: `2s`, `1m30s`, `500ms`.
    static func seconds(_ text: String) -> Double? {
        var sum = 0.0
        var rest = Substring(text)
        guard !rest.isEmpty else { return nil }
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isNumber || $0 == "." }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { !($0.isNumber || $0 == ".") }
            rest = rest.dropFirst(unit.count)
            let units = [
                "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600,
            ]
            guard let number = Double(digits), let factor = units[String(unit)] else { return nil }
            sum += number * factor
        }
        return sum
    }

    private static func base(_ text: String) throws(Halt) -> Multibase {
        switch text {
        case "base32", "b": return .base32
        case "base36", "k": return .base36
        case "base58btc", "z": return .base58btc
        case "base16", "f": return .base16
        case "base64url", "u": return .base64url
        default: throw .failed("unsupported multibase encoding: \(text)")
        }
    }

    /// A CID as this call wants it written.
    func text(_ cid: CID) -> String {
        guard let base else { return cid.description }
        if base == .base58btc, cid.version == 0 { return cid.description }
        return cid.encoded(in: base)
    }

    func argument(_ index: Int) -> String { String(decoding: arguments[index], as: UTF8.self) }

    // MARK: The body

    private var boundary: String? {
        guard let type = exchange.head.header("Content-Type"),
            type.hasPrefix("multipart/form-data"), let range = type.range(of: "boundary=")
        else { return nil }
        let text = type[range.upperBound...].prefix { $0 != ";" }
        return String(text.drop { $0 == "\"" }.prefix { $0 != "\"" })
    }

    private func nextPiece() throws(Halt) -> [UInt8]? {
        let piece = try exchange.nextBodyPiece()
        requestByteCount += piece?.count ?? 0
        for fault in faults where fault.kind == .cutRequest {
            guard requestByteCount < fault.value ?? 0 else {
                exchange.cut()
                throw .gone
            }
        }
        return piece
    }

    /// The next part of the body.
    func nextPart() throws(Halt) -> MultipartReader.Part? { try multipart?.nextPart() ?? nil }

    func readPart(limit: Int) throws(Halt) -> ArraySlice<UInt8> {
        try multipart?.readSome(limit: limit) ?? []
    }

    func readWholePart(limit: Int) throws(Halt) -> [UInt8] {
        try multipart?.readAll(limit: limit) ?? []
    }

    // MARK: Blocks

    /// Throws if nobody waits for the reply, or the call's time is over.
    func check() throws(Halt) {
        if exchange.isGone || node.isStopped { throw .gone }
        if let deadline, Date() >= deadline { throw .error(.expired) }
    }

    /// The block, waited for as long as the call may take.
    ///
    /// - Parameters:
    ///   - isPinning: pins wait also where the call says `offline`.
    ///   - eachHalfSecond: called so often while it is waited for.
    func block(
        _ cid: CID, isPinning: Bool = false, eachHalfSecond: () throws(Halt) -> Void = {}
    ) throws(Halt) -> [UInt8] {
        if cid.multihash.code == .identity { return cid.multihash.digest }
        while true {
            if let block = node.blocks.block(cid.multihash) { return block }
            guard isPinning ? !node.isOffline : !isOffline else { throw .error(.missing(cid)) }
            try wait(for: cid, until: deadline, eachHalfSecond: eachHalfSecond)
        }
    }

    private func wait(
        for cid: CID, until moment: Date?, eachHalfSecond: () throws(Halt) -> Void = {}
    ) throws(Halt) {
        while true {
            let soon = Date(timeIntervalSinceNow: 0.5)
            let next = moment.map { min($0, soon) } ?? soon
            let isThere = node.blocks.wait(for: cid.multihash, until: next) {
                exchange.isGone || node.isStopped
            }
            guard !isThere else { return }
            if exchange.isGone || node.isStopped { throw .gone }
            if let moment, Date() >= moment { throw .error(.expired) }
            try eachHalfSecond()
        }
    }

    /// Runs `body` on the MFS; when it stops at a block that is not here, waits for that with the
    /// MFS free for others, and runs it again.
    func withMFS<Result>(_ body: (MFSTree) throws(Halt) -> Result) throws(Halt) -> Result {
        // What MFS waits for has its own limit, whatever the call says.
        let moment = Date(timeIntervalSinceNow: node.mfsFetchSeconds)
        while true {
            do throws(Halt) {
                return try node.withMFS(body)
            } catch .missing(let cid) {
                guard !node.isOffline else { throw .error(.missing(cid)) }
                try wait(for: cid, until: moment)
            } catch {
                throw error
            }
        }
    }

    /// Blocks for the readers of MerkleDAG.
    var source: CallSource { CallSource(call: self) }

    /// What a reader's error means for the call.
    static func halt(_ error: DAGReadError) -> Halt {
        switch error {
        case .unavailable(let unavailable):
            return unavailable.cause as? Halt ?? .error(.missing(unavailable.cid))
        case .notFile: return .failed("this dag node is a directory")
        case .notDirectory(let cid): return .failed("\(cid) is not a directory")
        case .malformed(let cid, let reason): return .failed("\(cid): \(reason)")
        default: return .failed("\(error)")
        }
    }
}

struct CallSource: BlockSource {
    let call: Call

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        do throws(Halt) {
            return try call.block(cid)
        } catch {
            throw BlockUnavailable(cid, cause: error)
        }
    }
}
