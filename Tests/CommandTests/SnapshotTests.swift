import Foundation
import Testing

/// What the commands for snapshots print of what a daemon tells, which may lie.
struct SnapshotTests {
    private let directory: TemporaryDirectory
    private var state: String { directory.path + "/state" }
    private static let cid = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"

    init() throws {
        directory = try TemporaryDirectory()
        try FileManager.default.createDirectory(
            atPath: state, withIntermediateDirectories: false,
            attributes: [.posixPermissions: 0o700])
        // Without it nobody takes it for a state directory.
        #expect(FileManager.default.createFile(atPath: state + "/manifest.sqlite", contents: nil))
    }

    /// Runs `snapshot` with arguments against a daemon that answers with data, and with the members of the end.
    private func run(
        _ arguments: [String], data: [[UInt8]] = [], end: String = "{}"
    ) throws -> Program.Outcome {
        let pieces = data.flatMap { Array("{\"data\":\($0.count)}\n".utf8) + $0 }
        let done = "{\"done\":{\"version\":1,\"snapshots\":\(end)}}\n"
        let daemon = try FalseDaemon(stateDirectory: state, answer: pieces + Array(done.utf8))
        defer { daemon.end() }
        return try Program.run(["snapshot"] + arguments + ["--state-dir", state])
    }

    private static func report(
        _ name: String, size: Int = 5000, message: String? = nil, root: String = cid
    ) -> String {
        let words = message.map { ",\"message\":\"\($0)\"" } ?? ""
        return "{\"name\":\"\(name)\",\"root\":\"\(root)\",\"size\":\(size),"
            + "\"created\":\"2026-11-29T08:45:00.000Z\",\"automatic\":false\(words)}"
    }

    private static func lines(_ reports: String...) -> [UInt8] {
        Array(reports.map { $0 + "\n" }.joined().utf8)
    }

    @Test func whatIsMadeIsToldByItsNameAndCID() throws {
        let end = "{\"snapshot\":\(Self.report("one"))}"
        let outcome = try run(["create", "one"], end: end)
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(outcome.text == "one \(Self.cid)\n")
        let json = try run(["create", "--json"], end: end)
        let object = try JSONSerialization.jsonObject(with: Data(json.output))
        let report = try #require(object as? [String: Any])
        #expect(report["name"] as? String == "one")
        #expect(report["root"] as? String == Self.cid)
        #expect(report["size"] as? Int == 5000)
    }

    @Test func aListIsATable() throws {
        // Pieces need not end where lines do.
        let bytes = Self.lines(
            Self.report("first", message: "before the change"), Self.report("second-one", size: 5))
        let outcome = try run(["list"], data: [Array(bytes[..<40]), Array(bytes[40...])])
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(
            outcome.text == """
                first       2026-11-29T08:45:00.000Z  4.8 KiB  before the change
                second-one  2026-11-29T08:45:00.000Z  5 B

                """)
        let json = try run(["list", "--json"], data: [bytes])
        let object = try JSONSerialization.jsonObject(with: Data(json.output))
        let list = try #require((object as? [String: Any])?["snapshots"] as? [[String: Any]])
        #expect(list.map { $0["name"] as? String } == ["first", "second-one"])
        #expect(try run(["list"]).text == "no snapshots\n")
    }

