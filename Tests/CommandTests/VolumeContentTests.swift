import Base
import Foundation
import Glibc
import Logging
import Multiformats
import ObjectStore
import Serving
import Testing
import Volume
import registryfs

/// A volume, as it is served.
@Suite struct VolumeContentTests {
    private static let caller = Caller(uid: 0, gid: 0, pid: 1, umask: 0o022)
    private static let small = Array("what a file holds\n".utf8)
    private static let large = [UInt8](repeating: 7, count: 3 << 20)

    private let directory: TemporaryDirectory
    private let volume: Volume
    private let content: VolumeContent

    /// Makes a volume with `small`, `directory/large`, `link`, and an upload under way in `_uploads`.
    init() throws {
        directory = try TemporaryDirectory()
        volume = try Self.open(directory.path + "/state")
        content = VolumeContent(volume: volume)
        try Self.write(Self.small, to: "small", in: .root, of: volume)
        let inner = try volume.makeDirectory(
            FileName("directory"), in: .root, mode: 0o755, caller: Self.caller)
        try Self.write(Self.large, to: "large", in: inner.inode, of: volume)
        _ = try volume.makeSymlink(
            FileName("link"), in: .root, target: Array("small".utf8), caller: Self.caller)
        let uploads = try volume.makeDirectory(
            FileName("_uploads"), in: .root, mode: 0o755, caller: Self.caller)
        try Self.write(Array("half a layer".utf8), to: "data", in: uploads.inode, of: volume)
    }

    /// A process that another test starts shares our locks from its fork to its exec, so one
    /// refusal says nothing.
    private static func open(_ state: String) throws -> Volume {
        let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        for _ in 0..<6000 {
            do throws(VolumeError) {
                return try Volume.open(stateDirectory: state, options: VolumeOptions(), log: log)
            } catch {
                guard case .stateDirectory(.inUse) = error else { throw error }
                Thread.sleep(forTimeInterval: 0.01)
            }
        }
        return try Volume.open(stateDirectory: state, options: VolumeOptions(), log: log)
    }

    private static func write(
        _ bytes: [UInt8], to name: String, in parent: Inode, of volume: Volume
    ) throws {
        let (_, file) = try volume.create(
            FileName(name), in: parent, mode: 0o644, flags: OpenFlags(rawValue: O_WRONLY),
            caller: caller)
        _ = try bytes.withUnsafeBytes { buffer in
            try volume.write(file.handle, at: 0, buffer, clearSetID: false)
        }
        volume.release(file.handle)
    }

    private func path(_ names: String...) -> [[UInt8]] { names.map { Array($0.utf8) } }

    private func fault<Value>(_ body: () throws(ServeFault) -> Value) -> ServeFault? {
        do throws(ServeFault) {
            _ = try body()
            return nil
        } catch {
            return error
        }
    }

    @Test func namesLeadToWhatTheyAre() throws {
        defer { try? volume.close() }
        let tree = content.tree
        #expect(
            try tree.entry(at: path("small"))
                == .file(CID.raw(sha256: Self.small), size: UInt64(Self.small.count)))
        #expect(try tree.entry(at: path("directory")) == .directory)
        #expect(try tree.entry(at: []) == .directory)
        #expect(try tree.entry(at: path("link")) == .symlink(target: Array("small".utf8)))
        #expect(try tree.entry(at: path("missing")) == nil)
        #expect(try tree.entry(at: path("small", "below")) == nil)
        #expect(try tree.names(at: path("small")) == nil)
        let names = try #require(try tree.names(at: []))
        #expect(
            names.map { String(decoding: $0.name, as: UTF8.self) } == [
                "directory", "link", "small",
            ])
        #expect(names.map(\.mayBeDirectory) == [true, false, false])
    }

    @Test func uploadsAreGivenByNoName() throws {
        defer { try? volume.close() }
        #expect(try content.tree.entry(at: path("_uploads")) == nil)
        #expect(try content.tree.entry(at: path("_uploads", "data")) == nil)
        #expect(try content.tree.names(at: path("_uploads")) == nil)
        let data = CID.raw(sha256: Array("half a layer".utf8))
        #expect(
            fault { () throws(ServeFault) in
                try content.block(data, scope: .tree, reach: .everywhere)
            } == .notFound)
        #expect(try content.has(data, scope: .tree) == false)
    }

    @Test func bytesAreGivenAsTheyLie() throws {
        defer { try? volume.close() }
        guard case .file(let cid, let size) = try content.tree.entry(at: path("directory", "large"))
        else {
            Issue.record("it is no file")
            return
        }
        #expect(size == UInt64(Self.large.count))
        let whole = try #require(try content.wholeFile(cid, scope: .tree))
        guard case .file(let range) = whole else {
            Issue.record("a large file is not lent")
            return
        }
        #expect(range.offset == 0 && range.count == size)
        let leaf = CID.raw(sha256: Array(Self.large.prefix(1 << 20)))
        let block = try content.block(leaf, scope: .tree, reach: .here)
        #expect(try block.read() == Array(Self.large.prefix(1 << 20)))
        #expect(try content.has(leaf, scope: .tree))
        let root = try content.root()
        let node = try content.block(root, scope: .tree, reach: .here).read()
        #expect(throws: Never.self) { try node.withUnsafeBytes { try root.verify($0) } }
    }

    @Test func whatIsNowhereIsNotFoundWhereverItIsLookedFor() throws {
        defer { try? volume.close() }
        let missing = CID.raw(sha256: [1, 2, 3])
        for scope in [BlockScope.tree, .any] {
            for reach in [BlockReach.here, .everywhere] {
                #expect(
                    fault { () throws(ServeFault) in
                        try content.block(missing, scope: scope, reach: reach)
                    } == .notFound)
            }
            #expect(try content.wholeFile(missing, scope: scope) == nil)
        }
    }
}
