import Base
import MerkleDAG
import Multiformats
import Remotes
import Testing
import Volume

/// A tree in memory.
private indirect enum Tree: Equatable {
    case file([UInt8])
    case symlink(String)
    case directory([[UInt8]: Tree])

    var isDirectory: Bool { if case .directory = self { true } else { false } }
    var entries: [[UInt8]: Tree] { if case .directory(let entries) = self { entries } else { [:] } }
}

extension Tree: ExpressibleByDictionaryLiteral, ExpressibleByStringLiteral {
    init(dictionaryLiteral elements: (String, Tree)...) {
        self = .directory(
            Dictionary(uniqueKeysWithValues: elements.map { (Array($0.utf8), $1) }))
    }

    init(stringLiteral value: String) { self = .file(Array(value.utf8)) }
}

/// What two trees have differently, found out name by name.
private func naive(_ old: Tree?, _ new: Tree?, _ path: [[UInt8]] = []) -> [TreeDifference] {
    let before = old?.entries ?? [:]
    let now = new?.entries ?? [:]
    let names = Set(before.keys).union(now.keys).sorted { $0.lexicographicallyPrecedes($1) }
    var found: [TreeDifference] = []
    for name in names {
        let (left, right) = (before[name], now[name])
        guard left != right else { continue }
        func add(_ kind: TreeDifference.Kind, _ isDirectory: Bool) {
            found.append(
                TreeDifference(kind: kind, path: path + [name], isDirectory: isDirectory))
        }
        switch (left, right) {
        case (nil, let right?): add(.added, right.isDirectory)
        case (let left?, nil): add(.removed, left.isDirectory)
        case (let left?, let right?):
            if !(left.isDirectory && right.isDirectory) { add(.changed, false) }
        case (nil, nil): break
        }
        found += naive(left, right, path + [name])
    }
    return found
}

/// DAGs of trees, as somebody who gives their blocks and counts what he is asked for.
private final class Blocks: RemoteBlocks {
    private let blocks = Monitor<[CID: [UInt8]]>([:])
    private let asked = Monitor<[CID]>([])

    var address: String { "a test" }

    func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
        asked.withLock { $0.append(request.cid) }
        guard let found = blocks.withLock({ $0[request.cid] }) else {
            throw RemoteError(.notFound, "\(address): there is no block \(request.cid)")
        }
        return found
    }

    /// What was asked for since the last call.
    func takeAsked() -> [CID] {
        asked.withLock { asked in
            defer { asked = [] }
            return asked
        }
    }

    func bytes(of cid: CID) -> [UInt8]? { blocks.withLock { $0[cid] } }

    func lose(_ cid: CID) { blocks.withLock { $0[cid] = nil } }

    func put(_ cid: CID, _ bytes: [UInt8]) { blocks.withLock { $0[cid] = bytes } }

    @discardableResult
    func add(_ node: DAGNode) -> CID {
        let bytes = node.encoded()
        let cid = CID.dagPB(sha256: bytes, version: 1)
        put(cid, bytes)
        return cid
    }

    func directory(_ links: [DAGLink]) -> CID {
        add(DAGNode(links: links, data: UnixFSData(kind: .directory).encoded()))
    }

    func add(_ tree: Tree, _ profile: ImportProfile) throws -> DAGRoot {
        switch tree {
        case .file(let bytes):
            var offset = 0
            return profile.importFile(
                read: { buffer in
                    let count = min(buffer.count, bytes.count - offset)
                    buffer.copyBytes(from: bytes[offset..<offset + count])
                    offset += count
                    return count
                }, emit: { [self] (cid, block) throws(Never) in put(cid, block) })
        case .symlink(let target):
            let (root, block) = profile.symlink(target: Array(target.utf8))
            put(root.cid, block)
            return root
        case .directory(let entries):
            var builder = DirectoryBuilder(profile: profile)
            for (name, entry) in entries {
                let root = try add(entry, profile)
                builder.add(name: name, cid: root.cid, treeSize: root.treeSize)
            }
            return try builder.finish { (cid, block) throws(Never) in put(cid, block) }
        }
    }
}

