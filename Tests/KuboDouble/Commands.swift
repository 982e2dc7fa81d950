internal import Foundation
internal import MerkleDAG
internal import Multiformats

/// Every command of the RPC that the double knows.
enum Commands {
    static let all: [String: Command] = [
        node, blocks, dag, unixfs, files, pins, names,
    ].reduce(into: [:]) { all, some in all.merge(some) { first, _ in first } }

    private static let node: [String: Command] = [
        "version": Command { (call) throws(Halt) in
            try call.reply.emitOnce(
                .object([
                    ("Version", .string(kuboDoubleVersion)),
                    ("Commit", .string("v\(kuboDoubleVersion)-local")),
                    ("Repo", .string("18")), ("System", .string("amd64/linux")),
                    ("Golang", .string("go1.26.6")),
                ]))
        },
        "id": Command { (call) throws(Halt) in
            let protocols = [
                "/floodsub/1.0.0", "/ipfs/bitswap", "/ipfs/bitswap/1.0.0", "/ipfs/bitswap/1.1.0",
                "/ipfs/bitswap/1.2.0", "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0",
                "/ipfs/lan/kad/1.0.0", "/ipfs/ping/1.0.0", "/libp2p/autonat/1.0.0",
                "/libp2p/autonat/2/dial-back", "/libp2p/autonat/2/dial-request",
                "/meshsub/1.0.0", "/meshsub/1.1.0", "/meshsub/1.2.0", "/meshsub/1.3.0", "/x/",
            ]
            try call.reply.emitOnce(
                .object([
                    ("ID", .string(Identity.peer)), ("PublicKey", .string(Identity.publicKey)),
                    ("Addresses", .array([.string(Identity.swarm + "/p2p/" + Identity.peer)])),
                    (
                        "AgentVersion",
                        .string("kubo/\(kuboDoubleVersion)/v\(kuboDoubleVersion)-local")
                    ),
                    ("Protocols", .array(protocols.map { .string($0) })),
                ]))
        },
        "repo/stat": Command(options: ["size-only": .bool, "human": .bool]) {
            (call) throws(Halt) in
            let node = call.node
            try call.reply.emitOnce(
                .object([
                    ("RepoSize", .integer(Int64(28_797 + node.blocks.totalByteCount))),
                    ("StorageMax", .integer(10_000_000_000)),
                    ("NumObjects", .integer(Int64(node.blocks.count))),
                    ("RepoPath", .string("/data/ipfs")), ("Version", .string("fs-repo@18")),
                ]))
        },
        "repo/version": Command { (call) throws(Halt) in
            try call.reply.emitOnce(.object([("Version", .string("18"))]))
        },
        "repo/gc": Command(options: ["stream-errors": .bool, "quiet": .bool, "silent": .bool]) {
            (call) throws(Halt) in try collectGarbage(call)
        },
        "config/show": Command { (call) throws(Halt) in
            try call.reply.emitOnce(.verbatim(Configuration.text(call.node)))
        },
        "config": Command(arguments: ["key"]) { (call) throws(Halt) in
            let key = call.argument(0)
            guard let value = Configuration.value(key, call.node) else {
                let part = Configuration.unknownPart(key, call.node)
                throw .failed("failed to get config value: \"\(part) not found\"")
            }
            try call.reply.emitOnce(
                .object([("Key", .string(key)), ("Value", .verbatim(value))]))
        },
        "diag/healthy": Command { (call) throws(Halt) in
            try call.reply.emitOnce(.string("ok"))
        },
        "swarm/peers": Command { (call) throws(Halt) in
            try call.reply.emitOnce(.object([("Peers", .null)]))
        },
        "swarm/connect": Command(arguments: ["address"]) { (call) throws(Halt) in
            try connect(call)
        },
        "routing/findprovs": Command(arguments: ["key"]) { (call) throws(Halt) in
            let cid = try call.resolve(call.arguments[0]).cid
            guard call.node.blocks.contains(cid.multihash) else {
                return try call.reply.startChunked()
            }
            try call.reply.emit(
                .object([
                    ("Extra", .string("")), ("ID", .string("")),
                    (
                        "Responses",
                        .array([
                            .object([
                                ("ID", .string(Identity.peer)),
                                ("Addrs", .array([.string(Identity.swarm)])),
                            ])
                        ])
                    ), ("Type", .integer(4)),
                ]))
        },
        "pubsub/ls": Command { (call) throws(Halt) in
            try call.reply.emitOnce(.object([("Strings", .null)]))
        },
        "pubsub/pub": Command(arguments: ["topic"], file: "data") { (call) throws(Halt) in
            while try call.nextPart() != nil {}
        },
    ]

