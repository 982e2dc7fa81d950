internal import MerkleDAG
internal import Multiformats

extension Commands {
    /// What other nodes take, in bytes.
    private static let blockMax = 2 << 20
    private static let tooBig =
        "produced block is over 2MiB: big blocks can't be exchanged with other peers. consider "
        + "using UnixFS for automatic chunking of bigger files, or pass --allow-big-block to "
        + "override"

    static func checkSize(_ byteCount: Int, _ call: Call) throws(Halt) {
        guard byteCount <= blockMax || call.isSet("allow-big-block") else {
            throw .failed(tooBig)
        }
    }

    static let blocks: [String: Command] = [
        "block/put": Command(
            file: "data",
            options: [
                "cid-codec": .text, "format": .text, "mhtype": .text, "mhlen": .integer,
                "pin": .bool, "allow-big-block": .bool,
            ]
        ) { (call) throws(Halt) in try put(call) },
        "block/get": Command(arguments: ["cid"]) { (call) throws(Halt) in
            let cid = try call.resolve(call.arguments[0]).cid
            let block = try call.block(cid)
            try call.reply.startStream(type: "application/vnd.ipld.raw")
            try call.reply.write(block)
        },
        "block/stat": Command(arguments: ["cid"]) { (call) throws(Halt) in
            let cid = try call.resolve(call.arguments[0]).cid
            let block = try call.block(cid)
            try call.reply.emitOnce(
                .object([("Key", .string(call.text(cid))), ("Size", .integer(Int64(block.count)))]))
        },
        "block/rm": Command(arguments: ["cid"], options: ["force": .bool, "quiet": .bool]) {
            (call) throws(Halt) in try remove(call)
        },
    ]

    /// Stores a block that came in a request, and counts it.
    static func receive(_ multihash: Multihash, _ block: [UInt8], _ call: Call) throws(Halt) {
        let isNew = try call.node.blocks.put(multihash, block)
        call.node.switches.count(call.name) {
            $0.blocks += 1
            $0.blockBytes += block.count
            if !isNew { $0.knownBlocks += 1 }
        }
    }

    private static func put(_ call: Call) throws(Halt) {
        let hash = call.text("mhtype") ?? "sha2-256"
        guard hash == "sha2-256" else {
            throw .failed("unrecognized multihash function: \(hash)")
        }
        let codec = call.text("format") ?? call.text("cid-codec") ?? "raw"
        while try call.nextPart() != nil {
            let block = try call.readWholePart(limit: 1 << 30)
            let multihash = Multihash.sha256(of: block)
            let cid = try cid(multihash, codec: codec)
            // A block that is too big is refused, and stored nevertheless.
            try receive(multihash, block, call)
            if call.isSet("pin") {
                try call.node.setPin(Pin(cid: cid, isRecursive: true, name: ""))
            }
            try checkSize(block.count, call)
            try call.reply.emit(
                .object([("Key", .string(call.text(cid))), ("Size", .integer(Int64(block.count)))]))
        }
    }

    /// The CID of a block under the name of a codec.
    static func cid(_ multihash: Multihash, codec: String) throws(Halt) -> CID {
        switch codec {
        case "raw": return CID(codec: .raw, multihash: multihash)
        case "dag-pb", "protobuf": return CID.dagPB(multihash, version: 1)
        case "v0": return CID.dagPB(multihash, version: 0)
        case "dag-cbor", "cbor": return CID(codec: .dagCBOR, multihash: multihash)
        case "dag-json": return CID(codec: .dagJSON, multihash: multihash)
        default: throw .failed("unknown multicodec: \"\(codec)\"")
        }
    }

    private static func remove(_ call: Call) throws(Halt) {
        for argument in call.arguments {
            let cid = try call.resolve(argument).cid
            var members = [("Hash", JSON.string(call.text(cid)))]
            if let reason = try pinReason(cid, call) {
                members.append(("Error", .string(reason)))
            } else if call.node.blocks.contains(cid.multihash) {
                call.node.blocks.remove(cid.multihash)
            } else if !call.isSet("force") {
                members.append(("Error", .string("ipld: could not find \(cid)")))
            }
            if members.count > 1 || !call.isSet("quiet") { try call.reply.emit(.object(members)) }
        }
    }

    /// How a block is pinned, by its hash, whatever its CID.
    private static func pinReason(_ cid: CID, _ call: Call) throws(Halt) -> String? {
        let pins = call.node.pins
        if let pin = pins.first(where: { $0.cid.multihash == cid.multihash }) {
            return "pinned: " + pin.type
        }
        for pin in pins where pin.isRecursive {
            if try below(pin.cid, call).contains(where: { $0.multihash == cid.multihash }) {
                return "pinned via \(pin.cid)"
            }
        }
        return nil
    }

    /// What is below a root and here, without the root.
    static func below(_ root: CID, _ call: Call) throws(Halt) -> Set<CID> {
        var seen: Set<CID> = [root]
        var pending = [root]
        while let cid = pending.popLast() {
            guard cid.codec == .dagPB, let block = call.node.blocks.block(cid.multihash),
                let node = try? DAGNode(decoding: block)
            else { continue }
            for link in node.links where seen.insert(link.cid).inserted {
                pending.append(link.cid)
            }
        }
        seen.remove(root)
        return seen
    }
}
