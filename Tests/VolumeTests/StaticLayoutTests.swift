import Base
import MerkleDAG
import Multiformats
import Testing
import Volume

/// A static registry in memory; counts what is asked for.
private final class StaticTree: BlockSource, Sendable {
    private struct State {
        var blocks: [CID: [UInt8]] = [:]
        var asked: [CID: Int] = [:]
    }

    private let state = Monitor(State())
    private let profile: ImportProfile

    init(profile: ImportProfile = .unixfsV1_2025) {
        self.profile = profile
    }

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        let block = state.withLock { state in
            state.asked[cid, default: 0] += 1
            return state.blocks[cid]
        }
        guard let block else { throw BlockUnavailable(cid) }
        return block
    }

    var askedCount: Int { state.withLock { $0.asked.values.reduce(0, +) } }

    func wasAsked(for cid: CID) -> Bool { state.withLock { $0.asked[cid] != nil } }

    func put(_ cid: CID, _ block: [UInt8]?) { state.withLock { $0.blocks[cid] = block } }

    func add(_ node: DAGNode, version: Int = 1) -> DAGRoot {
        let block = node.encoded()
        let cid = CID.dagPB(sha256: block, version: version)
        put(cid, block)
        return DAGRoot(cid: cid, fileSize: 0, treeSize: UInt64(block.count))
    }

    func raw(_ content: [UInt8]) -> DAGRoot {
        let cid = CID.raw(sha256: content)
        put(cid, content)
        let size = UInt64(content.count)
        return DAGRoot(cid: cid, fileSize: size, treeSize: size)
    }

    func raw(_ text: String) -> DAGRoot { raw(Array(text.utf8)) }

    /// A file of leaves of so many bytes.
    func file(_ content: [UInt8], chunk: Int) -> DAGRoot {
        let profile = ImportProfile(
            chunkSize: chunk, fileLinksMax: 174, rawLeaves: profile.rawLeaves,
            cidVersion: profile.cidVersion, directoryEstimation: .block)
        var builder = BalancedDAGBuilder(profile: profile)
        for start in stride(from: 0, to: content.count, by: chunk) {
            let bytes = Array(content[start..<min(content.count, start + chunk)])
            let leaf = bytes.withUnsafeBytes { profile.leaf($0) }
            put(leaf.cid, bytes.withUnsafeBytes { profile.leafBlock($0) })
            builder.append(leaf) { put($0, $1) }
        }
        return builder.finish { put($0, $1) }
    }

    /// A directory, sharded where it is large.
    func directory(_ entries: [(name: String, root: DAGRoot)]) throws -> DAGRoot {
        var builder = DirectoryBuilder(profile: profile)
        for entry in entries {
            builder.add(
                name: Array(entry.name.utf8), cid: entry.root.cid, treeSize: entry.root.treeSize)
        }
        return try builder.finish { put($0, $1) }
    }

    /// A directory in one node, whatever it holds.
    func flat(_ entries: [(name: [UInt8], root: DAGRoot)]) -> DAGRoot {
        let links = entries.map {
            DAGLink(cid: $0.root.cid, name: $0.name, treeSize: $0.root.treeSize)
        }
        return add(DAGNode(links: links, data: UnixFSData(kind: .directory).encoded()))
    }

    /// `v2` with the repository `a`.
    func v2(
        manifests: [(name: String, root: DAGRoot)], blobs: [(name: String, root: DAGRoot)]? = nil
    ) throws -> CID {
        try v2(manifests: try directory(manifests), blobs: try blobs.map { try directory($0) })
    }

    func v2(manifests: DAGRoot, blobs: DAGRoot? = nil) throws -> CID {
        let lists = [("manifests", manifests)] + (blobs.map { [("blobs", $0)] } ?? [])
        return try directory([("a", try directory(lists))]).cid
    }
}

