import Base
import Foundation
import MerkleDAG
import Multiformats
import Remotes
import Synchronization
import Testing
import Volume

import struct SystemPackage.Errno

/// Another volume as somebody who has blocks; counts what it was asked for.
final class OtherVolume: RemoteBlocks {
    let directory = ScratchDirectory()
    let volume: Volume
    private let asked = Monitor<[CID]>([])
    private let isAway = Atomic<Bool>(false)
    private let lost = Monitor<Set<CID>>([])

    init(_ fill: (Volume) throws -> Void) throws {
        var options = VolumeOptions()
        options.sealDelayMilliseconds = 10
        volume = try openVolume(directory, options)
        try fill(volume)
    }

    deinit { try? volume.close() }

    var address: String { "another volume" }

    func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
        asked.withLock { $0.append(request.cid) }
        guard !isAway.load(ordering: .relaxed), !lost.withLock({ $0.contains(request.cid) }),
            let found = try? volume.block(request.cid)
        else {
            throw RemoteError(.notFound, "\(address): there is no block \(request.cid)")
        }
        return found
    }

    var root: CID {
        get throws { try volume.cid(of: .root) }
    }

    func lose(_ cid: CID) { lost.withLock { _ = $0.insert(cid) } }
    func find(_ cid: CID) { lost.withLock { _ = $0.remove(cid) } }
    func goAway() { isAway.store(true, ordering: .relaxed) }

    /// How many requests there were since the last call.
    func takeCount() -> Int {
        asked.withLock { asked in
            defer { asked = [] }
            return asked.count
        }
    }
}

/// What a name stands for, for as long as a test says so.
private final class Name: Sendable {
    private let root: Monitor<OriginRoot?>
    let looks = Atomic<Int>(0)

    init(_ cid: CID?, path: [String] = []) {
        root = Monitor(cid.map { OriginRoot(cid: $0, path: path.map { Array($0.utf8) }) })
    }

    func set(_ cid: CID?) { root.withLock { $0 = cid.map { OriginRoot(cid: $0) } } }

    func origin(_ reference: String = "/ipns/name", follows: Bool = false) -> OriginOptions {
        var options = OriginOptions(reference: reference) { [self] _ throws(OriginError) in
            looks.add(1, ordering: .relaxed)
            guard var found = root.withLock({ $0 }) else {
                throw OriginError("\(reference): nobody knows it")
            }
            // The shortest time that a volume follows in.
            found.lifetimeSeconds = 0
            return found
        }
        options.follows = follows
        return options
    }
}

/// Names that changed without the kernel's doing.
private final class Observer: NamesObserver {
    private let seen = Monitor<[String]>([])

    func nameChanged(_ name: FileName, in parent: Inode) {
        seen.withLock { $0.append("\(name)") }
    }

    var names: [String] { seen.withLock { $0.sorted() } }
}

private func options(_ source: OtherVolume?, _ origin: OriginOptions? = nil) -> VolumeOptions {
    var options = VolumeOptions()
    options.sealDelayMilliseconds = 10
    options.commitIntervalMilliseconds = 50
    options.sources = source.map { FetchOptions($0) }
    options.origin = origin
    return options
}

private let large = content(seed: 1, count: 3_500_000)

private func fillUsual(_ volume: Volume) throws {
    let inner = try volume.makeDirectory("inner")
    try volume.makeFile("large", in: inner, large)
    try volume.makeFile("small", in: inner, [1, 2, 3])
    try volume.makeFile("empty", in: inner, [])
    _ = try volume.makeSymlink("link", in: inner, target: Array("large".utf8), caller: root)
    let other = try volume.makeDirectory("other")
    try volume.makeFile("file", in: other, [4, 5])
    try volume.makeFile("top", [6])
}

