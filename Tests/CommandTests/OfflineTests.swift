import Base
import Foundation
import Logging
import MerkleDAG
import Multiformats
import ObjectStore
import Testing
import Volume

/// The commands on a volume that is not mounted.
struct OfflineTests {
    private let directory: TemporaryDirectory
    private var state: String { directory.path + "/state" }
    private static let caller = Caller(uid: 0, gid: 0, pid: 1, umask: 0o022)
    private static let content = Array("what a file holds\n".utf8)
    /// More than one leaf.
    private static let large = [UInt8](repeating: 7, count: 3 << 20)

    /// Makes a volume with `file`, `directory/large`, and the symlinks `link` and `away`.
    init() throws {
        directory = try TemporaryDirectory()
        let volume = try open()
        try Self.write(Self.content, to: "file", in: .root, of: volume)
        let inner = try volume.makeDirectory(
            FileName("directory"), in: .root, mode: 0o755, caller: Self.caller)
        try Self.write(Self.large, to: "large", in: inner.inode, of: volume)
        for (name, target) in [("link", "directory"), ("away", "/etc")] {
            _ = try volume.makeSymlink(
                FileName(name), in: .root, target: Array(target.utf8), caller: Self.caller)
        }
        try volume.close()
    }

    /// A process that another test starts shares our locks from its fork to its exec, so one
    /// refusal says nothing.
    private func open() throws -> Volume {
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
        // O_WRONLY.
        let (_, file) = try volume.create(
            FileName(name), in: parent, mode: 0o644, flags: OpenFlags(rawValue: 1), caller: caller)
        _ = try bytes.withUnsafeBytes { buffer in
            try volume.write(file.handle, at: 0, buffer, clearSetID: false)
        }
        volume.release(file.handle)
    }

    private func run(_ command: String, _ arguments: String...) throws -> Program.Outcome {
        try Program.run([command, "--state-dir", state] + arguments)
    }

    @Test func cidIsThatOfTheBytes() throws {
        let outcome = try run("cid", "/file")
        #expect(outcome.status == 0)
        #expect(outcome.text == CID.raw(sha256: Self.content).description + "\n")
    }

    @Test func cidsOfSeveralPathsTellWhichIsWhose() throws {
        let lines = try run("cid", "/", "/link/large").text.split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines[0].hasSuffix(" /"))
        #expect(lines[1].hasSuffix(" /link/large"))
        let large = try run("cid", "directory/large").text
        #expect(lines[1].dropLast(" /link/large".count) == large.dropLast())
    }

    @Test func oneFailedPathDoesNotSilenceTheOthers() throws {
        let outcome = try run("cid", "/missing", "/file")
        #expect(outcome.status == 1)
        #expect(outcome.text.hasSuffix(" /file\n"))
        #expect(try #require(outcome.errorLine).contains("/missing"))
    }

    @Test func aSymlinkOutOfTheVolumeIsAFailure() throws {
        let outcome = try run("cid", "/away/passwd")
        #expect(outcome.status == 1)
        #expect(try #require(outcome.errorLine).contains("leads out"))
    }

    @Test func inspectTellsTheLeaves() throws {
        let cid = try run("cid", "/directory/large").text.dropLast()
        let outcome = try run("inspect", "--json", "/directory/large")
        #expect(outcome.status == 0)
        let object = try JSONSerialization.jsonObject(with: Data(outcome.output))
        let report = try #require(object as? [String: Any])
        #expect(report["name"] as? String == "large")
        #expect(report["kind"] as? String == "file")
        #expect(report["cid"] as? String == String(cid))
        #expect(report["size"] as? Int == Self.large.count)
        #expect(report["leafCount"] as? Int == 3)
        let leaves = try #require(report["leaves"] as? [[String: Any]])
        let leaf = CID.raw(sha256: Array(Self.large.prefix(1 << 20))).description
        #expect(leaves.map { $0["cid"] as? String } == [leaf, leaf, leaf])
        #expect(leaves.map { $0["offset"] as? Int } == [0, 1 << 20, 2 << 20])
    }

    @Test func inspectOfADirectoryCountsItsEntries() throws {
        let outcome = try run("inspect", "--json", "/")
        let object = try JSONSerialization.jsonObject(with: Data(outcome.output))
        let report = try #require(object as? [String: Any])
        #expect(report["kind"] as? String == "directory")
        #expect(report["children"] as? Int == 4)
    }

    @Test func blockIsTheBytesOfTheLeaf() throws {
        let cid = CID.raw(sha256: Self.content)
        #expect(try run("cid", "/file").status == 0)
        let outcome = try run("block", cid.description)
        #expect(outcome.status == 0)
        #expect(outcome.output == Self.content)
    }

    @Test func aBlockThatIsNotHereIsNamed() throws {
        let cid = CID.raw(sha256: Array("nobody has this".utf8))
        let outcome = try run("block", cid.description)
        #expect(outcome.status == 1)
        #expect(outcome.output.isEmpty)
        let line = try #require(outcome.errorLine)
        #expect(line.contains(cid.description))
        #expect(line.contains(state))
    }

    @Test func exportHoldsTheWholeTree() throws {
        let file = directory.path + "/tree.car"
        let outcome = try run("export-car", "/", "-o", file)
        #expect(outcome.status == 0, "\(outcome.errors)")
        let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: file)))
        #expect(bytes == (try run("export-car", "/", "-o", "-").output))
        // Content that is in the tree once is in the archive once.
        for part in [Self.content, Array(Self.large.prefix(1 << 20))] {
            #expect(Data(bytes).range(of: Data(part)) != nil)
        }
        #expect(bytes.count < 2 << 20)
    }

    @Test func aFailedExportLeavesWhatWasThere() throws {
        let file = directory.path + "/tree.car"
        try Data("older".utf8).write(to: URL(fileURLWithPath: file))
        let cid = CID.raw(sha256: Array("nobody has this".utf8))
        #expect(try run("export-car", cid.description, "-o", file).status == 1)
        #expect(try Data(contentsOf: URL(fileURLWithPath: file)) == Data("older".utf8))
        let names = try FileManager.default.contentsOfDirectory(atPath: directory.path)
        #expect(names.sorted() == ["state", "tree.car"])
    }

    @Test func checkOfASoundVolumeIsClean() throws {
        let outcome = try run("check")
        #expect(outcome.status == 0, "\(outcome.text) \(outcome.errors)")
    }

    @Test(arguments: ["cid /file", "inspect /file", "block bafkqaaa", "check"])
    func aVolumeInUseIsRefusedWithItsHolder(_ command: String) throws {
        let volume = try open()
        let words = command.split(separator: " ").map(String.init)
        let outcome = try Program.run([words[0], "--state-dir", state] + words.dropFirst())
        try volume.close()
        #expect(outcome.status == (words[0] == "check" ? 2 : 1))
        let line = try #require(outcome.errorLine)
        #expect(line.contains(state))
        #expect(line.contains("\(ProcessInfo.processInfo.processIdentifier)"))
    }
}