/// Files of several blocks, and directories of several nodes, from a few bytes and names on.
private let small = ImportProfile(
    chunkSize: 16, fileLinksMax: 2, rawLeaves: true, cidVersion: 1, hamtFanout: 8,
    directoryEstimation: .disabled, directoryLinksMax: 5)
private let smallWrapped = ImportProfile(
    chunkSize: 16, fileLinksMax: 2, rawLeaves: false, cidVersion: 0, hamtFanout: 8,
    directoryEstimation: .disabled, directoryLinksMax: 5)

/// Directories of other nodes than those of `small`, and the same files.
private let smallWide = ImportProfile(
    chunkSize: 16, fileLinksMax: 2, rawLeaves: true, cidVersion: 1, hamtFanout: 16,
    directoryEstimation: .disabled, directoryLinksMax: 3)

private struct Stand {
    let blocks = Blocks()
    let directory = ScratchDirectory()
    let volume: Volume

    init() throws {
        var options = stillOptions
        options.sources = FetchOptions(blocks)
        volume = try openVolume(directory, options)
    }

    func difference(_ old: ComparedTree, _ new: ComparedTree) throws -> [TreeDifference] {
        var found: [TreeDifference] = []
        try volume.forEachDifference(from: old, to: new) { difference in
            found.append(difference)
            return true
        }
        return found
    }

    func difference(
        _ old: Tree, _ new: Tree, _ profile: ImportProfile = small, _ other: ImportProfile? = nil
    ) throws -> [TreeDifference] {
        let from = try blocks.add(old, profile).cid
        let to = try blocks.add(new, other ?? profile).cid
        _ = blocks.takeAsked()
        return try difference(.root(from), .root(to))
    }
}

/// A difference in a line, as people read it.
private func line(_ difference: TreeDifference) -> String {
    let mark = [TreeDifference.Kind.added: "+", .removed: "-", .changed: "M"][difference.kind]
    let path = difference.path.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/")
    return "\(mark ?? "?") \(path)\(difference.isDirectory ? "/" : "")"
}

private func randomTree(_ generator: inout SeededGenerator, depth: Int) -> Tree {
    switch generator.below(depth > 0 ? 8 : 4) {
    case 0: return .symlink("target \(generator.below(3))")
    case 1...3:
        return .file(
            content(seed: generator.next() % 4, count: generator.pick([0, 1, 15, 16, 70])))
    default:
        var entries: [[UInt8]: Tree] = [:]
        for _ in 0..<generator.pick([0, 1, 3, 12]) {
            entries[randomName(&generator)] = randomTree(&generator, depth: depth - 1)
        }
        return .directory(entries)
    }
}

/// Few names, so that trees have the same ones; bytes that no text has among them.
private let stems: [[UInt8]] = [
    [0x61], [0x61, 0x2e], [0x61, 0x62], [0xff], [0x41], [0xc3, 0xa9],
]

private func randomName(_ generator: inout SeededGenerator) -> [UInt8] {
    let stem = generator.pick(stems)
    return stem + Array(String(generator.below(9)).utf8)
}

private func changed(_ tree: Tree, _ generator: inout SeededGenerator, depth: Int) -> Tree {
    guard case .directory(var entries) = tree else { return randomTree(&generator, depth: depth) }
    for name in entries.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
        guard generator.oneIn(3), let entry = entries[name] else { continue }
        entries[name] =
            generator.oneIn(4) ? nil : changed(entry, &generator, depth: max(0, depth - 1))
    }
    if generator.oneIn(3) {
        entries[randomName(&generator)] = randomTree(&generator, depth: depth)
    }
    return .directory(entries)
}