@Suite struct TreeTests {
    @Test func eachLevelAsksOnlyForWhatItsNamesLeadTo() throws {
        let source = try OtherVolume { volume in
            for first: FileName in ["a", "b", "c"] {
                let directory = try volume.makeDirectory(first)
                for second: FileName in ["d", "e"] {
                    let inner = try volume.makeDirectory(second, in: directory)
                    try volume.makeFile("small", in: inner, Array("\(first)\(second)".utf8))
                    try volume.makeFile("large", in: inner, large)
                }
            }
        }
        let directory = ScratchDirectory()
        let name = Name(try source.root)
        let volume = try openVolume(directory, options(source, name.origin()))
        #expect(source.takeCount() == 1)
        #expect(try volume.entries(of: .root).count == 3)
        #expect(source.takeCount() == 3)
        let first = try volume.inode("b")
        #expect(try volume.entries(of: first).count == 2)
        #expect(source.takeCount() == 2)
        #expect(try volume.entries(of: volume.inode("b", "d")).count == 2)
        // The large file's root; the small one is a leaf, which the link tells all of.
        #expect(source.takeCount() == 1)
        #expect(try volume.contents(of: volume.inode("b", "d", "large")) == large)
        // Its leaves.
        #expect(source.takeCount() == (large.count + (1 << 20) - 1) >> 20)
        #expect(try volume.cid(of: .root) == source.root)
        try volume.close()
    }

