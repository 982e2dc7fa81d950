internal import Foundation
internal import MerkleDAG
internal import Multiformats

extension Commands {
    static let dag: [String: Command] = [
        "dag/import": Command(
            file: "path",
            options: [
                "pin-roots": .bool, "silent": .bool, "stats": .bool, "local-only": .bool,
                "allow-big-block": .bool, "fast-provide-root": .bool, "fast-provide-dag": .bool,
                "fast-provide-wait": .bool,
            ]
        ) { (call) throws(Halt) in try importArchives(call) },
        "dag/export": Command(arguments: ["root"], options: ["progress": .bool]) {
            (call) throws(Halt) in
            let root = try call.resolve(call.arguments[0]).cid
            _ = try call.block(root)
            try export(root, call)
        },
        "dag/stat": Command(arguments: ["root"], options: ["progress": .bool]) {
            (call) throws(Halt) in try statistics(call)
        },
        "dag/resolve": Command(arguments: ["ref"]) { (call) throws(Halt) in
            let cid = try call.resolve(call.arguments[0]).cid
            try call.reply.emitOnce(
                .object([("Cid", .link(call.text(cid))), ("RemPath", .string(""))]))
        },
        "dag/get": Command(arguments: ["ref"], options: ["output-codec": .text]) {
            (call) throws(Halt) in
            let cid = try call.resolve(call.arguments[0]).cid
            let block = try call.block(cid)
            let output = try encode(block, of: cid, as: call.text("output-codec") ?? "dag-json")
            try call.reply.startStream()
            try call.reply.write(output)
        },
        "dag/put": Command(
            file: "object data",
            options: [
                "store-codec": .text, "input-codec": .text, "pin": .bool, "hash": .text,
                "allow-big-block": .bool,
            ]
        ) { (call) throws(Halt) in try putNode(call) },
    ]

    // MARK: Archives

    /// Writes a CARv1 of what `walk` gives.
    static func writeArchive(
        _ root: CID, _ sink: @escaping ([UInt8]) throws(Halt) -> Void,
        walk: ((CID, [UInt8]) throws(Halt) -> Void) throws(Halt) -> Void
    ) throws(Halt) {
        var writer = try CARWriter<Halt>(roots: [root]) { (bytes) throws(Halt) in
            try sink(Array(bytes))
        }
        try walk { (cid, block) throws(Halt) in
            // An identity block lies in its CID.
            if cid.multihash.code != .identity { try writer.write(cid, block) }
        }
    }

    private static func export(_ root: CID, _ call: Call) throws(Halt) {
        try call.reply.startStream(type: "application/vnd.ipld.car")
        do throws(Halt) {
            try writeArchive(root, call.reply.write) { (body) throws(Halt) in
                try call.walk(root, body)
            }
        } catch .error(let error) {
            let hint =
                call.text("offline") == "true"
                ? " (currently offline, perhaps retry without the offline flag)" : ""
            throw .failed("walk failed: could not load link: \(error.message)\(hint)")
        } catch {
            throw error
        }
    }

    /// Blocks on their way into the store; a node stores so many at once, and forgets what is
    /// left when an archive turns out to be broken.
    private struct Batch {
        static let countMax = 128
        static let byteCountMax = 100 << 20

        private var blocks: [(Multihash, [UInt8])] = []
        private var byteCount = 0

        mutating func add(_ section: CARSection, _ call: Call) throws(Halt) {
            blocks.append((section.cid.multihash, section.block))
            byteCount += section.block.count
            if blocks.count >= Self.countMax || byteCount >= Self.byteCountMax {
                try commit(call)
            }
        }

        mutating func commit(_ call: Call) throws(Halt) {
            for (multihash, block) in blocks where multihash.code != .identity {
                try receive(multihash, block, call)
            }
            blocks = []
            byteCount = 0
        }
    }