private func hex(_ content: [UInt8]) -> String {
    Multihash.sha256(of: content).digest.map { byte in
        (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }.joined()
}

private func hex(_ text: String) -> String { hex(Array(text.utf8)) }

private func path(_ text: String) -> [[UInt8]] { text.split(separator: "/").map { Array($0.utf8) } }

/// What was made, with nothing else to read from.
private struct Made: BlockSource {
    let made: StaticRepository

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        guard let block = made.blocks[cid] else { throw BlockUnavailable(cid) }
        return block
    }

    func text(_ name: String) throws -> String {
        var reader = try FileReader(root: try resolve(path(name), from: made.root), source: self)
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = try bytes.withUnsafeMutableBytes { try reader.read(into: $0, at: 0) }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }

    func names(_ name: String) throws -> [String] {
        let root = try resolve(path(name), from: made.root)
        return try DirectoryReader(root: root, source: self).entries()
            .map { String(decoding: $0.name, as: UTF8.self) }.sorted()
    }
}

/// A static registry's repository in the layout of the stock registry.
@Suite struct StaticLayoutTests {
    private let tree = StaticTree()

    private func translate(
        _ v2: CID, _ name: String = "a", profile: ImportProfile = .unixfsV1_2025,
        _ change: (inout StaticLayoutBounds) -> Void = { _ in }
    ) throws -> Made {
        var bounds = StaticLayoutBounds()
        change(&bounds)
        let layout = StaticLayout(source: tree, profile: profile, bounds: bounds)
        return Made(made: try layout.translate(repository: path(name), in: v2))
    }

    /// Why a repository is refused; what has not the block in it is empty.
    private func refusal(
        _ v2: CID, naming cid: CID, _ change: (inout StaticLayoutBounds) -> Void = { _ in }
    ) throws -> String {
        do {
            _ = try translate(v2, "a", change)
        } catch DAGReadError.unavailable(let missing) {
            let reason = (missing.cause as? StaticLayoutFault)?.reason ?? "not to be had"
            return missing.cid == cid ? reason : ""
        }
        return ""
    }

    // MARK: What is made

