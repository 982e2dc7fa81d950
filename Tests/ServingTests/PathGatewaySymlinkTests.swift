import Multiformats
import Serving
import Testing

@Suite struct PathGatewaySymlinkTests {
    @Test func symlinkAtTheEndIsItsTarget() throws {
        let stand = PathStand(try PathContent("symlink"))
        let answer = try stand.ask("/ipfs/QmWvY6FaqFMS89YAQ9NAPjVP4WZKA1qbHbicc9HeSKQTgt/bar")
        #expect(answer.status == 200)
        #expect(answer.text == "foo")
        #expect(answer["Content-Type"] == "inode/symlink")
        #expect(answer["Etag"] == "\"QmTB8BaCJdCH5H3k7GrxJsxgDNmNYGGR71C58ERkivXoj5\"")
    }

    /// A tree with symlinks of all kinds.
    private func tree() throws -> (PathStand, String) {
        let content = try PathContent()
        let deep = try content.directory([
            "file.txt": content.file("deep"), "up": content.symlink("../.."),
            "self": content.symlink("."), "out": content.symlink("../../.."),
            "absolute": content.symlink("/etc"), "slashes": content.symlink("..//deep/./"),
        ])
        let root = try content.directory([
            "a": try content.directory(["deep": deep, "top.txt": content.file("top")]),
            "b": content.symlink("a/deep"), "chain": content.symlink("b"),
            "loop": content.symlink("loop"), "ping": content.symlink("pong"),
            "pong": content.symlink("ping"), "through": content.symlink("a/top.txt/x"),
            "file": content.symlink("a/top.txt"), "none": content.symlink("nowhere"),
        ])
        return (PathStand(content), "\(root)")
    }

    @Test(arguments: [
        ("b/file.txt", "deep"), ("chain/file.txt", "deep"), ("a/deep/up/a/top.txt", "top"),
        ("b/up/a/top.txt", "top"), ("b/self/self/file.txt", "deep"), ("b/slashes/file.txt", "deep"),
        ("file/", "top"),
    ])
    func symlinkOnTheWayIsFollowedWithinTheTree(path: String, text: String) throws {
        let (stand, root) = try tree()
        let answer = try stand.ask("/ipfs/\(root)/\(path)")
        #expect(answer.status == 200)
        #expect(answer.text == text)
    }

    @Test(arguments: [
        "loop/x", "ping/x", "loop/", "b/out/x", "b/absolute/passwd", "through/y", "none/x", "none/",
        "file/x", "b/out/", "a/deep/up/up/x",
    ])
    func symlinkThatLeadsNowhereIs404(path: String) throws {
        let (stand, root) = try tree()
        #expect(try stand.ask("/ipfs/\(root)/\(path)").status == 404)
    }

    @Test func symlinkToADirectoryIsListedBehindASlash() throws {
        let (stand, root) = try tree()
        let answer = try stand.ask("/ipfs/\(root)/chain/")
        #expect(answer.status == 200)
        #expect(answer.text.contains(">file.txt</a>"))
        #expect(answer.text.contains("href=\"/ipfs/\(root)/chain/file.txt\""))
    }

    @Test func rootsHaveOneCIDForEachNameThatWasAsked() throws {
        let (stand, root) = try tree()
        let roots = try #require(try stand.ask("/ipfs/\(root)/chain/file.txt")["X-Ipfs-Roots"])
        #expect(roots.split(separator: ",").count == 3)
    }

    @Test func fortySymlinksAreFollowedAndNoMore() throws {
        let content = try PathContent()
        func root(_ count: Int) throws -> CID {
            var entries: [(name: [UInt8], cid: CID)] = [
                (Array("0".utf8), try content.directory(["file.txt": content.file("x")]))
            ]
            for index in 1...count {
                entries.append((Array("\(index)".utf8), content.symlink("\(index - 1)")))
            }
            return try content.directory(entries)
        }
        let stand = PathStand(content)
        #expect(try stand.ask("/ipfs/\(try root(40))/40/file.txt").status == 200)
        #expect(try stand.ask("/ipfs/\(try root(41))/41/file.txt").status == 404)
    }

    @Test func longTargetsAreBoundedTogether() throws {
        let content = try PathContent()
        // Each passes a directory a thousand times.
        let round = content.symlink(String(repeating: "d/../", count: 800) + "d")
        let root = try content.directory([
            "d": try content.directory([
                "back": content.symlink("../round"), "x": content.file("x"),
            ]),
            "round": round,
        ])
        let stand = PathStand(content)
        #expect(try stand.ask("/ipfs/\(root)/round/x").status == 200)
        let path = "round/" + String(repeating: "back/", count: 10) + "x"
        #expect(try stand.ask("/ipfs/\(root)/\(path)").status == 404)
    }
}