    private static func importArchives(_ call: Call) throws(Halt) {
        var batch = Batch()
        var roots: [CID] = []
        var blockCount: UInt64 = 0
        var byteCount: UInt64 = 0
        while try call.nextPart() != nil {
            var previous: CID?
            var partByteCount = 0
            do throws(CARError) {
                var reader = try CARReader(blockSizeMax: 1 << 30, isVerifying: false) { buffer in
                    let piece = try call.readPart(limit: buffer.count)
                    buffer.copyBytes(from: piece)
                    partByteCount += piece.count
                    return piece.count
                }
                for root in reader.roots where !roots.contains(root) { roots.append(root) }
                while let section = try reader.next() {
                    do throws(Halt) {
                        try checkSection(section, after: previous, call)
                        try batch.add(section, call)
                    } catch {
                        throw CARError.readFailed(error)
                    }
                    blockCount += 1
                    byteCount += UInt64(section.block.count)
                    previous = section.cid
                }
            } catch {
                // Nothing at all is taken for the end of everything, and for no error.
                if partByteCount == 0, case .truncated = error { return }
                throw halt(error, after: previous)
            }
        }
        try batch.commit(call)
        if call.isSet("pin-roots", default: !call.isSet("local-only")) {
            for root in roots {
                let message = try pinHere(root, call)
                try call.reply.emit(
                    .object([
                        (
                            "Root",
                            .object([
                                ("Cid", .link(call.text(root))), ("PinErrorMsg", .string(message)),
                            ])
                        )
                    ]))
            }
        }
        guard call.isSet("stats") else { return }
        try call.reply.emit(
            .object([
                (
                    "Stats",
                    .object([
                        ("BlockCount", .unsigned(blockCount)),
                        ("BlockBytesCount", .unsigned(byteCount)),
                    ])
                )
            ]))
    }

    private static func checkSection(
        _ section: CARSection, after previous: CID?, _ call: Call
    ) throws(Halt) {
        do throws(MultihashError) {
            try section.block.withRawBytes { (raw) throws(MultihashError) in
                try section.cid.verify(raw)
            }
        } catch {
            let hash = Multihash.sha256(of: section.block)
            let got =
                section.cid.version == 0
                ? CID.dagPB(hash, version: 0) : CID(codec: section.cid.codec, multihash: hash)
            throw failed(
                "mismatch in content integrity, expected: \(section.cid), got: \(got)",
                after: previous)
        }
        do throws(Halt) {
            try checkSize(section.block.count, call)
            // Decoded before it is stored.
            if section.cid.codec == .dagPB {
                do throws(BlockFormatError) {
                    _ = try DAGNode(decoding: section.block)
                } catch {
                    // Which of the reasons it is says nothing to a client.
                    throw Halt.failed("unexpected EOF")
                }
            }
        } catch {
            guard case .error(let error) = error else { throw error }
            throw .failed("import failed at block \"\(section.cid)\": \(error.message)")
        }
    }

    private static func failed(_ message: String, after previous: CID?) -> Halt {
        .failed(
            previous.map { "import failed after block \"\($0)\": \(message)" }
                ?? "import failed: \(message)")
    }

    private static func halt(_ error: CARError, after previous: CID?) -> Halt {
        let message: String
        switch error {
        case .readFailed(let cause):
            return cause as? Halt ?? .failed("\(cause)")
        case .truncated: message = "unexpected EOF"
        default: message = "\(error)"
        }
        return previous == nil ? .failed(message) : failed(message, after: previous)
    }

    // MARK: Statistics

    private static func statistics(_ call: Call) throws(Halt) {
        var uniques: Set<CID> = []
        var total: UInt64 = 0
        var redundant: UInt64 = 0
        var entries: [JSON] = []
        for argument in call.arguments {
            let root = try call.resolve(argument).cid
            var size: UInt64 = 0
            var count: Int64 = 0
            try call.walk(root) { (cid, block) throws(Halt) in
                size += UInt64(block.count)
                count += 1
                redundant += UInt64(block.count)
                if uniques.insert(cid).inserted { total += UInt64(block.count) }
            }
            entries.append(
                .object([
                    ("Cid", .string(call.text(root))), ("Size", .unsigned(size)),
                    ("NumBlocks", .integer(count)),
                ]))
        }
        var members: [(String, JSON)] = [
            ("UniqueBlocks", .integer(Int64(uniques.count))), ("TotalSize", .unsigned(total)),
        ]
        if redundant > total { members.append(("SharedSize", .unsigned(redundant - total))) }
        let ratio = total > 0 ? Float(redundant) / Float(total) : 0
        let text = ratio == ratio.rounded() ? String(Int(ratio)) : "\(ratio)"
        members += [("Ratio", .verbatim(text)), ("DagStats", .array(entries))]
        try call.reply.emit(.object(members))
    }