    /// The root was computed from the formats by a few lines of Python.
    @Test func oneTagAndOneLayer() throws {
        let (manifest, layer) = (tree.raw("{}"), tree.raw("layer"))
        let digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        let layerDigest = "dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85"
        let v2 = try tree.v2(
            manifests: [("latest", manifest), ("sha256:\(digest)", manifest)],
            blobs: [("sha256:\(layerDigest)", layer)])
        let made = try translate(v2)
        #expect(
            "\(made.made.root)" == "bafybeianjplexqpgw7byfsnqgo46k2bq6a2hq3rrmygqcrjpxckito64b4")
        #expect(made.made.treeSize == 1371)
        #expect(made.made.tagCount == 1)
        #expect(made.made.passedOver == 0)
        for name in ["tags/latest/current", "tags/latest/index/sha256/\(digest)"] {
            #expect(try made.text("_manifests/\(name)/link") == "sha256:\(digest)")
        }
        #expect(try made.text("_manifests/revisions/sha256/\(digest)/link") == "sha256:\(digest)")
        #expect(try made.text("_layers/sha256/\(layerDigest)/link") == "sha256:\(layerDigest)")
        #expect(
            made.made.blobs == [
                digest: StaticRepository.Blob(cid: manifest.cid, size: 2),
                layerDigest: StaticRepository.Blob(cid: layer.cid, size: 5),
            ])
        // v2, a, manifests, blobs: no byte of what is in them.
        #expect(tree.askedCount == 4)
    }

    @Test func aTagWithoutAnEntryOfItsDigestIsARevision() throws {
        let made = try translate(try tree.v2(manifests: [("v1", tree.raw("{}"))]))
        #expect(try made.names("_manifests/revisions/sha256") == [hex("{}")])
        #expect(try made.text("_manifests/tags/v1/current/link") == "sha256:" + hex("{}"))
        #expect(made.made.blobs.keys.sorted() == [hex("{}")])
        #expect(tree.askedCount == 3)
    }

    @Test func aRepositoryWithoutBlobsHasNoLayers() throws {
        let made = try translate(try tree.v2(manifests: []))
        #expect(try made.names("_layers/sha256") == [])
        #expect(try made.names("_manifests") == ["revisions", "tags"])
        #expect(try made.names("_manifests/tags") == [])
    }

    @Test func aManifestOfSeveralLeavesIsReadOnlyWhereNothingTellsItsDigest() throws {
        let told = [UInt8](repeating: 0x61, count: 1000)
        let untold = [UInt8](repeating: 0x62, count: 1000)
        let (first, second) = (tree.file(told, chunk: 300), tree.file(untold, chunk: 7))
        let v2 = try tree.v2(manifests: [
            ("told", first), ("sha256:" + hex(told), first), ("untold", second), ("again", second),
        ])
        let made = try translate(v2)
        #expect(try made.text("_manifests/tags/told/current/link") == "sha256:" + hex(told))
        for tag in ["untold", "again"] {
            #expect(try made.text("_manifests/tags/\(tag)/current/link") == "sha256:" + hex(untold))
        }
        #expect(!tree.wasAsked(for: first.cid))
        #expect(made.made.blobs[hex(told)] == StaticRepository.Blob(cid: first.cid, size: nil))
        #expect(made.made.blobs[hex(untold)] == StaticRepository.Blob(cid: second.cid, size: 1000))
    }

    @Test func manifestsInDAGNodesAreHashedAsTheyRead() throws {
        let wrapped = StaticTree(profile: .unixfsV0_2015)
        let content = Array(#"{"schemaVersion":2}"#.utf8)
        let manifest = wrapped.file(content, chunk: 1 << 18)
        #expect(manifest.cid.version == 0)
        let v2 = try wrapped.v2(manifests: [("v1", manifest)])
        let layout = StaticLayout(source: wrapped, profile: .unixfsV0_2015)
        let made = Made(made: try layout.translate(repository: path("a"), in: v2))
        #expect(try made.text("_manifests/tags/v1/current/link") == "sha256:" + hex(content))
        #expect(made.made.root.version == 0)
    }

    @Test func theVersionOfACIDDoesNotMatter() throws {
        let node = DAGNode(data: UnixFSData(kind: .file, data: [1], fileSize: 1).encoded())
        let (old, new) = (tree.add(node, version: 0), tree.add(node))
        let v2 = try tree.v2(manifests: [("v1", old), ("sha256:" + hex([1]), new)])
        _ = try translate(v2)
        #expect(!tree.wasAsked(for: old.cid) && !tree.wasAsked(for: new.cid))
    }

    @Test func aFalseDigestDoesNotMoveATagWhoseCIDSaysMore() throws {
        let manifest = tree.raw("{}")
        let false256 = String(repeating: "0", count: 64)
        let v2 = try tree.v2(manifests: [("v1", manifest), ("sha256:" + false256, manifest)])
        let made = try translate(v2)
        #expect(try made.text("_manifests/tags/v1/current/link") == "sha256:" + hex("{}"))
        // It is a revision all the same, and whoever reads its bytes finds that they are others.
        #expect(made.made.blobs.keys.sorted() == [false256, hex("{}")].sorted())
    }

    @Test func whatIsNeitherTagNorDigestIsPassedOver() throws {
        let file = tree.raw("{}")
        let v2 = try tree.v2(
            manifests: [
                ("latest", file), (".hidden", file), ("sha256:abc", file),
                ("sha512:" + String(repeating: "0", count: 128), file),
                ("sha256:" + String(repeating: "A", count: 64), file),
                (String(repeating: "t", count: 129), file),
            ], blobs: [("index.html", file)])
        let made = try translate(v2)
        #expect(try made.names("_manifests/tags") == ["latest"])
        #expect(made.made.passedOver == 6)
    }

    @Test func tenThousandTagsInShards() throws {
        // Of each second the digest is told by an entry, of the others by the CID.
        var manifests: [(name: String, root: DAGRoot)] = []
        for number in 0..<10_000 {
            let content = Array("{\(number)}".utf8)
            let isTold = number % 2 == 0
            let root = isTold ? tree.file(content, chunk: 3) : tree.raw(content)
            manifests.append(("t\(number)", root))
            if isTold { manifests.append(("sha256:" + hex(content), root)) }
        }
        let directory = try tree.directory(manifests)
        #expect(try DirectoryReader(root: directory.cid, source: tree).isSharded)
        let v2 = try tree.v2(manifests: directory)
        let made = try translate(v2)
        #expect(made.made.tagCount == 10_000)
        #expect(made.made.blobs.count == 10_000)
        for number in [0, 1, 4_998, 9_999] {
            let digest = "sha256:" + hex("{\(number)}")
            #expect(try made.text("_manifests/tags/t\(number)/current/link") == digest)
        }
        #expect(try made.names("_manifests/tags").count == 10_000)
        #expect(try made.names("_manifests/revisions/sha256").count == 10_000)
        #expect(made.made.blobs[hex("{4}")]?.cid == manifests.first { $0.name == "t4" }?.root.cid)
        let again = try translate(v2)
        #expect(again.made.root == made.made.root && again.made.blocks == made.made.blocks)
    }

    @Test func theOrderOfEntriesDoesNotMatter() throws {
        let entries = (0..<50).map { (name: Array("t\($0)".utf8), root: tree.raw("{\($0)}")) }
        let forward = try translate(try tree.v2(manifests: tree.flat(entries)))
        let sharded = ImportProfile(
            chunkSize: 1 << 20, fileLinksMax: 1024, rawLeaves: true, cidVersion: 1,
            directoryThreshold: 10, directoryEstimation: .block)
        var builder = DirectoryBuilder(profile: sharded)
        for entry in entries.reversed() {
            builder.add(name: entry.name, cid: entry.root.cid, treeSize: entry.root.treeSize)
        }
        let shards = try builder.finish { tree.put($0, $1) }
        let backward = try translate(try tree.v2(manifests: shards))
        #expect(forward.made.root == backward.made.root)
        #expect(forward.made.blobs == backward.made.blobs)
    }

    @Test func linksOfMoreThanOneLeafReadTheSame() throws {
        let small = ImportProfile(
            chunkSize: 16, fileLinksMax: 2, rawLeaves: true, cidVersion: 1,
            directoryEstimation: .block)
        let made = try translate(
            try tree.v2(manifests: [("v1", tree.raw("{}"))]), profile: small)
        #expect(try made.text("_manifests/tags/v1/current/link") == "sha256:" + hex("{}"))
    }

    // MARK: What is refused

    @Test(arguments: ["..", ".", "a/b", "a\0b"])
    func namesThatNoFileCanHave(_ name: String) throws {
        let manifests = tree.flat([(Array(name.utf8), tree.raw("{}"))])
        let reason = try refusal(try tree.v2(manifests: manifests), naming: manifests.cid)
        #expect(reason.contains("\(manifests.cid)") && reason.contains("no file can be called"))
    }

    @Test func whatIsOfAnotherKind() throws {
        let file = tree.raw("no directory")
        #expect {
            _ = try translate(try tree.v2(manifests: file))
        } throws: {
            if case DAGReadError.notDirectory(let cid) = $0 { cid == file.cid } else { false }
        }
        let directory = try tree.directory([])
        #expect {
            _ = try translate(try tree.v2(manifests: [("v1", directory)]))
        } throws: {
            if case DAGReadError.notFile(let cid) = $0 { cid == directory.cid } else { false }
        }
        let other = DAGRoot(
            cid: CID(codec: .dagCBOR, multihash: .sha256(of: [0xa0])), fileSize: 0, treeSize: 1)
        #expect {
            _ = try translate(try tree.v2(manifests: [("v1", other)]))
        } throws: {
            if case DAGReadError.unsupportedCodec(let cid) = $0 { cid == other.cid } else { false }
        }
    }

    @Test func aNameTwice() throws {
        let name = Array("v1".utf8)
        let manifests = tree.flat([(name, tree.raw("1")), (name, tree.raw("2"))])
        #expect {
            _ = try translate(try tree.v2(manifests: manifests))
        } throws: {
            if case DAGReadError.duplicateName(let cid, _) = $0 {
                cid == manifests.cid
            } else {
                false
            }
        }
    }

    @Test func blocksThatAreMissingOrOthers() throws {
        let manifest = tree.file([UInt8](repeating: 7, count: 20), chunk: 10)
        let v2 = try tree.v2(manifests: [("v1", manifest)])
        tree.put(manifest.cid, nil)
        #expect(try refusal(v2, naming: manifest.cid) == "not to be had")
        tree.put(manifest.cid, [1, 2, 3])
        #expect {
            _ = try translate(v2)
        } throws: {
            if case DAGReadError.wrongBytes(let cid) = $0 { cid == manifest.cid } else { false }
        }
    }

    @Test(arguments: ["b", "a/b", "A", "..", "a/../a", ""])
    func repositoriesThatAreNone(_ name: String) throws {
        let v2 = try tree.v2(manifests: [])
        #expect {
            _ = try translate(v2, name)
        } throws: {
            if case DAGReadError.noSuchEntry = $0 { true } else { false }
        }
    }

    // MARK: Bounds

    @Test func aManifestThatIsTooLarge() throws {
        let manifest = tree.file([UInt8](repeating: 7, count: 2_000), chunk: 1_000)
        let v2 = try tree.v2(manifests: [("v1", manifest)])
        let reason = try refusal(v2, naming: manifest.cid) { $0.manifestBytesMax = 1_999 }
        #expect(reason.contains("it has 2000 bytes, more than 1999"))
        _ = try translate(v2) { $0.manifestBytesMax = 2_000 }
    }

    @Test func tooMuchOfEverything() throws {
        let manifests = try tree.directory(
            (0..<20).map { number in
                ("t\(number)", tree.file([UInt8](repeating: UInt8(number), count: 20), chunk: 10))
            })
        let v2 = try tree.v2(manifests: manifests)
        var reason = try refusal(v2, naming: manifests.cid) { $0.entriesMax = 19 }
        #expect(reason.contains("more than 19 entries"))
        reason = try refusal(v2, naming: manifests.cid) { $0.manifestsMax = 19 }
        #expect(reason.contains("more than 19 tags"))
        // Nothing else was read for it.
        #expect(tree.askedCount == 6)
        for change in [
            { $0.blocksMax = 2 }, { $0.readBytesMax = 300 }, { $0.milliseconds = 0 },
            { $0.madeBytesMax = 5_000 },
        ] as [(inout StaticLayoutBounds) -> Void] {
            do {
                _ = try translate(v2, "a", change)
                Issue.record("nothing was refused")
            } catch DAGReadError.unavailable(let missing) {
                let fault = try #require(missing.cause as? StaticLayoutFault)
                #expect(fault.reason.contains("\(missing.cid)"))
            }
        }
        let all = try translate(v2) { bounds in
            (bounds.entriesMax, bounds.manifestsMax, bounds.blocksMax) = (20, 20, 100)
        }
        #expect(all.made.tagCount == 20)
    }

    @Test func aManifestOfMillionsOfLeavesEnds() throws {
        // Each node links to the one below it many times: few blocks, and a walk of a million.
        var (below, size) = (tree.raw("x"), UInt64(1))
        for _ in 0..<2 {
            let count = 1_024
            let message = UnixFSData(
                kind: .file, fileSize: size * UInt64(count),
                blockSizes: [UInt64](repeating: size, count: count))
            let links = [DAGLink](
                repeating: DAGLink(cid: below.cid, treeSize: 1), count: count)
            below = tree.add(DAGNode(links: links, data: message.encoded()))
            size *= UInt64(count)
        }
        let v2 = try tree.v2(manifests: [("v1", below)])
        do {
            _ = try translate(v2) { $0.blocksMax = 5_000 }
            Issue.record("nothing was refused")
        } catch DAGReadError.unavailable(let missing) {
            #expect(missing.cause is StaticLayoutFault)
        }
        #expect(tree.askedCount <= 5_001)
    }

    // MARK: Listing

    private func repositories(
        _ v2: CID, _ change: (inout StaticLayoutBounds) -> Void = { _ in }
    ) throws -> (names: [String], isComplete: Bool) {
        var bounds = StaticLayoutBounds()
        change(&bounds)
        let found = try StaticLayout(source: tree, profile: .unixfsV1_2025, bounds: bounds)
            .repositories(in: v2)
        let names = found.names.map { name in
            name.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/")
        }
        return (names, found.isComplete)
    }

    @Test func repositoriesAtAnyDepth() throws {
        let empty = try tree.directory([])
        let one = try tree.directory([("manifests", empty), ("blobs", empty), ("tags", empty)])
        let both = try tree.directory([("manifests", empty), ("inner", one), ("UPPER", one)])
        let v2 = try tree.directory([
            ("app", one), ("a.example", try tree.directory([("x", both), ("tags", one)])),
            ("index.html", tree.raw("")), ("_catalog", tree.raw("{}")), ("empty", empty),
            ("file", tree.file([1, 2, 3], chunk: 1)),
        ]).cid
        let found = try repositories(v2)
        #expect(found.names == ["a.example/tags", "a.example/x", "a.example/x/inner", "app"])
        #expect(found.isComplete)
        let shallow = try repositories(v2) { $0.componentsMax = 2 }
        #expect(shallow.names == ["a.example/tags", "a.example/x", "app"])
        #expect(!shallow.isComplete)
        let made = try translate(v2, "a.example/x/inner")
        #expect(try made.names("") == ["_layers", "_manifests"])
    }

    @Test func aListingOfTooManyIsCutInTheSameWay() throws {
        let one = try tree.directory([("manifests", try tree.directory([]))])
        let v2 = try tree.directory((100..<300).map { ("r\($0)", one) }).cid
        let found = try repositories(v2) { $0.directoriesMax = 11 }
        #expect(found.names == (100..<110).map { "r\($0)" })
        #expect(!found.isComplete)
        #expect(try repositories(v2).names.count == 200)
    }

    @Test func directoriesThatDoubleEnd() throws {
        var below = try tree.directory([])
        for _ in 0..<40 { below = try tree.directory([("a", below), ("b", below)]) }
        let found = try repositories(below.cid)
        #expect(found.names.isEmpty && !found.isComplete)
        #expect(tree.askedCount <= 1 << 14)
    }

    @Test func oneBadDirectoryDoesNotHideTheOthers() throws {
        let one = try tree.directory([("manifests", try tree.directory([]))])
        let bad = DAGRoot(
            cid: CID.dagPB(sha256: [0xff, 0xff], version: 1), fileSize: 0, treeSize: 2)
        tree.put(bad.cid, [0xff, 0xff])
        let v2 = try tree.directory([("good", one), ("bad", bad)]).cid
        #expect(try repositories(v2).names == ["good"])
        // What cannot be had now may be had later, so nothing is said.
        tree.put(bad.cid, nil)
        #expect {
            _ = try repositories(v2)
        } throws: {
            if case DAGReadError.unavailable(let missing) = $0 {
                missing.cid == bad.cid
            } else {
                false
            }
        }
    }
}
