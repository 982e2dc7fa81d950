import Foundation
import Testing

/// Keys and records without a mount.
struct NameTests {
    private static let root = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"

    /// A state directory as far as these commands look at it.
    private func stateDirectory() throws -> TemporaryDirectory {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/manifest.sqlite"
        #expect(FileManager.default.createFile(atPath: path, contents: nil))
        return directory
    }

    private func json(_ outcome: Program.Outcome) throws -> [String: Any] {
        #expect(outcome.status == 0, "\(outcome.errors)")
        let object = try JSONSerialization.jsonObject(with: Data(outcome.output))
        return try #require(object as? [String: Any])
    }

    @Test func aRecordThatIsPublishedIsResolved() throws {
        let state = try stateDirectory()
        let option = ["--state-dir", state.path]
        let made = try Program.run(["key", "generate", "one"] + option)
        #expect(made.status == 0)
        let name = made.text.trimmingCharacters(in: .whitespacesAndNewlines)
        #expect(name.hasPrefix("k51"))
        for sequence in 0...2 {
            let report = try json(
                try Program.run(
                    ["publish", "--key", "one", "--json", "--ttl", "1m", Self.root] + option))
            #expect(report["sequence"] as? Int == sequence)
            #expect(report["name"] as? String == name)
            #expect(report["ttlSeconds"] as? Int == 60)
            #expect(report["kubo"] == nil)
            let record = try #require(report["record"] as? String)
            let found = try json(
                try Program.run(["resolve", "ipns://\(name)/a%20b", "--record", record, "--json"]))
            #expect(found["path"] as? String == "/ipfs/\(Self.root)/a b")
            #expect(found["root"] as? String == Self.root)
            #expect((found["steps"] as? [Any])?.count == 1)
        }
        let list = try Program.run(["key", "list"] + option)
        #expect(list.text.hasPrefix("one \(name) /ipfs/\(Self.root), sequence 2, until "))
    }

    @Test func contentIsResolvedToItself() throws {
        let outcome = try Program.run(["resolve", "/ipfs/\(Self.root)/a"])
        #expect(outcome.status == 0)
        #expect(outcome.text == "/ipfs/\(Self.root)/a\n")
    }

    @Test func keysAreExportedAndImported() throws {
        let state = try stateDirectory()
        let option = ["--state-dir", state.path]
        let made = try json(try Program.run(["key", "generate", "--json"] + option))
        #expect(made["key"] as? String == "self")
        let name = try #require(made["name"] as? String) + "\n"
        for format in ["libp2p", "pem"] {
            let file = "\(state.path)/export-\(format)"
            let outcome = try Program.run(
                ["key", "export", "--format", format, "-o", file] + option)
            #expect(outcome.status == 0 && outcome.output.isEmpty)
            let attributes = try FileManager.default.attributesOfItem(atPath: file)
            #expect((attributes[.posixPermissions] as? NSNumber)?.intValue == 0o600)
            #expect(try Program.run(["key", "import", format, file] + option).text == name)
            // Neither a file nor a key is replaced.
            for arguments in [["export", "-o", file], ["import", format, file]] {
                #expect(try Program.run(["key"] + arguments + option).status == 1)
            }
        }
        let missing = try Program.run(["key", "export", "none", "-o", "-"] + option)
        #expect(missing.status == 1)
        #expect(try #require(missing.errorLine).contains("'none'"))
    }

    @Test func aNodeThatIsAwayTakesNoRecordWhichIsKept() throws {
        let state = try stateDirectory()
        let option = ["--state-dir", state.path]
        _ = try Program.run(["key", "generate"] + option)
        let outcome = try Program.run(["publish", "--kubo", "127.0.0.1:1", Self.root] + option)
        #expect(outcome.status == 1)
        #expect(try #require(outcome.errorLine).contains("kept"))
        #expect(outcome.text.contains("handed to nobody"))
    }
}
