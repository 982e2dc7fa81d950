import Base
import MerkleDAG
import Multiformats
import Serving

/// A tree in memory that has a registry and a site, and what must not be served beside it.
struct Served: ServedContent {
    static let peer = "k51qzi5uqu5dlkw8pxuw9qmqayfdeh4kfebhmreauqdc6a7c3y7d5i9fi8mk9w"

    /// What the bytes from 80 on stand for.
    let words: [[UInt8]]
    private let top: CID
    private let blocks: [Multihash: [UInt8]]
    /// What is here and not of the tree.
    private let hidden: Set<Multihash>

    init(page: [UInt8], manifest: [UInt8], redirects: [UInt8]) throws {
        var maker = Maker()
        // Outside: a directory that nothing leads to, and an upload.
        let secret = try maker.file(Mark.outside + Array("beside the tree".utf8))
        let secrets = try maker.directory([("secret", secret), ("index.html", secret)])
        let upload = try maker.file(Mark.outside + Array("an upload".utf8))
        let uploads = try maker.directory([
            ("1234", try maker.directory([("data", upload)]))
        ])
        let hidden = Set(maker.blocks.keys)

        let layer = Array(
            "a layer of some bytes more than one leaf has, so that ranges go on ".utf8)
        let unlinked = Mark.unlinked + Array("unlinked".utf8)
        let first = Array(
            #"{"schemaVersion":2,"config":{"mediaType":"a/b"},"layers":[],"annotations":{"a":"b"}}"#
                .utf8)
        let registry = try maker.registry(
            manifests: [("latest", first), ("fuzz", manifest)], layers: [layer],
            unlinked: [unlinked], uploads: uploads)
        let site = try maker.site(page: page, redirects: redirects, secrets: secrets)
        let v2 = try maker.directory([("v2", registry)])
        let docker = try maker.directory([("registry", v2)])
        let root = try maker.directory([("docker", docker), ("site", site)])

        let digests = [layer, unlinked, first, manifest, secret.content].map(Self.digest)
        let cids = [root.cid, site.cid, secret.cid, secrets.cid, upload.cid, uploads.cid, v2.cid]
        let texts = cids.map { "\($0)" } + digests + Self.texts
        words = texts.map { Array($0.utf8) }
        top = root.cid
        blocks = maker.blocks
        self.hidden = hidden
    }

    private static func digest(_ bytes: [UInt8]) -> String {
        "sha256:" + Maker.hex(bytes)
    }

    private static let texts = [
        "GET /ipfs/", "HEAD /ipfs/", "GET /ipns/", "GET /v2/", "GET /v2/app/manifests/",
        "HEAD /v2/app/manifests/", "GET /v2/app/blobs/", "GET /v2/app/tags/list?n=",
        "GET /v2/_catalog?n=", "GET /v2/app/referrers/", "GET /v2/ipfs/",
        "GET /routing/v1/providers/", "GET /routing/v1/ipns/", "OPTIONS /",
        "POST /v2/app/blobs/uploads/",
        "/docker/registry/v2/repositories/app/_uploads/1234/data",
        "/docker/registry/v2/blobs/sha256/",
        "/site/", "page", "big/", "sub/", "out/", "up/", "loop", "/app/", "secret", "%2e%2e/",
        "%2F", "&last=", "&artifactType=", "?ns=a.example", "?format=raw", "?format=car",
        "&dag-scope=entity", "&dag-scope=all", "&entity-bytes=", "&car-dups=y", "&car-order=dfs",
        "?filename=a.html", "?download=true", "?format=tar", "\nRange: bytes=", "\nIf-Range: ",
        "\nIf-None-Match: ", "\nAccept: ", "application/vnd.ipld.car; version=1; order=dfs; dups=y",
        "application/vnd.ipld.raw", "application/json", "text/html",
        "\nCache-Control: only-if-cached",
        "\nService-Worker: script", "\nIf-Match: *", "0-", "-1", ",1-2,", "18446744073709551615",
        "/index.html", "/_redirects", "b/c.html", "?go=/",
    ]

    /// A request with its words written out.
    func spelled(_ request: [UInt8]) -> [UInt8] {
        request.flatMap { byte -> [UInt8] in
            guard byte >= 0x80 else { return [byte] }
            return words[Int(byte - 0x80) % words.count]
        }
    }

    // MARK: ServedContent

    var tree: any ServedTree { DAGTree(root: top, in: self, scope: .tree) }

    func root() throws(ServeFault) -> CID { top }

    func block(_ cid: CID, scope: BlockScope, reach: BlockReach) throws(ServeFault) -> BytesPlace {
        guard try has(cid, scope: scope), let block = blocks[cid.multihash] else {
            throw .notFound
        }
        return .bytes(block)
    }

    func wholeFile(_ cid: CID, scope: BlockScope) throws(ServeFault) -> BytesPlace? { nil }

