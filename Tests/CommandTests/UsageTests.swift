import Foundation
import Testing

/// What the commands say where nothing is mounted.
struct UsageTests {
    @Test func versionNamesTheProgram() throws {
        let outcome = try Program.run(["--version"])
        #expect(outcome.status == 0)
        #expect(outcome.text.hasPrefix("registryfs "))
    }

    @Test func helpNamesEveryCommand() throws {
        let text = try Program.run(["--help"]).text
        for command in [
            "mount", "unmount", "status", "cid", "inspect", "block", "export-car", "check",
            "import", "import-car", "resolve", "key", "publish", "snapshot", "grafts",
            "export-static",
        ] {
            #expect(text.contains("\n  \(command) "))
        }
    }

    @Test(arguments: [
        (["mount"], "mountpoint"), (["mount", "--nonsense", "/mnt"], "--nonsense"),
        (["frobnicate"], "frobnicate"), (["cid"], "paths"), (["export-car", "x"], "--output"),
        (["mount", "--profile", "unixfs-v9", "/mnt"], "unixfs-v9"),
        (["mount", "--log-level", "loud", "/mnt"], "loud"),
        (["mount", "-o", "ro,nonsense=1", "/mnt"], "nonsense"),
        (["mount", "-o", "threads=0", "/mnt"], "threads=0"),
        (["resolve"], "name"), (["resolve", "nonsense"], "dot"), (["resolve", "a.car"], "file"),
        (["resolve", "ipfs://bafkqaaa?x"], "%3F"),
        (["resolve", "a.b", "--dns", "x"], "name server"),
        (["resolve", "a.b", "--dns", "http://a.b/"], "https://"),
        (["resolve", "a.b", "--gateway", "a.b"], "gateway"),
        (["resolve", "a.b", "--timeout", "0"], "--timeout"),
        (["resolve", "a.b", "--kubo-auth-file", "x"], "--kubo"),
        (["key", "generate", "a/b"], "a/b"), (["key", "export"], "--output"),
        (["key", "export", "-o", "x", "--format", "der"], "der"), (["key", "import", "x"], "file"),
        (["export-car", "-o", "-", "--json"], "--json"), (["import", "bafkqaaa"], "path"),
        (["import-car"], "file"), (["import-car", "/.car"], "--at"),
        (["import-car", "a.car", "/mnt", "--state-dir", "/x"], "--state-dir"),
        (["cid", "/x", "--gateway", "a.b", "--state-dir", "/x"], "gateway"),
        (["block", "x", "--kubo-auth-file", "x"], "--kubo"),
        (["publish", "--key", ".", "bafkqaaa"], "'.'"),
        (["publish", "--lifetime", "0s", "bafkqaaa"], "--lifetime"),
        (["publish", "--lifetime", "1h", "--ttl", "2h", "bafkqaaa"], "--ttl"),
        (["publish", "--ttl", "5", "bafkqaaa"], "--ttl"),
        (["publish", "--offline", "--kubo", "auto", "bafkqaaa"], "--offline"),
        (["publish", "--watch", "bafkqaaa"], "--watch"),
        (["serve", "--socket-mode", "0660"], "unix:"),
        (
            ["serve", "--listen", "unix:/tmp/x", "--socket-mode", "9", "--from", "bafkqaaa"],
            "octal"
        ),
        (
            [
                "serve", "--listen", "unix:/tmp/x", "--socket-mode", "1777", "--from", "bafkqaaa",
            ], "octal"
        ),
        (["mount", "--pull-through", "com", "/mnt"], "*.example.com"),
        (["mount", "--pull-through", "10.0.0.1", "/mnt"], "'10.0.0.1'"),
        (["mount", "-o", "pull-through=Example.com", "/mnt"], "lower case"),
        (["mount", "--pull-through", "*", "--read-only", "/mnt"], "--read-only"),
        (["mount", "--pull-through", "*", "--pull-through-ttl", "1h..30s", "/mnt"], "30s..1h"),
        (["mount", "--pull-through", "*", "--pull-through-ttl", "5", "/mnt"], "30s..1h"),
        (["mount", "--pull-through", "*", "--pull-through-timeout", "0", "/mnt"], "0.1 to 600"),
        (["mount", "--pull-through-ttl", "30s..1h", "/mnt"], "--pull-through PATTERN"),
        (["mount", "--pull-through-insecure", "/mnt"], "--pull-through PATTERN"),
        (
            [
                "mount", "--pull-through", "*", "--kubo", "127.0.0.1:5001", "--mfs-path", "/x",
                "/mnt",
            ],
            "source alone"
        ),
        (["grafts", "frobnicate", "x"], "frobnicate"), (["grafts", "add"], "ref"),
        (["grafts", "add", "tree.car"], "import-car"), (["grafts", "add", "a_b.is"], "a_b.is"),
        (["grafts", "add", "nonsense"], "dot"), (["grafts", "pin"], "name"),
        (["grafts", "remove"], "name"), (["grafts", "refresh"], "name"),
        (["publish", "--repo", "a/*", "bafkqaaa"], "--domain"),
        (["publish", "--domain", "localhost"], "dot"),
        (["publish", "--domain", "a.b", "--repo", "a:v1"], "without a tag"),
        (["publish", "--domain", "a.b", "--repo", "A"], "'A' is no repository"),
        (["publish", "--domain", "a.b", "--gateway-url", "x"], "--gateway-url"),
        (["publish", "--domain", "a.b", "--check", "--watch"], "--check"),
        (["export-static"], "repositories"), (["export-static", "/mnt"], "which repositories"),
        (["export-static", "a", "/mnt", "/srv"], "one mount point"),
        (["export-static", "a//b"], "'a//b' is no repository"),
        (["export-static", "a", "--at", "x", "--dir", "y"], "--dir"),
        (["export-static", "a", "--at", "../x"], "without '..'"),
        (["publish", "--key", ".", "bafkqaaa"], "'.'"),
        (["publish", "--lifetime", "0s", "bafkqaaa"], "--lifetime"),
        (["publish", "--lifetime", "1h", "--ttl", "2h", "bafkqaaa"], "--ttl"),
        (["publish", "--ttl", "5", "bafkqaaa"], "--ttl"),
        (["publish", "--offline", "--kubo", "auto", "bafkqaaa"], "--offline"),
        (["publish", "--watch", "bafkqaaa"], "--watch"),
        (["snapshot", "frobnicate"], "frobnicate"),
        (["snapshot", "create", "a/b"], "'a/b'"), (["snapshot", "create", ""], "1 to 128"),
        (["snapshot", "create", ".x"], "'.x'"),
        (["snapshot", "create", String(repeating: "n", count: 129)], "1 to 128"),
        (["snapshot", "create", "--message", String(repeating: "m", count: 4097)], "--message"),
        (["snapshot", "show"], "name"), (["snapshot", "show", "a b"], "'a b'"),
        (["snapshot", "diff", "a"], "new"), (["snapshot", "diff", "a", ".."], "'..'"),
        (["snapshot", "restore", "a", ""], "path"), (["snapshot", "restore"], "name"),
        (["snapshot", "delete"], "names"), (["snapshot", "delete", "a", "ö"], "'ö'"),
        (["snapshot", "prune"], "--keep-last"),
        (["snapshot", "prune", "--keep-daily", "0"], "--keep-daily"),
        (["snapshot", "prune", "--keep-last", "many"], "many"),
        (["snapshot", "prune", "--dry-run"], "rule"),
        (["snapshot", "export", "a"], "--output"),
        (["snapshot", "export", "a", "-o", "-", "--json"], "--json"),
        (["snapshot", "list", "--at", "/mnt", "--state-dir", "/state"], "--at"),
        (["mount", "--snapshot-every", "soon", "/mnt"], "--snapshot-every"),
        (["mount", "--snapshot-every", "0s", "/mnt"], "--snapshot-every"),
        (["mount", "--snapshot-keep-last", "3", "/mnt"], "--snapshot-every"),
        (["mount", "--snapshot-every", "1h", "--snapshot-keep-daily", "0", "/mnt"], "daily"),
        (["mount", "-o", "snapshot-every=1x", "/mnt"], "snapshot-every"),
        (["mount", "-o", "snapshot-every=1h,snapshot-keep-last=x", "/mnt"], "snapshot-keep-last"),
        (["mount", "-o", "snapshot-every=1h,ro", "/mnt"], "--read-only"),
        (["mount", "--snapshot-every", "1h", "--read-only", "/mnt"], "--read-only"),
    ])
    func wrongUsageIsOneLineThatNamesIt(_ arguments: [String], word: String) throws {
        let outcome = try Program.run(arguments)
        #expect(outcome.status == 64)
        let line = try #require(outcome.errorLine)
        #expect(line.hasPrefix("registryfs: "))
        #expect(line.contains(word))
    }

