import MerkleDAG
import Multiformats
import Testing

@Suite struct DirectoryVectorTests {
    /// Files `file1`, `file2`, … that hold their number and a line feed.
    private func numbered(
        _ numbers: ClosedRange<Int>, width: Int = 0, profile: ImportProfile
    ) -> [(name: String, leaf: Leaf)] {
        numbers.map { number in
            let digits = String(number)
            let zeros = String(repeating: "0", count: max(0, width - digits.count))
            return ("file" + zeros + digits, profile.leaf("\(number)\n"))
        }
    }

    /// Names from the deterministic stream, as the published threshold directories have them.
    private func random(
        seed: String, lengths: [Int], profile: ImportProfile
    ) -> [(name: String, leaf: Leaf)] {
        let alphabet = Array("abcdefghijklmnopqrstuvwxyz01234567890-_")
        var stream = ChaChaStream(seed: seed)
        let leaf = profile.leaf("x")
        return lengths.map { length in
            (String(stream.bytes(length).map { alphabet[Int($0) % alphabet.count] }), leaf)
        }
    }

    @Test func twoThousandFilesHaveTheCIDsThatKuboGives() throws {
        let v0 = ImportProfile.unixfsV0_2015
        let files = numbered(1...2000, profile: v0)
        #expect(
            try v0.directory(files).cid.description
                == "QmavrTrQG4VhoJmantURAYuw3bowq3E2WcvP36NRQDAC1N")
        #expect(
            try v0.sharding(above: 0).directory(files).cid.description
                == "QmSCJD1KYLhVVHqBK3YyXuoEqHt7vggyJhzoFYbT8v1XYL")
        let v1 = ImportProfile.unixfsV1_2025
        #expect(
            try v1.sharding(above: 0, by: .block).directory(numbered(1...2000, profile: v1))
                .cid.description == "bafybeibiemewfzzdyhq2l74wrd6qj2oz42usjlktgnlqv4yfawgouaqn4u")
    }

    @Test func sixThousandFilesAreSharded() throws {
        let profile = ImportProfile.unixfsV0_2015
        let files = numbered(1...5960, width: 6, profile: profile)
        #expect(
            try profile.directory(files).cid.description
                == "QmWfjnRWRvdvYezQWnfbvrvY7JjrpevsE9cato1x76UqGr")
        #expect(
            try profile.directory(files.dropFirst(5)).cid.description
                == "QmbVxi5zDdzytrjdufUejM92JsWj8wGVmukk6tiPce3p1m")
    }

    @Test(arguments: [
        (
            Array(repeating: 30, count: 4096), "QmX5GtRk3TSSEHtdrykgqm4eqMEn3n2XhfkFAis5fjyZmN",
            false
        ),
        (Array(repeating: 31, count: 4033), "QmeMiJzmhpJAUgynAcxTQYek5PPKgdv3qEvFsdV3XpVnvP", true),
    ])
    func theThresholdOfLinksIsExact(lengths: [Int], text: String, isSharded: Bool) throws {
        let profile = ImportProfile.unixfsV0_2015
        let entries = random(seed: "hamt-unixfs-v0-2015", lengths: lengths, profile: profile)
        let blocks = MemoryBlocks()
        let root = try profile.directory(entries, into: blocks)
        #expect(root.cid.description == text)
        #expect(try DirectoryReader(root: root.cid, source: blocks).isSharded == isSharded)
    }

    @Test(arguments: [
        (21, "bafybeic3h7rwruealwxkacabdy45jivq2crwz6bufb5ljwupn36gicplx4", false),
        (22, "bafybeiegvuterwurhdtkikfhbxcldohmxp566vpjdofhzmnhv6o4freidu", true),
    ])
    func theThresholdOfBlocksIsExact(lastLength: Int, text: String, isSharded: Bool) throws {
        let profile = ImportProfile.unixfsV1_2025
        let lengths = Array(repeating: 11, count: 4765) + [lastLength]
        let entries = random(seed: "hamt-unixfs-v1-2025", lengths: lengths, profile: profile)
        let blocks = MemoryBlocks()
        let root = try profile.directory(entries, into: blocks)
        #expect(root.cid.description == text)
        #expect(try DirectoryReader(root: root.cid, source: blocks).isSharded == isSharded)
        if !isSharded {
            #expect(try blocks.block(root.cid).count == 262_144)
        }
    }

    @Test func smallDirectoriesHaveTheirCIDs() throws {
        let (v0, v1) = (ImportProfile.unixfsV0_2015, ImportProfile.unixfsV1_2025)
        let link = v0.symlink(target: Array("foo".utf8)).root.asLeaf
        #expect(
            try v0.directory([("foo", v0.leaf("content\n")), ("bar", link)]).cid.description
                == "QmWvY6FaqFMS89YAQ9NAPjVP4WZKA1qbHbicc9HeSKQTgt")
        func planets(_ profile: ImportProfile) throws -> String {
            try profile.directory([
                ("venus.txt", profile.leaf("Hello Venus!\n")),
                ("mars.txt", profile.leaf("Hello Mars!\n")),
            ]).cid.description
        }
        #expect(try planets(v0) == "QmWSgS32xQEcXMeqd3YPJLrNBLSdsfYCep2U7CFkyrjXwY")
        #expect(
            try planets(v1) == "bafybeih7e5dmkyk25up5vxug4q3hrg2fxbzf23dfrac2fns5h7z4aa7ioi")
        let root = try v1.directory([
            ("a", v1.leaf("hello world\n")), ("b", try v1.directory([]).asLeaf),
        ])
        #expect(
            root.cid.description == "bafybeidfundkfdfnmbduqj3ypiuj5r3sb4u7xod3saefcsoxl2qpfugk2q")
        #expect(root.treeSize == 110)
    }

    @Test func emptyDirectoriesHaveTheirCIDs() throws {
        #expect(
            try ImportProfile.unixfsV0_2015.directory([]).cid.description
                == "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")
        #expect(
            try ImportProfile.unixfsV1_2025.directory([]).cid.description
                == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354")
    }

    @Test(arguments: [
        (UnixFSMetadata(mode: 0o755), "QmRviohgafvCsbkiTgfQFipbuXJ6k1YtoiaQW4quttJPKu"),
        (UnixFSMetadata(mode: 0o713), "QmQ1ABnw2iip7sj23EzzBZ9T77KyyfESP6SUboiXPyzNQe"),
        (
            UnixFSMetadata(mtime: UnixFSTime(seconds: 1_603_539_720, nanoseconds: 54321)),
            "QmZFdCLJay31hT3Tx1LygJ7XfiLEs3qLCXtbeBfhf38aZg"
        ),
    ])
    func attributesChangeADirectoryAsInKubo(metadata: UnixFSMetadata, text: String) throws {
        let none: [(name: String, leaf: Leaf)] = []
        let root = try ImportProfile.unixfsV0_2015.directory(none, metadata: metadata)
        #expect(root.cid.description == text)
    }

    @Test func oneEntryInAShardIsWrittenByteForByte() throws {
        let blocks = MemoryBlocks()
        let profile = ImportProfile.unixfsV1_2025.sharding(above: 0)
        let root = try profile.directory([("470.txt", profile.leaf("x"))], into: blocks)
        #expect(
            try blocks.block(root.cid)
                == hex(
                    """
                    12330a24015512202d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a\
                    4881120930303437302e74787418010a0a08051201012822308002
                    """))
        #expect(
            root.cid.description == "bafybeiboptovjmbef6axazc5fkcchutnp226r66hd4glrn56uumgb63c6i")
    }

    @Test func threeHundredFilesInShardsHaveTheirCID() throws {
        let blocks = MemoryBlocks()
        let profile = ImportProfile.unixfsV1_2025.sharding(above: 0)
        let root = try profile.directory(
            (0..<300).map { ("f\($0)", profile.leaf("x")) }, into: blocks)
        #expect(
            root.cid.description == "bafybeiaudhyx3haojhlan3l467wuyj4fsa3vlbt7vhohjopcile44gsywq")
        #expect(try blocks.block(root.cid).count == 8411)
        #expect(root.treeSize == 22005)
    }
}
