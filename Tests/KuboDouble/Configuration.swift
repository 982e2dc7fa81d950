internal import Foundation
internal import MerkleDAG

/// The node's configuration, as far as anybody asks for it.
enum Configuration {
    static func text(_ node: DoubleNode) -> String {
        var output: [UInt8] = []
        json(node).append(to: &output)
        return String(decoding: output, as: UTF8.self)
    }

    /// The value of `Import.CidVersion`, say, as JSON.
    static func value(_ key: String, _ node: DoubleNode) -> String? {
        var current = json(node)
        for part in key.split(separator: ".") {
            guard case .members(let members) = current,
                let member = members.first(where: { $0.key.lowercased() == part.lowercased() })
            else { return nil }
            current = member.value
        }
        var output: [UInt8] = []
        current.append(to: &output)
        return String(decoding: output, as: UTF8.self)
    }

    /// The first words of a key that are there no more.
    static func unknownPart(_ key: String, _ node: DoubleNode) -> String {
        var known = ""
        for part in key.split(separator: ".") {
            let next = known.isEmpty ? String(part) : known + "." + part
            if value(next, node) == nil { return next }
            known = next
        }
        return key
    }

    private static func list(_ texts: String...) -> JSON { .array(texts.map { .string($0) }) }

    private static func unset(_ keys: String...) -> JSON { .object(keys.map { ($0, .null) }) }

    private static func json(_ node: DoubleNode) -> JSON {
        let off = JSON.object([("Enabled", .bool(false))])
        return .object([
            ("API", .object([("HTTPHeaders", .object([]))])),
            (
                "Addresses",
                .object([
                    ("API", .string("/ip4/127.0.0.1/tcp/\(node.port)")), ("Announce", .array([])),
                    ("AppendAnnounce", .array([])),
                    ("Gateway", .string("/ip4/127.0.0.1/tcp/\(node.gatewayPort)")),
                    ("NoAnnounce", .array([])), ("Swarm", list(Identity.swarm)),
                ])
            ),
            ("AutoConf", off), ("AutoNAT", .object([])), ("AutoTLS", off),
            ("Bitswap", .object([])), ("Bootstrap", .null),
            ("DNS", .object([("Resolvers", .object([]))])),
            ("Datastore", datastore), ("Discovery", .object([("MDNS", off)])),
            (
                "Experimental",
                .object([
                    ("FilestoreEnabled", .bool(false)), ("Libp2pStreamMounting", .bool(false)),
                    ("OptimisticProvide", .bool(false)),
                    ("OptimisticProvideJobsPoolSize", .integer(0)), ("P2pHttpProxy", .bool(false)),
                    ("UrlstoreEnabled", .bool(false)),
                ])
            ),
            (
                "Gateway",
                .object([
                    ("AllowCodecConversion", .null), ("DeserializedResponses", .null),
                    ("DisableHTMLErrors", .null), ("ExposeRoutingAPI", .null),
                    ("HTTPHeaders", .object([])), ("NoDNSLink", .bool(false)),
                    ("NoFetch", .bool(false)), ("PublicGateways", .null),
                    ("RootRedirect", .string("")),
                ])
            ),
            ("HTTPRetrieval", .object([])),
            ("Identity", .object([("PeerID", .string(Identity.peer))])),
            ("Import", imports(node.profile)), ("Internal", .object([])),
            (
                "Ipns",
                .object([
                    ("DelegatedPublishers", .array([])), ("RecordLifetime", .string("")),
                    ("RepublishPeriod", .string("")), ("ResolveCacheSize", .integer(128)),
                ])
            ),
            ("Migration", .object([])),
            (
                "Mounts",
                .object([
                    ("FuseAllowOther", .null), ("IPFS", .string("/data/ipfs-mnt/ipfs")),
                    ("IPNS", .string("/data/ipfs-mnt/ipns")),
                    ("MFS", .string("/data/ipfs-mnt/mfs")), ("StoreMode", .null),
                    ("StoreMtime", .null),
                ])
            ),
            ("Peering", unset("Peers")), ("Pinning", .object([("RemoteServices", .object([]))])),
            (
                "Plugins",
                .object([
                    (
                        "Plugins",
                        .object([("telemetry", .object([("Disabled", .bool(true))]))])
                    )
                ])
            ),
            ("Provide", .object([("DHT", .object([]))])), ("Provider", .object([])),
            (
                "Pubsub",
                .object([
                    ("DisableSigning", .bool(false)), ("Enabled", .bool(true)),
                    ("Router", .string("")),
                ])
            ),
            ("Reprovider", .object([])),
            (
                "Routing",
                .object([
                    ("DelegatedRouters", .array([])), ("LoopbackAddressesOnLanDHT", .bool(true)),
                ])
            ),
            (
                "Swarm",
                .object([
                    ("AddrFilters", .null), ("ConnMgr", .object([])),
                    ("DisableBandwidthMetrics", .bool(false)), ("DisableNatPortMap", .bool(true)),
                    ("EnableHolePunching", .bool(false)), ("RelayClient", off),
                    ("RelayService", .object([])), ("ResourceMgr", .object([])),
                    (
                        "Transports",
                        .object([
                            ("Multiplexers", .object([])),
                            ("Network", .object([("Relay", .bool(false))])),
                            ("Security", .object([])),
                        ])
                    ),
                ])
            ),
            ("Version", .object([])),
        ])
    }

