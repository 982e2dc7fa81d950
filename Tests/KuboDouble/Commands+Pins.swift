internal import MerkleDAG
internal import Multiformats

extension Commands {
    private static let nameMax = 255

    static let pins: [String: Command] = [
        "pin/add": Command(
            arguments: ["ipfs-path"],
            options: ["recursive": .bool, "name": .text, "progress": .bool]
        ) { (call) throws(Halt) in try add(call) },
        "pin/rm": Command(arguments: ["ipfs-path"], options: ["recursive": .bool]) {
            (call) throws(Halt) in
            var removed: [JSON] = []
            for argument in call.arguments {
                let cid = try call.resolve(argument).cid
                guard let pin = call.node.pin(cid) else {
                    throw .failed("not pinned or pinned indirectly")
                }
                guard !pin.isRecursive || call.isSet("recursive", default: true) else {
                    throw .failed("\(cid) is pinned recursively")
                }
                try call.node.removePin(cid)
                removed.append(.string(call.text(cid)))
            }
            try call.reply.emitOnce(.object([("Pins", .array(removed))]))
        },
        "pin/ls": Command(options: [
            "type": .text, "quiet": .bool, "name": .text, "names": .bool, "stream": .bool,
        ]) { (call) throws(Halt) in try list(call) },
        "pin/update": Command(arguments: ["from-path", "to-path"], options: ["unpin": .bool]) {
            (call) throws(Halt) in try update(call)
        },
        "pin/verify": Command(options: ["verbose": .bool, "quiet": .bool]) {
            (call) throws(Halt) in try verify(call)
        },
        "pin/remote/service/ls": Command { (call) throws(Halt) in
            try call.reply.emitOnce(.object([("RemoteServices", .array([]))]))
        },
        "pin/remote/add": Command(arguments: ["ipfs-path"]) { (call) throws(Halt) in
            _ = try call.resolve(call.arguments[0])
            throw .failed("service not known")
        },
    ]

    private static func prefixed<Result>(
        _ prefix: String, _ body: () throws(Halt) -> Result
    ) throws(Halt) -> Result {
        do throws(Halt) {
            return try body()
        } catch .error(let error) {
            throw .failed(prefix + error.message)
        } catch {
            throw error
        }
    }

    private static func checkName(_ name: String) throws(Halt) {
        guard name.utf8.count <= nameMax else {
            throw .failed("pin name is \(name.utf8.count) bytes (max \(nameMax) bytes)")
        }
    }

    private static func add(_ call: Call) throws(Halt) {
        let name = call.text("name") ?? ""
        try checkName(name)
        let isRecursive = call.isSet("recursive", default: true)
        var added: [JSON] = []
        var (blockCount, byteCount) = (Int64(0), Int64(0))
        func tell() throws(Halt) {
            guard call.isSet("progress") else { return }
            try call.reply.emit(
                .object([("Progress", .integer(blockCount)), ("Bytes", .integer(byteCount))]))
        }
        for argument in call.arguments {
            let cid = try call.resolve(argument).cid
            try prefixed("pin: ") { () throws(Halt) in
                _ = try call.block(cid)
                if isRecursive {
                    try call.walk(cid, isPinning: true, eachHalfSecond: tell) {
                        (_, block) throws(Halt) in
                        blockCount += 1
                        byteCount += Int64(block.count)
                    }
                } else if call.node.pin(cid)?.isRecursive == true {
                    throw .failed("\(cid) already pinned recursively")
                }
            }
            try call.node.setPin(Pin(cid: cid, isRecursive: isRecursive, name: name))
            added.append(.string(call.text(cid)))
        }
        let value = JSON.object([("Pins", .array(added))])
        if call.isSet("progress") {
            if blockCount > 0 { try tell() }
            try call.reply.emit(value)
        } else {
            try call.reply.emitOnce(value)
        }
    }

    /// Pins what an archive brought; what of it is not here is waited for.
    ///
    /// - Returns: why not, or nothing.
    static func pinHere(_ root: CID, _ call: Call) throws(Halt) -> String {
        guard root.multihash.code == .identity || call.node.blocks.contains(root.multihash) else {
            return "ipld: could not find \(root)"
        }
        do throws(Halt) {
            try call.walk(root, isPinning: true) { (_, _) throws(Halt) in }
        } catch .error(let error) {
            return error.message
        } catch {
            throw error
        }
        try call.node.setPin(Pin(cid: root, isRecursive: true, name: ""))
        return ""
    }

