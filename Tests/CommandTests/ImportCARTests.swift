import Base
import Foundation
import Logging
import MerkleDAG
import Multiformats
import ObjectStore
import Testing
import Volume

/// CAR files that go into volumes that are not mounted, and come out of them.
struct ImportCARTests {
    private let directory: TemporaryDirectory
    /// A volume with `file` and `directory/large`.
    private var source: String { directory.path + "/source" }
    /// A volume without a file.
    private var target: String { directory.path + "/target" }
    /// The tree of the first.
    private var archive: String { directory.path + "/tree.car" }
    private let root: String
    private static let caller = Caller(uid: 0, gid: 0, pid: 1, umask: 0o022)
    private static let content = Array("what a file holds\n".utf8)
    private static let large = (0..<(5 << 19)).map { UInt8(truncatingIfNeeded: $0 / 7 ^ $0) }

    init() throws {
        directory = try TemporaryDirectory()
        let volume = try Self.open(directory.path + "/source")
        try Self.write(Self.content, to: "file", in: .root, of: volume)
        let inner = try volume.makeDirectory(
            FileName("directory"), in: .root, mode: 0o755, caller: Self.caller)
        try Self.write(Self.large, to: "large", in: inner.inode, of: volume)
        try volume.close()
        try Self.open(directory.path + "/target").close()
        let outcome = try Program.run([
            "export-car", "--json", "--state-dir", directory.path + "/source", "-o",
            directory.path + "/tree.car",
        ])
        let report = try Self.json(outcome)
        root = try #require(report["cid"] as? String)
        let size = try FileManager.default.attributesOfItem(atPath: directory.path + "/tree.car")
        #expect(report["bytes"] as? Int == (size[.size] as? NSNumber)?.intValue)
    }