    private static func imports(_ profile: ImportProfile) -> JSON {
        let estimation =
            switch profile.directoryEstimation {
            case .links: "links"
            case .block: "block"
            case .disabled: "disabled"
            }
        return .object([
            ("BatchMaxNodes", .null), ("BatchMaxSize", .null),
            ("CidVersion", .integer(Int64(profile.cidVersion))), ("FastProvideDAG", .null),
            ("FastProvideRoot", .null), ("FastProvideWait", .null),
            ("HashFunction", .string("sha2-256")),
            ("UnixFSChunker", .string("size-\(profile.chunkSize)")),
            ("UnixFSDAGLayout", .string("balanced")),
            ("UnixFSDirectoryMaxLinks", .integer(Int64(profile.directoryLinksMax))),
            ("UnixFSFileMaxLinks", .integer(Int64(profile.fileLinksMax))),
            ("UnixFSHAMTDirectoryMaxFanout", .integer(Int64(profile.hamtFanout))),
            ("UnixFSHAMTDirectorySizeEstimation", .string(estimation)),
            (
                "UnixFSHAMTDirectorySizeThreshold",
                .string("\(profile.directoryThreshold / 1024)KiB")
            ),
            ("UnixFSRawLeaves", .bool(profile.rawLeaves)),
        ])
    }

    private static let datastore = JSON.object([
        ("BlockKeyCacheSize", .null), ("BloomFilterSize", .integer(0)), ("GCPeriod", .string("1h")),
        ("HashOnRead", .bool(false)),
        (
            "Spec",
            .object([
                (
                    "mounts",
                    .array([
                        .object([
                            ("mountpoint", .string("/blocks")), ("path", .string("blocks")),
                            ("prefix", .string("flatfs.datastore")),
                            ("shardFunc", .string("/repo/flatfs/shard/v1/next-to-last/2")),
                            ("sync", .bool(false)), ("type", .string("flatfs")),
                        ]),
                        .object([
                            ("compression", .string("none")), ("mountpoint", .string("/")),
                            ("path", .string("datastore")),
                            ("prefix", .string("leveldb.datastore")),
                            ("type", .string("levelds")),
                        ]),
                    ])
                ), ("type", .string("mount")),
            ])
        ), ("StorageGCWatermark", .integer(90)), ("StorageMax", .string("10GB")),
    ])
}