    /// Nobody is there to connect to.
    private static func connect(_ call: Call) throws(Halt) {
        let address = call.argument(0)
        let parts = address.split(separator: "/").map { String($0) }
        guard parts.count == 6, parts[4] == "p2p" else {
            throw .failed("invalid p2p multiaddr")
        }
        let peer = parts[5]
        let target = parts[..<4].map { "/" + $0 }.joined()
        throw .failed(
            "connect \(peer) failure: failed to dial: failed to dial \(peer): all dials failed\n"
                + "  * [\(target)] dial tcp4 \(parts[1]):\(parts[3]): connect: connection refused")
    }

    /// Keeps what pins and MFS need, as far as it is here, and nothing else.
    private static func collectGarbage(_ call: Call) throws(Halt) {
        let node = call.node
        var kept: Set<Multihash> = []
        func keep(_ root: CID, isRecursive: Bool) {
            var pending = [root]
            while let cid = pending.popLast() {
                guard kept.insert(cid.multihash).inserted else { continue }
                guard isRecursive, cid.codec == .dagPB, let block = node.blocks.block(cid.multihash)
                else { continue }
                pending += ((try? DAGNode(decoding: block))?.links ?? []).map(\.cid)
            }
        }
        // Nothing is added to MFS meanwhile.
        let removed = try call.withMFS { (tree) throws(Halt) in
            keep(try tree.root().node(isCleaning: false).cid, isRecursive: true)
            // A pin of the block alone must not hide that another keeps its children.
            for pin in node.pins where pin.isRecursive { keep(pin.cid, isRecursive: true) }
            for pin in node.pins where !pin.isRecursive { keep(pin.cid, isRecursive: false) }
            let removed = node.blocks.multihashes.filter { !kept.contains($0) }.sorted()
            for multihash in removed { node.blocks.remove(multihash) }
            return removed
        }
        guard !call.isSet("silent") else { return }
        for multihash in removed {
            let cid = CID(codec: .raw, multihash: multihash)
            try call.reply.emit(.object([("Key", .link(cid.description))]))
        }
    }
}