    @Test func wordsOfOthersDoNotReachTheTerminal() throws {
        let nasty = Self.report("a\\u001b[2Jb", message: "\\u202e\\u0007\\nx")
        for arguments in [["list"], ["prune", "--keep-last", "1"], ["delete", "a"]] {
            let outcome = try run(arguments, data: [Self.lines(nasty)])
            #expect(outcome.status == 0, "\(outcome.errors)")
            #expect(outcome.text.split(separator: "\n").count == 1)
            #expect(outcome.text.contains("a\\x1b[2Jb"))
            #expect(
                !outcome.text.unicodeScalars.contains { $0.value == 0x1b || $0.value == 0x202e })
        }
        let shown = try run(["show", "a"], end: "{\"snapshot\":\(nasty)}")
        #expect(shown.text.contains("\\u{202e}\\x07\\x0ax"))
        let noCID = Self.report("a", root: "\\u001b[2J")
        let made = try run(["create"], end: "{\"snapshot\":\(noCID)}")
        #expect(made.status == 1 && made.output.isEmpty)
        #expect(try #require(made.errorLine).contains("is not a CID"))
    }

    @Test func differencesComeInLinesForPeopleOrPrograms() throws {
        let records: [[UInt8]] = [
            Array("+ new/\0+ new/a".utf8), Array(" b\0- \u{1b}[2J\0M ".utf8),
            [0xff, 0x0a, 0], Array("M -x\0".utf8),
        ]
        let outcome = try run(["diff", "a", "."], data: records)
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(
            outcome.text == """
                + new/
                + new/a b
                - \\x1b[2J
                M \\xff\\x0a
                M -x

                """)
        let json = try run(["diff", "a", Self.cid, "--json"], data: records)
        let lines = try json.text.split(separator: "\n").map {
            try #require(
                try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
        #expect(
            lines.map { $0["change"] as? String } == [
                "added", "added", "removed", "changed", "changed",
            ])
        #expect(lines.map { $0["directory"] as? Bool } == [true, false, false, false, false])
        #expect(lines[1]["path"] as? String == "new/a b")
        let none = try run(["diff", "a", "b"])
        #expect(none.status == 0 && none.output.isEmpty)
    }

    @Test(arguments: ["x path\0", "+path\0", "+ \0", "\0", "+ /\0"])
    func whatIsNoDifferenceIsNotPrinted(_ record: String) throws {
        let outcome = try run(["diff", "a", "b"], data: [Array(record.utf8)])
        #expect(outcome.status == 1 && outcome.output.isEmpty)
        #expect(outcome.errorLine != nil)
    }

    @Test func aLineWithoutAnEndIsNotGathered() throws {
        let piece = [UInt8](repeating: UInt8(ascii: "x"), count: 1 << 20)
        let outcome = try run(["diff", "a", "b"], data: Array(repeating: piece, count: 6))
        #expect(outcome.status == 1 && outcome.output.isEmpty)
        #expect(try #require(outcome.errorLine).contains("without an end"))
    }

    @Test func restoreTellsCounts() throws {
        let end = "{\"restored\":{\"added\":1,\"changed\":22,\"removed\":0}}"
        let outcome = try run(["restore", "a", "b/c"], end: end)
        #expect(outcome.text == "1 added, 22 changed, 0 removed\n")
        let json = try run(["restore", "a", "--json"], end: end)
        let object = try JSONSerialization.jsonObject(with: Data(json.output))
        #expect(object as? [String: Int] == ["added": 1, "changed": 22, "removed": 0])
    }

    @Test func pathsThatLeadUpAreRefused() throws {
        let outcome = try run(["restore", "a", "b/../c"])
        #expect(outcome.status == 1 && outcome.output.isEmpty)
        #expect(try #require(outcome.errorLine).contains("'..'"))
    }

    @Test func whatIsDeletedIsToldOneALine() throws {
        let data = [Self.lines(Self.report("one"), Self.report("two"))]
        for arguments in [["delete", "one", "two", "one"], ["prune", "--keep-last", "3"]] {
            #expect(try run(arguments, data: data).text == "one\ntwo\n")
        }
        let json = try run(
            ["prune", "--keep-daily", "3", "--dry-run", "--json"], data: data, end: "{\"kept\":3}")
        let object = try JSONSerialization.jsonObject(with: Data(json.output))
        let report = try #require(object as? [String: Any])
        #expect(report["deleted"] as? [String] == ["one", "two"])
        #expect(report["kept"] as? Int == 3)
        #expect(report["dryRun"] as? Bool == true)
    }

    @Test func aFailureOfTheDaemonIsTheCommands() throws {
        let failed =
            "{\"failed\":{\"version\":1,\"kind\":\"failed\",\"message\":\"no snapshot 'x'\"}}\n"
        let daemon = try FalseDaemon(stateDirectory: state, answer: Array(failed.utf8))
        defer { daemon.end() }
        for arguments in [["show", "x"], ["restore", "x"], ["diff", "x", "."], ["delete", "x"]] {
            let outcome = try Program.run(["snapshot"] + arguments + ["--state-dir", state])
            #expect(outcome.status == 1 && outcome.output.isEmpty)
            #expect(outcome.errorLine == "registryfs: no snapshot 'x'")
        }
        let file = directory.path + "/tree.car"
        let outcome = try Program.run([
            "snapshot", "export", "x", "-o", file, "--state-dir", state,
        ])
        #expect(outcome.status == 1)
        #expect(!FileManager.default.fileExists(atPath: file))
    }
}