    @Test func mountOnAMissingDirectoryMakesNoStateDirectory() throws {
        let directory = try TemporaryDirectory()
        let outcome = try Program.run([
            "mount", "--state-dir", directory.path + "/state", directory.path + "/missing",
        ])
        #expect(outcome.status == 1)
        #expect(try #require(outcome.errorLine).contains(directory.path + "/missing"))
        #expect(!FileManager.default.fileExists(atPath: directory.path + "/state"))
    }

    @Test func aServerWhoseDaemonIsGoneDoesNotServe() throws {
        // Whoever has this number did not start it: as where the daemon ended before the server asked who its parent is.
        let other = ProcessInfo.processInfo.processIdentifier == 1 ? 2 : 1
        let outcome = try Program.run([
            "serve", "--supervised-by", "\(other)", "--listen", "127.0.0.1:0", "--from",
            "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354", "--gateway",
            "http://127.0.0.1:9",
        ])
        #expect(outcome.status == 1)
        #expect(try #require(outcome.errorLine).contains("gone already"))
    }

    @Test func credentialsOverPlainHTTPAreRefusedWithAWordOnWhatToDo() throws {
        let directory = try TemporaryDirectory()
        let outcome = try Program.run(
            shell: "REGISTRYFS_KUBO_AUTH=bearer:s3cret exec \"$0\" mount "
                + "--kubo http://192.0.2.1:5001 --state-dir \(directory.path)/state "
                + "\(directory.path)/missing")
        #expect(outcome.status == 64)
        let line = try #require(outcome.errorLine)
        #expect(line.contains("https") && line.contains("--kubo-auth-over-http"))
        #expect(!line.contains("s3cret"))
    }