// MARK: Keys and names
extension Commands {
    private static let names: [String: Command] = [
        "key/gen": Command(arguments: ["name"], options: ["type": .text, "size": .integer]) {
            (call) throws(Halt) in
            let name = call.argument(0)
            guard !call.node.keys.contains(where: { $0.name == name }) else {
                throw .failed("key with name '\(name)' already exists")
            }
            // The key is nobody's: nothing is ever signed with it.
            var identity: [UInt8] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20]
            for _ in 0..<32 { identity.append(UInt8.random(in: 0...255)) }
            guard let multihash = try? Multihash(bytes: identity) else {
                throw .failed("no key")
            }
            let id = CID(codec: .libp2pKey, multihash: multihash).encoded(in: .base36)
            call.node.addKey(name, id: id)
            try call.reply.emitOnce(.object([("Name", .string(name)), ("Id", .string(id))]))
        },
        "key/list": Command { (call) throws(Halt) in try listKeys(call) },
        "key/ls": Command { (call) throws(Halt) in try listKeys(call) },
        "name/publish": Command(
            arguments: ["ipfs-path"], options: ["key": .text, "allow-offline": .bool]
        ) { (call) throws(Halt) in
            let key = call.text("key") ?? "self"
            guard let id = call.node.keys.first(where: { $0.name == key })?.id else {
                throw .failed("no key by the given name was found")
            }
            let path = try call.resolve(call.arguments[0]).path
            call.node.setName(id, path)
            try call.reply.emitOnce(.object([("Name", .string(id)), ("Value", .string(path))]))
        },
        "name/resolve": Command { (call) throws(Halt) in
            let name = call.arguments.isEmpty ? Identity.key : call.argument(0)
            let key = name.hasPrefix("/ipns/") ? String(name.dropFirst(6)) : name
            guard let path = call.node.name(key) else { throw .failed("could not resolve name") }
            try call.reply.emitOnce(.object([("Path", .string(path))]))
        },
        // Since 0.40; a node before has routing/get and routing/put alone.
        "name/get": Command(arguments: ["name"]) { (call) throws(Halt) in
            let record = try storedRecord(call)
            try call.reply.startStream(type: "application/vnd.ipfs.ipns-record")
            try call.reply.write(record)
        },
        "name/put": Command(
            arguments: ["name"], file: "record", options: ["allow-offline": .bool, "force": .bool]
        ) { (call) throws(Halt) in try storeRecord(call) },
        "routing/get": Command(arguments: ["key"]) { (call) throws(Halt) in
            let text = Data(try storedRecord(call)).base64EncodedString()
            try call.reply.emit(
                .object([
                    ("Extra", .string(text)), ("ID", .string(Identity.peer)),
                    ("Responses", .null), ("Type", .integer(5)),
                ]))
        },
        "routing/put": Command(
            arguments: ["key"], file: "value-file", options: ["allow-offline": .bool]
        ) { (call) throws(Halt) in try storeRecord(call) },
    ]

    private static let offlineRefusal =
        "this action must be run in online mode, try running 'ipfs daemon' first"

    /// The name of a record: the text of the call without /ipns/.
    private static func recordName(_ call: Call) throws(Halt) -> String {
        let text = call.argument(0)
        let name = text.hasPrefix("/ipns/") ? String(text.dropFirst(6)) : text
        guard let cid = try? CID(parsing: name), cid.codec == .libp2pKey else {
            throw .failed("invalid IPNS name: \(name)")
        }
        return cid.encoded(in: .base36)
    }

    private static func storedRecord(_ call: Call) throws(Halt) -> [UInt8] {
        guard !call.node.isOffline else { throw .failed(offlineRefusal) }
        guard let record = call.node.record(try recordName(call)) else {
            throw .failed("routing: not found")
        }
        return record
    }

    private static func storeRecord(_ call: Call) throws(Halt) {
        guard !call.node.isOffline || call.isSet("allow-offline") else {
            throw .failed(offlineRefusal)
        }
        let name = try recordName(call)
        guard try call.nextPart() != nil else { throw .failed("no record") }
        let record = try call.readWholePart(limit: 1 << 20)
        guard let sequence = sequence(of: record) else { throw .failed("invalid IPNS record") }
        if let known = call.node.record(name), known != record, !call.isSet("force"),
            let last = Self.sequence(of: known), last >= sequence
        {
            throw .failed(
                "existing IPNS record has sequence \(last) >= new record sequence \(sequence), "
                    + "use --force to override")
        }
        call.node.setRecord(name, record)
        try call.reply.emitOnce(.object([("Name", .string(name))]))
    }

    /// What stands in the record's data; no signature is looked at. Nil for what is no record.
    private static func sequence(of record: [UInt8]) -> UInt64? {
        record.withUnsafeBytes { raw in
            var reader = ProtobufReader(raw, in: 0..<raw.count)
            while !reader.isAtEnd, let (field, type) = try? reader.readTag() {
                guard field == 9, type == .bytes else {
                    guard (try? reader.skip(type)) != nil else { return nil }
                    continue
                }
                guard let range = try? reader.readRange(),
                    case .unsigned(let sequence)? = try? DAGCBOR(
                        decoding: Array(raw[range]))["Sequence"]
                else { return nil }
                return sequence
            }
            return nil
        }
    }

    private static func listKeys(_ call: Call) throws(Halt) {
        let keys = call.node.keys.map { key in
            JSON.object([("Name", .string(key.name)), ("Id", .string(key.id))])
        }
        try call.reply.emitOnce(.object([("Keys", .array(keys))]))
    }
}