@Suite struct TreeComparisonTests {
    @Test func randomTreesDifferAsANaiveWalkSays() throws {
        let seed = testSeed()
        var generator = SeededGenerator(seed: seed)
        let stand = try Stand()
        for round in 0..<300 {
            var old = Tree.directory([:])
            for _ in 0..<generator.below(8) {
                old = changed(old, &generator, depth: 4)
            }
            let new = generator.oneIn(10) ? old : changed(old, &generator, depth: 4)
            let (profile, other) = generator.pick([
                (small, small), (smallWrapped, smallWrapped), (small, smallWide),
                (smallWide, small),
            ])
            let found = try stand.difference(old, new, profile, other)
            #expect(
                found == naive(old, new), "round \(round), REGISTRYFS_TEST_SEED=\(seed)")
        }
        try stand.volume.close()
    }

    @Test func whatIsBelowAnAddedOrRemovedDirectoryFollowsIt() throws {
        let stand = try Stand()
        let old: Tree = ["a": ["x": "1", "y": ["z": "2"]], "same": "s", "b.d": "3"]
        let new: Tree = ["b": ["d": "4", "e": [:]], "same": "s", "b.d": "changed"]
        #expect(
            try stand.difference(old, new).map(line) == [
                "- a/", "- a/x", "- a/y/", "- a/y/z", "+ b/", "+ b/d", "+ b/e/", "M b.d",
            ])
        try stand.volume.close()
    }

    @Test func aNameOfAnotherKindIsChangedAndWhatWasBelowItGoes() throws {
        let stand = try Stand()
        let old: Tree = ["a": ["x": "1"], "b": "file", "c": .symlink("b")]
        let new: Tree = ["a": "file", "b": ["x": ["y": "1"]], "c": "b"]
        #expect(
            try stand.difference(old, new).map(line) == [
                "M a", "- a/x", "M b", "+ b/x/", "+ b/x/y", "M c",
            ])
        try stand.volume.close()
    }

    @Test func onlyWhatDiffersIsLookedInto() throws {
        let stand = try Stand()
        var wide: [[UInt8]: Tree] = [:]
        for number in 0..<200 {
            wide[Array("directory \(number)".utf8)] = ["file": .file([UInt8(number)])]
        }
        let old = Tree.directory(wide)
        wide[Array("directory 77".utf8)] = ["file": "another", "new": "new"]
        let found = try stand.difference(old, .directory(wide))
        #expect(found.map(line) == ["M directory 77/file", "+ directory 77/new"])
        // Of each tree a shard for each level, of some 36, and a small directory.
        let asked = stand.blocks.takeAsked()
        #expect(asked.count <= 10)
        let untouched = try stand.blocks.add(["file": .file([3])], small).cid
        #expect(!asked.contains(untouched))
        try stand.volume.close()
    }

    @Test func namesOfADirectoryOfSeveralNodesComeInTheOrderOfTheirBytes() throws {
        let stand = try Stand()
        let names = (0..<500).map { Array("name \($0)".utf8) }
        let tree = Tree.directory(Dictionary(uniqueKeysWithValues: names.map { ($0, .file($0)) }))
        // With nodes of one kind on both sides, and of another on each.
        for profile in [small, .unixfsV1_2025] {
            let found = try stand.difference([:], tree, profile, small)
            #expect(
                found.map(\.path) == names.sorted { $0.lexicographicallyPrecedes($1) }.map { [$0] })
            #expect(found.allSatisfy { $0.kind == .added && !$0.isDirectory })
        }
        try stand.volume.close()
    }

    @Test func treesOfAnotherProfileHaveTheSameDirectoriesAndOtherFiles() throws {
        let stand = try Stand()
        let tree: Tree = ["directory": ["file": "1", "empty": [:]], "link": .symlink("file")]
        let from = try stand.blocks.add(tree, .unixfsV1_2025).cid
        let to = try stand.blocks.add(tree, .unixfsV0_2015).cid
        let found = try stand.difference(.root(from), .root(to)).map(line)
        #expect(found == ["M directory/file", "M link"])
        try stand.volume.close()
    }

    @Test func aDAGOfFortyNodesIsToldUntilTheBodyHasEnough() throws {
        let stand = try Stand()
        let empty = stand.blocks.directory([])
        var cid = empty
        for _ in 0..<40 {
            let below = cid
            cid = stand.blocks.directory(
                ["a", "b"].map { DAGLink(cid: below, name: Array($0.utf8), treeSize: 100) })
        }
        var count = 0
        try stand.volume.forEachDifference(from: .root(empty), to: .root(cid)) { difference in
            count += 1
            if count == 41 { #expect(line(difference).hasSuffix("/b/")) }
            return count < 10_000
        }
        #expect(count == 10_000)
        try stand.volume.close()
    }

    @Test func aDeepTreeIsGoneThroughToItsEnd() throws {
        let stand = try Stand()
        let empty = stand.blocks.directory([])
        var cid = empty
        for _ in 0..<5_000 {
            cid = stand.blocks.directory([DAGLink(cid: cid, name: [0x64], treeSize: 1)])
        }
        var depth = 0
        try stand.volume.forEachDifference(from: .root(cid), to: .root(empty)) { difference in
            depth = difference.path.count
            return true
        }
        #expect(depth == 5_000)
        try stand.volume.close()
    }

    @Test func theLiveTreeIsComparedAsItIsNow() throws {
        let stand = try Stand()
        let volume = stand.volume
        let inner = try volume.makeDirectory("inner")
        try volume.makeFile("large", in: inner, content(seed: 1, count: 3_000_000))
        try volume.makeFile("small", in: inner, [1])
        let empty = stand.blocks.directory([])
        #expect(
            try stand.difference(.root(empty), .live).map(line) == [
                "+ inner/", "+ inner/large", "+ inner/small",
            ])
        let before = try volume.cid(of: inner)
        let copy = try volume.makeDirectory("copy")
        try volume.makeFile("large", in: copy, content(seed: 2, count: 3_000_000))
        try volume.makeFile("small", in: copy, [1])
        let now = try volume.cid(of: copy)
        #expect(try stand.difference(.root(before), .root(now)).map(line) == ["M large"])
        #expect(try stand.difference(.live, .live).isEmpty)
        // All of it is here.
        #expect(!stand.blocks.takeAsked().contains { $0 != empty })
        try volume.close()
    }

    @Test func whatNoFileSystemHasIsNotThere() throws {
        let stand = try Stand()
        let file = try stand.blocks.add("content", small)
        let node = CID(codec: .dagCBOR, multihash: Multihash.sha256(of: [0xa0]))
        stand.blocks.put(node, [0xa0])
        let links = [
            DAGLink(cid: file.cid, name: Array("..".utf8), treeSize: 7),
            DAGLink(cid: file.cid, name: Array("a/b".utf8), treeSize: 7),
            DAGLink(cid: node, name: Array("node".utf8), treeSize: 1),
        ]
        let (from, to) = (stand.blocks.directory([]), stand.blocks.directory(links))
        #expect(try stand.difference(.root(from), .root(to)).isEmpty)
        let file2 = DAGLink(cid: file.cid, name: Array("node".utf8), treeSize: 7)
        let other = stand.blocks.directory([file2])
        #expect(try stand.difference(.root(to), .root(other)).map(line) == ["+ node"])
        try stand.volume.close()
    }

    @Test func anEntryThatIsNotWhereItsNameSaysIsAnError() throws {
        let stand = try Stand()
        let names = (0..<40).map { Array("name \($0)".utf8) }
        let tree = Tree.directory(Dictionary(uniqueKeysWithValues: names.map { ($0, .file($0)) }))
        let good = try stand.blocks.add(tree, small).cid
        var node = try DAGNode(decoding: try #require(stand.blocks.bytes(of: good)))
        let file = try stand.blocks.add("file", small).cid
        // One name in two places, of which one is another's.
        for index in 0...1 {
            let name = node.links[index].name.prefix(1) + Array("foreign".utf8)
            node.links[index] = DAGLink(cid: file, name: Array(name), treeSize: 4)
        }
        let bad = stand.blocks.add(node)
        for (old, new) in [(good, bad), (bad, good)] {
            #expect(throws: VolumeError.self) {
                try stand.volume.forEachDifference(from: .root(old), to: .root(new)) { _ in true }
            }
        }
        try stand.volume.close()
    }

    @Test func whatCannotBeComparedIsNamed() throws {
        let stand = try Stand()
        let file = try stand.blocks.add("a file of more than one block", small).cid
        let empty = stand.blocks.directory([])
        let lost = try stand.blocks.add(["inner": ["file": "1"]], small).cid
        let inner = try stand.blocks.add(["file": "1"], small).cid
        stand.blocks.lose(inner)
        for (tree, cid) in [(file, file), (lost, inner)] {
            do throws(VolumeError) {
                try stand.volume.forEachDifference(from: .root(empty), to: .root(tree)) { _ in true
                }
                Issue.record("\(tree) was compared")
            } catch {
                #expect("\(error)".contains("\(cid)"))
            }
        }
        try stand.volume.close()
    }
}