    @Test(arguments: [("", "/inner"), ("/inner", ""), ("", "")])
    func mountPointAndStateDirectoryNeverNest(_ point: String, _ state: String) throws {
        let directory = try TemporaryDirectory()
        try FileManager.default.createDirectory(
            atPath: directory.path + "/inner", withIntermediateDirectories: true)
        let outcome = try Program.run([
            "mount", "--state-dir", directory.path + state, directory.path + point,
        ])
        #expect(outcome.status == 1)
        #expect(try #require(outcome.errorLine).contains("within"))
    }

    @Test func aSymlinkDoesNotHideThatTheyNest() throws {
        let directory = try TemporaryDirectory()
        let files = FileManager.default
        try files.createDirectory(
            atPath: directory.path + "/point", withIntermediateDirectories: true)
        try files.createSymbolicLink(
            atPath: directory.path + "/link", withDestinationPath: "point")
        let outcome = try Program.run([
            "mount", "--state-dir", directory.path + "/link/state", directory.path + "/point",
        ])
        #expect(outcome.status == 1)
        #expect(try #require(outcome.errorLine).contains("within"))
    }

    @Test func statusOfAVolumeThatIsNotMountedIsEmpty() throws {
        let directory = try TemporaryDirectory()
        let outcome = try Program.run(["status", "--json", "--state-dir", directory.path])
        #expect(outcome.status == 0)
        let object = try JSONSerialization.jsonObject(with: Data(outcome.output))
        let mounts = try #require((object as? [String: Any])?["mounts"] as? [Any])
        #expect(mounts.isEmpty)
    }

    @Test func checkOfAMissingDirectoryExitsWith2() throws {
        let directory = try TemporaryDirectory()
        for path in [directory.path, directory.path + "/missing"] {
            let outcome = try Program.run(["check", "--state-dir", path])
            #expect(outcome.status == 2)
            #expect(try #require(outcome.errorLine).contains(path))
        }
    }

    @Test(arguments: ["", "nonsense", "Qm", "bafkrei", "bafkreia7tzxs33fcfgtfvvyc5qz6tkr!"])
    func aMalformedCIDIsNamed(_ text: String) throws {
        let outcome = try Program.run(["block", text])
        #expect(outcome.status == 1)
        #expect(outcome.output.isEmpty)
        #expect(try #require(outcome.errorLine).contains("'\(text)' is not a CID"))
    }

    @Test(arguments: ["cid", "inspect"])
    func aPathThatIsOnNoMountIsNamed(_ command: String) throws {
        let directory = try TemporaryDirectory()
        let outcome = try Program.run([command, directory.path])
        #expect(outcome.status == 1)
        #expect(try #require(outcome.errorLine).contains(directory.path))
    }

    @Test func bytesThatAreNotTextAreShownOnOneLine() throws {
        let outcome = try Program.run(shell: #""$0" cid $'/a\xff\nb'"#)
        #expect(outcome.status == 1)
        #expect(try #require(outcome.errorLine).contains(#"/a\xff\x0ab"#))
    }

    @Test func unmountOfAnOrdinaryDirectoryIsRefused() throws {
        let directory = try TemporaryDirectory()
        let outcome = try Program.run(["unmount", directory.path])
        #expect(outcome.status == 1)
        #expect(try #require(outcome.errorLine).contains(directory.path))
    }
}