    /// A process that another test starts shares our locks from its fork to its exec, so one
    /// refusal says nothing.
    private static func open(_ path: String) throws -> Volume {
        let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        for _ in 0..<6000 {
            do throws(VolumeError) {
                return try Volume.open(stateDirectory: path, options: VolumeOptions(), log: log)
            } catch {
                guard case .stateDirectory(.inUse) = error else { throw error }
                Thread.sleep(forTimeInterval: 0.01)
            }
        }
        return try Volume.open(stateDirectory: path, options: VolumeOptions(), log: log)
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

    private static func json(_ outcome: Program.Outcome) throws -> [String: Any] {
        #expect(outcome.status == 0, "\(outcome.errors)")
        let object = try JSONSerialization.jsonObject(with: Data(outcome.output))
        return try #require(object as? [String: Any])
    }

    private func run(_ arguments: String...) throws -> Program.Outcome {
        try Program.run(arguments + ["--state-dir", target])
    }

    private func bytes(of path: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: path)))
    }

    private func make(_ bytes: [UInt8], _ name: String) throws -> String {
        let path = directory.path + "/" + name
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        return path
    }

    /// The volume has so many names in its root, and is clean.
    private func expectNames(_ count: Int) throws {
        let report = try Self.json(run("inspect", "--json"))
        #expect(report["children"] as? Int == count)
        let check = try Self.json(run("check", "--json"))
        #expect(check["clean"] as? Bool == true, "\(check)")
    }

    @Test func anArchiveBecomesATreeOfTheVolumeAndComesOutAsItWas() throws {
        let outcome = try run("import-car", archive)
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(outcome.text == root + "\n")
        #expect(try run("cid", "/tree").text == root + "\n")
        let before = try bytes(of: archive)
        try FileManager.default.removeItem(atPath: archive)
        #expect(try run("export-car", "/tree", "-o", "-").output == before)
        let cids = try Self.json(run("cid", "--json", "/tree", "/tree/file"))["cids"]
        let entries = try #require(cids as? [[String: Any]])
        #expect(entries.map { $0["path"] as? String } == ["/tree", "/tree/file"])
        #expect(entries[0]["cid"] as? String == root)
        try expectNames(1)
    }

    @Test func thePathIsChosenAndMustBeFree() throws {
        let report = try Self.json(run("import-car", archive, "--at", "/other", "--json"))
        #expect(report["path"] as? String == "/other")
        #expect(report["cids"] as? [String] == [root])
        #expect(report["files"] as? Int == 2)
        #expect(report["bytes"] as? Int == Self.content.count + Self.large.count)
        #expect(report["convertedFiles"] as? Int == 0)
        for (path, word) in [
            ("/other", "File exists"), ("/", "there already"), ("/nowhere/x", "No such file"),
            ("/other/file/x", "Not a directory"),
        ] {
            let outcome = try run("import-car", archive, "--at", path)
            #expect(outcome.status == 1)
            #expect(try #require(outcome.errorLine).contains(word))
        }
        try expectNames(1)
    }

    @Test(arguments: [1, 2])
    func severalRootsBecomeADirectoryOfAll(_ version: Int) throws {
        let parts = [[UInt8](repeating: 1, count: 10), [UInt8](repeating: 2, count: 40_000)]
        let roots = parts.map { CID.raw(sha256: $0) }
        var bytes: [UInt8] = []
        if version == 1 {
            var writer = CARWriter(roots: roots) { (piece) throws(Never) in
                bytes.append(contentsOf: piece)
            }
            for (root, part) in zip(roots, parts) { writer.write(root, part) }
        } else {
            var writer = CARv2Writer(roots: roots) { (piece, offset) throws(Never) in
                let end = Int(offset) + piece.count
                if bytes.count < end { bytes += [UInt8](repeating: 0, count: end - bytes.count) }
                bytes.replaceSubrange(Int(offset)..<end, with: piece)
            }
            for (root, part) in zip(roots, parts) { writer.write(root, part) }
            writer.finish()
        }
        let outcome = try run("import-car", try make(bytes, "both.car"))
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(outcome.text == roots.map { "\($0)\n" }.joined())
        for root in roots {
            #expect(try run("cid", "/both/\(root)").text == "\(root)\n")
        }
        try expectNames(1)
    }

    @Test func whatIsDamagedIsNamedWithItsPlaceAndNothingStays() throws {
        let whole = try bytes(of: archive)
        let leaf = CID.raw(sha256: Array(Self.large.prefix(1 << 20)))
        let start = try #require(Data(whole).range(of: Data(Self.large.prefix(64)))).lowerBound
        var flipped = whole
        flipped[start + 9] ^= 1
        // The length of a section as a varint that does not end (unsigned-varint: nine bytes at most).
        let endless = whole + [UInt8](repeating: 0xff, count: 12)
        let other = CID.raw(sha256: [7])
        let absent =
            CAR.header(of: [other]) + whole[CAR.header(of: [try CID(parsing: root)]).count...]
        for (name, bytes, words) in [
            ("cut", Array(whole.prefix(whole.count / 2)), ["at byte", "ends within the block"]),
            ("flipped", flipped, ["at byte", "not the block \(leaf)"]),
            ("endless", endless, ["at byte \(whole.count)", "malformed length"]),
            ("absent", absent, ["there is no block \(other)"]),
            ("rootless", CAR.header(of: []), ["no root"]),
            (
                "page", Array(String(repeating: "<html>not found</html>", count: 9).utf8),
                ["no header of a CAR"]
            ),
            ("empty", [], ["at byte 0"]),
        ] {
            let path = try make(bytes, name + ".car")
            let outcome = try run("import-car", path)
            #expect(outcome.status == 1, "\(name)")
            #expect(outcome.output.isEmpty)
            let line = try #require(outcome.errorLine, "\(name): \(outcome.errors)")
            for word in [path] + words { #expect(line.contains(word), "\(name): \(line)") }
        }
        let missing = try run("import-car", directory.path + "/missing.car")
        #expect(missing.status == 1)
        #expect(try #require(missing.errorLine).contains("missing.car"))
        try expectNames(0)
    }

    @Test func aTreeThatIsElsewhereIsExportedFromItsSource() throws {
        let graft = try run("import", root, "/lazy", "--car", archive)
        #expect(graft.status == 0, "\(graft.errors)")
        #expect(graft.text == root + "\n")
        let whole = try bytes(of: archive)
        for path in ["/lazy", root] {
            #expect(try run("export-car", path, "-o", "-", "--car", archive).output == whole)
            let outcome = try run("export-car", path, "-o", directory.path + "/none.car")
            #expect(outcome.status == 1)
            #expect(try #require(outcome.errorLine).contains("--gateway, --car or --kubo"))
        }
        #expect(!FileManager.default.fileExists(atPath: directory.path + "/none.car"))
        #expect(try run("block", root, "--car", archive).status == 0)
        #expect(try run("inspect", "/lazy/directory/large", "--car", archive).status == 0)
        // What was fetched whole needs no source.
        let pinned = try Self.json(
            run("import", root, "/pinned", "--pin", "--json", "--car", archive))
        #expect(pinned["files"] as? Int == 2)
        #expect(try run("export-car", "/pinned", "-o", "-").output == whole)
        try expectNames(2)
    }

    /// Wherever it is killed, all of the tree is there or nothing.
    @Test func aKillLeavesAllOrNothing() throws {
        for milliseconds in stride(from: 5, to: 300, by: 15) {
            _ = try Program.run(
                shell: """
                    "$0" import-car --state-dir "\(target)" "\(archive)" & pid=$!
                    sleep \(Double(milliseconds) / 1000)
                    kill -9 $pid 2>/dev/null
                    wait $pid
                    """)
            let outcome = try run("export-car", "/tree", "-o", directory.path + "/out.car")
            guard outcome.status != 0 else {
                #expect(try bytes(of: directory.path + "/out.car") == bytes(of: archive))
                return try expectNames(1)
            }
            try expectNames(0)
        }
    }
}

extension CAR {
    /// The header of an archive of version 1.
    fileprivate static func header(of roots: [CID]) -> [UInt8] {
        var bytes: [UInt8] = []
        _ = CARWriter(roots: roots) { (piece) throws(Never) in bytes.append(contentsOf: piece) }
        return bytes
    }
}