    func has(_ cid: CID, scope: BlockScope) throws(ServeFault) -> Bool {
        blocks[cid.multihash] != nil && (scope == .any || !hidden.contains(cid.multihash))
    }
}

/// Makes files and directories, and keeps their blocks.
private struct Maker {
    /// What an entry leads to.
    struct Made {
        var cid: CID
        var treeSize: UInt64
        var content: [UInt8] = []
    }

    private static let profile = ImportProfile(
        chunkSize: 64, fileLinksMax: 4, rawLeaves: true, cidVersion: 1, directoryThreshold: 2_000,
        directoryEstimation: .block)

    private(set) var blocks: [Multihash: [UInt8]] = [:]

    mutating func file(_ content: [UInt8]) throws -> Made {
        var rest = content[...]
        var made: [(CID, [UInt8])] = []
        let profile = Self.profile
        // Those of a single leaf are not told by the import.
        for start in stride(from: 0, to: max(content.count, 1), by: profile.chunkSize) {
            let chunk = Array(content[start..<min(content.count, start + profile.chunkSize)])
            made.append((CID.raw(sha256: chunk), chunk))
        }
        let root = profile.importFile(
            read: { buffer in
                let count = min(buffer.count, rest.count)
                buffer.copyBytes(from: rest.prefix(count))
                rest = rest.dropFirst(count)
                return count
            }, emit: { (cid, block) throws(Never) in made.append((cid, block)) })
        for (cid, block) in made { blocks[cid.multihash] = block }
        return Made(cid: root.cid, treeSize: root.treeSize, content: content)
    }

    mutating func symlink(_ target: String) -> Made {
        let (root, block) = Self.profile.symlink(target: Array(target.utf8))
        blocks[root.cid.multihash] = block
        return Made(cid: root.cid, treeSize: root.treeSize)
    }

    mutating func directory(_ entries: [(name: String, made: Made)]) throws -> Made {
        var builder = DirectoryBuilder(profile: Self.profile)
        for (name, made) in entries {
            builder.add(name: Array(name.utf8), cid: made.cid, treeSize: made.treeSize)
        }
        var made: [(CID, [UInt8])] = []
        let root = try builder.finish { (cid, block) throws(Never) in made.append((cid, block)) }
        for (cid, block) in made { blocks[cid.multihash] = block }
        return Made(cid: root.cid, treeSize: root.treeSize)
    }

    static func hex(_ content: [UInt8]) -> String {
        Multihash.sha256(of: content).digest.map { byte in
            (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }.joined()
    }

    /// `sha256/HEX/NAME` of several contents; twice the same is once.
    private mutating func linked(_ contents: [[UInt8]]) throws -> Made {
        let digests = Set(contents.map(Self.hex)).sorted()
        let entries = try digests.map { ($0, try link($0)) }
        return try directory([("sha256", try directory(entries))])
    }

    private mutating func link(_ hex: String) throws -> Made {
        try directory([("link", try file(Array("sha256:\(hex)".utf8)))])
    }

    /// What is below `docker/registry/v2`, of one repository.
    mutating func registry(
        manifests: [(tag: String, bytes: [UInt8])], layers: [[UInt8]], unlinked: [[UInt8]],
        uploads: Made
    ) throws -> Made {
        let tags = try manifests.map { tag, bytes in
            (tag, try directory([("current", try link(Self.hex(bytes)))]))
        }
        let images = try directory([
            ("revisions", try linked(manifests.map(\.bytes))), ("tags", try directory(tags)),
        ])
        let app = try directory([
            ("_layers", try linked(layers)), ("_manifests", images), ("_uploads", uploads),
        ])
        var data: [String: [(String, Made)]] = [:]
        var known: Set<String> = []
        for content in manifests.map(\.bytes) + layers + unlinked {
            let hex = Self.hex(content)
            guard known.insert(hex).inserted else { continue }
            let bytes = try file(content)
            data[String(hex.prefix(2)), default: []].append((hex, try directory([("data", bytes)])))
        }
        let prefixes = try data.keys.sorted().map { ($0, try directory(data[$0] ?? [])) }
        return try directory([
            ("blobs", try directory([("sha256", try directory(prefixes))])),
            ("repositories", try directory([("app", app)])),
        ])
    }

    mutating func site(page: [UInt8], redirects: [UInt8], secrets: Made) throws -> Made {
        let html = try file(Array("<html>a page</html>".utf8))
        let big = (0..<64).map { ("name-\($0)", html) }
        return try directory([
            ("index.html", html), ("page", try file(page)), ("page.json", try file(page)),
            ("_redirects", try file(redirects)), ("big", try directory(big)),
            ("sub", try directory([("deep.html", html), ("page", try file(page))])),
            ("up", symlink("../../../..")), ("out", symlink("/ipfs/\(secrets.cid)/secret")),
            ("loop", symlink("loop")), ("in", symlink("sub/page")), ("secrets", secrets),
        ])
    }
}