    @Test func aTreeFromACIDReadsAsItWasAndKeepsTheCIDsOfWhatDidNotChange() throws {
        let source = try OtherVolume(fillUsual)
        let directory = ScratchDirectory()
        let root = try source.root
        let name = Name(root)
        let volume = try openVolume(directory, options(source, name.origin("/ipfs/\(root)")))
        // The root's own DAG node is all that a mount asks for.
        #expect(source.takeCount() == 1)
        #expect(try volume.cid(of: .root) == root)
        let large = try volume.inode("inner", "large")
        #expect(try volume.contents(of: large) == content(seed: 1, count: 3_500_000))
        #expect(try volume.contents(of: volume.inode("inner", "empty")).isEmpty)
        #expect(
            try volume.readSymlink(volume.inode("inner", "link")) == Array("large".utf8))
        try volume.makeFile("new", in: volume.inode("other"), [9])
        #expect(try volume.cid(of: .root) != root)
        #expect(
            try volume.cid(of: volume.inode("inner"))
                == source.volume.cid(of: source.volume.inode("inner")))
        try volume.unlink("new", in: volume.inode("other"))
        #expect(try volume.cid(of: .root) == root)
        let status = try #require(volume.originStatus())
        #expect(status.reference == "/ipfs/\(root)" && status.root == root && !status.isFollowed)
        try volume.close()
        try expectClean(directory)
    }

    @Test func aVolumeKeepsItsOrigin() throws {
        let source = try OtherVolume(fillUsual)
        let directory = ScratchDirectory()
        let name = Name(try source.root)
        try openVolume(directory, options(source, name.origin())).close()
        #expect(name.looks.load(ordering: .relaxed) == 1)
        name.set(nil)
        // It is not asked again, and the source need not be there.
        var volume = try openVolume(directory, options(nil, name.origin()))
        #expect(try volume.originStatus()?.root == source.root)
        try volume.close()
        volume = try openVolume(directory, options(source))
        #expect(try volume.contents(of: volume.inode("top")) == [6])
        try volume.close()
        let other = #expect(throws: VolumeError.self) {
            try openVolume(directory, options(source, name.origin("/ipns/other"))).close()
        }
        #expect("\(try #require(other))".contains("/ipns/name"))
        // What failed has not locked it.
        try openVolume(directory, options(source)).close()
    }

    @Test func aVolumeWithATreeOfItsOwnGetsNoOther() throws {
        let source = try OtherVolume(fillUsual)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory)
        try volume.makeFile("mine", [1])
        try volume.close()
        #expect(throws: VolumeError.self) {
            try openVolume(directory, options(source, Name(source.root).origin())).close()
        }
        let again = try openVolume(directory)
        #expect(try again.contents(of: again.inode("mine")) == [1])
        try again.close()
    }

    @Test func aPathLeadsToTheDirectoryThatIsMeant() throws {
        let source = try OtherVolume(fillUsual)
        let directory = ScratchDirectory()
        let name = Name(try source.root, path: ["inner"])
        let volume = try openVolume(directory, options(source, name.origin()))
        #expect(try volume.contents(of: volume.inode("small")) == [1, 2, 3])
        try volume.close()
        for path in [["top"], ["inner", "nowhere"]] {
            let fresh = ScratchDirectory()
            #expect(throws: VolumeError.self) {
                try openVolume(
                    fresh, options(source, Name(source.root, path: path).origin())
                ).close()
            }
            // Nothing was begun: another path can be.
            try openVolume(fresh, options(source, name.origin())).close()
        }
    }

    @Test func whatNobodyHasIsAnErrorThatNamesTheBlock() throws {
        let source = try OtherVolume(fillUsual)
        let root = try source.root
        source.goAway()
        let error = #expect(throws: VolumeError.self) {
            try openVolume(ScratchDirectory(), options(source, Name(root).origin())).close()
        }
        #expect("\(try #require(error))".contains("\(root)"))
    }

    @Test func aTreeThatIsReadAloneRefusesChanges() throws {
        let source = try OtherVolume(fillUsual)
        let directory = ScratchDirectory()
        var readOnly = options(source, Name(try source.root).origin())
        readOnly.isReadOnly = true
        let volume = try openVolume(directory, readOnly)
        #expect(try volume.contents(of: volume.inode("inner", "large")) == large)
        #expect(throws: Errno.readOnlyFileSystem) {
            try volume.makeFile("new", in: .root, [1])
        }
        try volume.close()
    }

    @Test func aTreeFollowsItsNameAndTellsOnlyWhatChanged() throws {
        let source = try OtherVolume(fillUsual)
        let directory = ScratchDirectory()
        let name = Name(try source.root)
        let volume = try openVolume(directory, options(source, name.origin(follows: true)))
        let observer = Observer()
        volume.observeNames(observer)
        let small = try volume.inode("inner", "small")
        let large = try volume.inode("inner", "large")
        let held = try volume.open(small, flags: .read, caller: root)
        // `other` is not looked into.
        _ = try volume.contents(of: large)

        let inner = try source.volume.inode("inner")
        try source.volume.unlink("small", in: inner)
        try source.volume.makeFile("small", in: inner, [9, 9, 9, 9])
        try source.volume.makeFile("added", in: inner, [8])
        try source.volume.unlink("empty", in: inner)
        try source.volume.makeFile("deep", in: source.volume.inode("other"), [7])
        let next = try source.root
        name.set(next)
        #expect(eventually { volume.originStatus()?.root == next })

        #expect(try volume.contents(of: volume.inode("inner", "small")) == [9, 9, 9, 9])
        #expect(try volume.contents(of: volume.inode("inner", "added")) == [8])
        #expect(throws: Errno.noSuchFileOrDirectory) { try volume.inode("inner", "empty") }
        #expect(try volume.contents(of: volume.inode("other", "deep")) == [7])
        #expect(try volume.inode("inner", "large") == large)
        #expect(try volume.cid(of: .root) == next)
        #expect(observer.names == ["added", "empty", "other", "small"])
        // Who has it open keeps what it was.
        #expect(try volume.read(held.handle, at: 0, count: 10) == [1, 2, 3])
        volume.release(held.handle)

        name.set(nil)
        #expect(eventually { volume.originStatus()?.lastError != nil })
        #expect(try volume.contents(of: volume.inode("top")) == [6])
        let status = try #require(volume.originStatus())
        #expect(status.isFollowed && status.nextLookAt != nil && status.root == next)
        try volume.close()
        try expectClean(directory)
    }

    @Test func aDAGBecomesAPartOfATreeByOneEntry() throws {
        let source = try OtherVolume(fillUsual)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, options(source))
        try volume.makeFile("mine", [1])
        let tree = try volume.graft(source.root, as: "tree", in: .root)
        #expect(try tree == source.root)
        // Its own root block, and nothing below it.
        #expect(source.takeCount() <= 3)
        let file = try volume.graft(
            source.root, path: [Array("inner".utf8), Array("large".utf8)], as: "file",
            in: .root)
        #expect(try file == volume.cid(of: volume.inode("file")))
        #expect(try volume.contents(of: volume.inode("file")) == large)
        #expect(try volume.contents(of: volume.inode("tree", "inner", "large")) == large)
        #expect(try volume.cid(of: volume.inode("tree")) == tree)
        #expect(throws: VolumeError.self) {
            try volume.graft(source.root, as: "tree", in: .root)
        }
        #expect(throws: VolumeError.self) {
            try volume.graft(source.root, path: [[0x78]], as: "nothing", in: .root)
        }
        // A tree of its own needs nobody else.
        _ = try volume.contents(of: volume.inode("tree", "inner", "small"))
        source.goAway()
        let own = try volume.cid(of: volume.inode("tree", "inner"))
        try volume.graft(own, as: "copy", in: .root)
        #expect(try volume.contents(of: volume.inode("copy", "large")) == large)
        #expect(try volume.contents(of: volume.inode("copy", "small")) == [1, 2, 3])
        try volume.close()
        try expectClean(directory)
    }

    @Test func aTreeThatWasFetchedWholeNeedsNobodyElse() throws {
        let source = try OtherVolume(fillUsual)
        let directory = ScratchDirectory()
        var volume = try openVolume(directory, options(source))
        try volume.graft(source.root, as: "tree", in: .root)
        var told: [UInt64] = []
        let found = try volume.fetchTree(volume.inode("tree")) { found in
            told.append(found.bytes)
            return true
        }
        #expect(found.files == 5 && found.bytes == 3_500_006 && found.cachedFiles == 0)
        #expect(told.last == found.bytes)
        let cid = try volume.cid(of: .root)
        try volume.close()
        volume = try openVolume(directory, options(nil))
        #expect(try volume.contents(of: volume.inode("tree", "inner", "large")) == large)
        #expect(try volume.contents(of: volume.inode("tree", "other", "file")) == [4, 5])
        #expect(try volume.cid(of: .root) == cid)
        try volume.close()
        try expectClean(directory)
    }

    @Test func treesOfSomebodyWhoGoesAgainAreFetchedWholeOrNotAtAll() throws {
        let source = try OtherVolume(fillUsual)
        let directory = ScratchDirectory()
        var volume = try openVolume(directory, options(nil))
        let roots = [
            try source.root, try source.volume.cid(of: source.volume.inode("inner", "large")),
        ]
        let found = try volume.importTrees(
            roots, from: source, as: "both", in: .root
        ) { _ in true }
        #expect(found.files == 6 && found.cachedFiles == 0)
        _ = try volume.importTrees([roots[1]], from: source, as: "one", in: .root) { _ in true }
        let broken = try OtherVolume {
            try $0.makeFile("half", content(seed: 2, count: 3_000_000))
        }
        let half = try broken.root
        let leaves = try broken.volume.report(of: broken.volume.inode("half")).leaves
        broken.lose(try #require(leaves.last).cid)
        for roots in [[half], [roots[1], half]] {
            #expect(throws: VolumeError.self) {
                try volume.importTrees(roots, from: broken, as: "none", in: .root) { _ in true }
            }
        }
        #expect(throws: Errno.noSuchFileOrDirectory) { try volume.inode("none") }
        try volume.close()
        volume = try openVolume(directory, options(nil))
        #expect(
            try volume.contents(of: volume.inode("both", FileName("\(roots[0])"), "inner", "large"))
                == large)
        #expect(try volume.contents(of: volume.inode("both", FileName("\(roots[1])"))) == large)
        #expect(try volume.contents(of: volume.inode("one")) == large)
        #expect(try volume.entries(of: .root).count == 2)
        try volume.close()
        try expectClean(directory)
    }

    @Test func whatCannotBeFetchedIsTold() throws {
        let source = try OtherVolume(fillUsual)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, options(source))
        try volume.graft(source.root, as: "tree", in: .root)
        source.goAway()
        #expect(throws: Errno.ioError) {
            try volume.fetchTree(volume.inode("tree")) { _ in true }
        }
        try volume.close()
        try expectClean(directory)
    }

    @Test func aPartOfTheTreeCanBeCopiedByItsCIDWhereNobodyElseIsKnown() throws {
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, options(nil))
        try fillUsual(volume)
        let cid = try volume.cid(of: volume.inode("inner"))
        try volume.graft(cid, as: "copy", in: volume.inode("other"))
        #expect(try volume.contents(of: volume.inode("other", "copy", "large")) == large)
        #expect(try volume.contents(of: volume.inode("other", "copy", "small")) == [1, 2, 3])
        #expect(try volume.contents(of: volume.inode("other", "copy", "empty")).isEmpty)
        #expect(
            try volume.readSymlink(volume.inode("other", "copy", "link")) == Array("large".utf8))
        #expect(try volume.cid(of: volume.inode("other", "copy")) == cid)
        try volume.close()
        try expectClean(directory)
    }
}