    // MARK: Codecs

    private static func encode(
        _ block: [UInt8], of cid: CID, as codec: String
    ) throws(Halt) -> [UInt8] {
        func bytes(_ bytes: [UInt8]) -> JSON {
            let text = Data(bytes).base64EncodedString().replacing("=", with: "")
            return .object([("/", .object([("bytes", .string(text))]))])
        }
        var output: [UInt8] = []
        switch (cid.codec, codec) {
        case (.raw, "raw"), (.dagPB, "dag-pb"), (.dagCBOR, "dag-cbor"), (.dagJSON, "dag-json"):
            return block
        case (.raw, "dag-json"):
            bytes(block).append(to: &output)
        case (.dagPB, "dag-json"):
            let node: DAGNode
            do throws(BlockFormatError) {
                node = try DAGNode(decoding: block)
            } catch {
                throw .failed("\(error)")
            }
            var members = node.data.map { [("Data", bytes($0))] } ?? []
            let links = node.links.map { link in
                JSON.object([
                    ("Hash", .link(link.cid.description)), ("Name", .bytes(link.name)),
                    ("Tsize", .unsigned(link.treeSize)),
                ])
            }
            members.append(("Links", .array(links)))
            JSON.object(members).append(to: &output)
        default:
            throw .failed("the double does not turn \(cid.codec) into \(codec)")
        }
        return output
    }

    private static func putNode(_ call: Call) throws(Halt) {
        let store = call.text("store-codec") ?? "dag-cbor"
        let input = call.text("input-codec") ?? "dag-json"
        while try call.nextPart() != nil {
            var block = try call.readWholePart(limit: 4 << 20)
            if input == "dag-json", store == "dag-pb" {
                block = try decodeNode(block)
            } else if input != store {
                throw .failed("the double does not turn \(input) into \(store)")
            }
            try checkSize(block.count, call)
            let multihash = Multihash.sha256(of: block)
            let cid = try cid(multihash, codec: store)
            try receive(multihash, block, call)
            if call.isSet("pin") {
                try call.node.setPin(Pin(cid: cid, isRecursive: true, name: ""))
            }
            try call.reply.emit(.object([("Cid", .link(call.text(cid)))]))
        }
    }

    private struct JSONNode: Decodable {
        struct Bytes: Decodable {
            struct Inner: Decodable { var bytes: String }
            var inner: Inner
            enum CodingKeys: String, CodingKey { case inner = "/" }
        }
        struct Hash: Decodable {
            var cid: String
            enum CodingKeys: String, CodingKey { case cid = "/" }
        }
        struct Link: Decodable {
            var Hash: Hash
            var Name: String?
            var Tsize: UInt64?
        }
        var Data: Bytes?
        var Links: [Link]
    }

    private static func decodeNode(_ text: [UInt8]) throws(Halt) -> [UInt8] {
        do {
            let node = try JSONDecoder().decode(JSONNode.self, from: Data(text))
            let data = node.Data.flatMap { data -> [UInt8]? in
                let missing = (4 - data.inner.bytes.utf8.count % 4) % 4
                let padded = data.inner.bytes + String(repeating: "=", count: missing)
                return Data(base64Encoded: padded).map { [UInt8]($0) }
            }
            let links = try node.Links.map { link in
                DAGLink(
                    cid: try CID(parsing: link.Hash.cid), name: Array((link.Name ?? "").utf8),
                    treeSize: link.Tsize ?? 0)
            }
            return DAGNode(links: links, data: data).encoded()
        } catch {
            throw .failed("\(error)")
        }
    }
}