    private static func list(_ call: Call) throws(Halt) {
        let type = call.text("type") ?? "all"
        guard ["all", "direct", "indirect", "recursive"].contains(type) else {
            throw .failed(
                "invalid type '\(type)', must be one of {direct, indirect, recursive, all}")
        }
        let filter = call.text("name") ?? ""
        let hasNames = call.isSet("names") || !filter.isEmpty
        let found =
            call.arguments.isEmpty
            ? try all(type, filter, call) : try some(type, call)
        func members(_ pin: (cid: CID, type: String, name: String)) -> [(String, JSON)] {
            [("Type", .string(pin.type)), ("Name", .string(hasNames ? pin.name : ""))]
        }
        if call.isSet("stream") {
            for pin in found {
                var object = [("Cid", JSON.string(call.text(pin.cid)))]
                if hasNames, !pin.name.isEmpty { object.append(("Name", .string(pin.name))) }
                object.append(("Type", .string(pin.type)))
                try call.reply.emit(.object(object))
            }
            return
        }
        // Go sorts the keys of maps.
        let keys = found.map { (call.text($0.cid), JSON.object(members($0))) }
            .sorted { $0.0 < $1.0 }
        try call.reply.emitOnce(.object(keys.isEmpty ? [] : [("Keys", .object(keys))]))
    }

    private static func some(
        _ type: String, _ call: Call
    ) throws(Halt) -> [(cid: CID, type: String, name: String)] {
        var found: [(cid: CID, type: String, name: String)] = []
        for argument in call.arguments {
            let cid = try call.resolve(argument).cid
            if let pin = call.node.pin(cid), type == "all" || type == pin.type {
                found.append((cid, pin.type, pin.name))
                continue
            }
            var via: CID?
            if type == "all" || type == "indirect" {
                for pin in call.node.pins where pin.isRecursive && via == nil {
                    if try below(pin.cid, call).contains(cid) { via = pin.cid }
                }
            }
            guard let via else {
                let text = String(decoding: argument, as: UTF8.self)
                throw .failed("path '\(text)' is not pinned")
            }
            found.append((cid, "indirect through " + call.text(via), ""))
        }
        return found
    }

    private static func all(
        _ type: String, _ filter: String, _ call: Call
    ) throws(Halt) -> [(cid: CID, type: String, name: String)] {
        let pins = call.node.pins
        var found: [(cid: CID, type: String, name: String)] = []
        for isRecursive in [true, false]
        where type == "all" || type == (isRecursive ? "recursive" : "direct") {
            for pin in pins where pin.isRecursive == isRecursive {
                found.append((pin.cid, pin.type, pin.name))
            }
        }
        if type == "all" || type == "indirect" {
            var seen = Set(pins.map(\.cid))
            for pin in pins where pin.isRecursive {
                for cid in try below(pin.cid, call).sorted() where seen.insert(cid).inserted {
                    found.append((cid, "indirect", ""))
                }
            }
        }
        return found.filter { filter.isEmpty || $0.name.contains(filter) }
    }

    private static func update(_ call: Call) throws(Halt) {
        let from = try call.resolve(call.arguments[0]).cid
        let to = try call.resolve(call.arguments[1]).cid
        guard let pin = call.node.pin(from), pin.isRecursive else {
            throw .failed("'from' cid was not recursively pinned already")
        }
        if from != to {
            guard call.node.pin(to)?.isRecursive != true else {
                throw .failed("'to' cid was already recursively pinned")
            }
            try fetchDifference(from, to, call)
            try call.node.setPin(Pin(cid: to, isRecursive: true, name: pin.name))
            if call.isSet("unpin", default: true) { try call.node.removePin(from) }
        }
        try call.reply.emitOnce(
            .object([("Pins", .array([.string(call.text(from)), .string(call.text(to))]))]))
    }

    /// Looks at what `to` has and `from` has not; what both have is taken to be here.
    private static func fetchDifference(_ from: CID, _ to: CID, _ call: Call) throws(Halt) {
        let before = try prefixed("get \(from): ") { () throws(Halt) in
            try call.links(from, isPinning: true)
        }
        let after = try prefixed("get \(to): ") { () throws(Halt) in
            try call.links(to, isPinning: true)
        }
        let afterCIDs = Set(after.map(\.cid))
        let beforeCIDs = Set(before.map(\.cid))
        // Gone links are taken for the old forms of new ones, one by one.
        var gone = before.map(\.cid).filter { !afterCIDs.contains($0) }[...]
        var seen = Set(gone)
        for link in after where !beforeCIDs.contains(link.cid) {
            if let old = gone.popFirst() {
                try fetchDifference(old, link.cid, call)
            } else if !seen.contains(link.cid) {
                try call.walk(link.cid, isPinning: true) { (cid, _) throws(Halt) in
                    seen.insert(cid)
                }
            }
        }
    }

    private static func verify(_ call: Call) throws(Halt) {
        for pin in call.node.pins where pin.isRecursive {
            let missing = ([pin.cid] + (try below(pin.cid, call)).sorted()).filter {
                $0.multihash.code != .identity && !call.node.blocks.contains($0.multihash)
            }
            let bad = missing.map { cid in
                JSON.object([
                    ("Cid", .string(call.text(cid))),
                    (
                        "Err",
                        .string(
                            "block was not found locally (offline): ipld: could not find \(cid)")
                    ),
                ])
            }
            if !bad.isEmpty || call.isSet("verbose") {
                var members: [(String, JSON)] = [
                    ("Cid", .string(call.text(pin.cid))), ("Ok", .bool(bad.isEmpty)),
                ]
                if !bad.isEmpty { members.append(("BadNodes", .array(bad))) }
                try call.reply.emit(.object(members))
            }
        }
    }
}
