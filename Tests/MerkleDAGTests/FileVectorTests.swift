import MerkleDAG
import Multiformats
import Testing

@Suite struct FileVectorTests {
    /// The generator itself is checked by the CIDs below.
    @Test func theStreamGoesOnWhereItWasLeft() {
        var whole = ChaChaStream(seed: "chunk-v0-seed")
        var pieces = ChaChaStream(seed: "chunk-v0-seed")
        let expected = whole.bytes(2000)
        var read: [UInt8] = []
        for count in [1, 63, 64, 65, 255, 256, 257, 39, 1000] {
            read += pieces.bytes(count)
        }
        #expect(read == expected)
    }

    @Test(arguments: [
        (
            "unixfs-v0-2015", "chunk-v0-seed", 262_144,
            "QmWmRj3dFDZdb6ABvbmKhEL6TmPbAfBZ1t5BxsEyJrcZhE"
        ),
        (
            "unixfs-v0-2015", "chunk-v0-seed", 262_145,
            "QmYyLxtzZyW22zpoVAtKANLRHpDjZtNeDjQdJrcQNWoRkJ"
        ),
        (
            "unixfs-v0-2015", "v0-seed", 174 * 262_144,
            "QmUbBALi174SnogsUzLpYbD4xPiBSFANF4iztWCsHbMKh2"
        ),
        (
            "unixfs-v0-2015", "v0-seed", 174 * 262_144 + 1,
            "QmV81WL765sC8DXsRhE5fJv2rwhS4icHRaf3J9Zk5FdRnW"
        ),
        (
            "unixfs-v1-2025", "chunk-v1-seed", 1_048_576,
            "bafkreiacndfy443ter6qr2tmbbdhadvxxheowwf75s6zehscklu6ezxmta"
        ),
        (
            "unixfs-v1-2025", "chunk-v1-seed", 1_048_577,
            "bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64"
        ),
    ])
    func streamsHaveTheCIDsThatKuboGives(
        name: String, seed: String, count: Int, text: String
    ) throws {
        let profile = try #require(ImportProfile(name: name))
        let root = profile.importStream(seed: seed, count: count)
        #expect(root.cid.description == text)
        #expect(root.fileSize == UInt64(count))
    }

    /// One pass over the gibibyte serves both files, since the longer one begins with it.
    @Test func aGibibyteAndOneByteMoreHaveTheCIDsThatKuboGives() throws {
        let profile = ImportProfile.unixfsV1_2025
        var stream = ChaChaStream(seed: "v1-2025-seed")
        var builder = BalancedDAGBuilder(profile: profile)
        var chunk = [UInt8](repeating: 0, count: profile.chunkSize)
        for _ in 0..<1024 {
            chunk.withUnsafeMutableBytes { stream.read(into: $0) }
            builder.append(chunk.withUnsafeBytes { profile.leaf($0) }) { _, _ in }
        }
        var longer = builder
        let root = builder.finish { _, _ in }
        #expect(
            root.cid.description == "bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm")
        #expect(root.fileSize == 1 << 30)

        longer.append(stream.bytes(1).withUnsafeBytes { profile.leaf($0) }) { _, _ in }
        let longerRoot = longer.finish { _, _ in }
        #expect(
            longerRoot.cid.description
                == "bafybeibdsi225ugbkmpbdohnxioyab6jsqrmkts3twhpvfnzp77xtzpyhe")
        #expect(longerRoot.fileSize == 1 << 30 + 1)
    }

    static let counted: [(count: Int, v0: String, v1: String, mixed: String)] = [
        (
            0, "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH",
            "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
            "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
        ),
        (
            1, "QmS9JArPwa55ePgDnyg6TzX24mYTS1b1vLqWNebyVotKxQ",
            "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu",
            "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu"
        ),
        (
            262_144, "QmeqfRyS3vkku7n6krqC3DgGMex3x2sCpSeKMDmrG13QQq",
            "bafkreibruh455iawsviqslif5c7uurdcfdemh22mtnytyzvnzn75kpejxy",
            "bafkreibruh455iawsviqslif5c7uurdcfdemh22mtnytyzvnzn75kpejxy"
        ),
        (
            262_145, "QmUSjGawaz4ptvREcMKSMJneWCa5j8dAz2wSAAvHtW2rnB",
            "bafkreidkcavdl3yt2jt36sd4cuqnqk2p6vaxq66iykemz6mk527hnbqbni",
            "bafybeiexg2oqkfnj56l7fcmawswqbijt5shq4b5rg6a546uwpkqqzwjioi"
        ),
        (
            1_048_576, "QmXgkY4miMKJBrg8YYke4xw6C2n8WNsUc1GXLhN84k4QM3",
            "bafkreidddocae7lltzjlkooe5a3tmiwsgazn7logjvqk7bzttsidpzhxne",
            "bafybeiedpcapwld4tkgtzwahfofgn4wex5ryysf4se6hwpmlrsh4ntnrau"
        ),
        (
            1_048_577, "QmXFGdWM6dMXHxGby9dZifmvH5ws2MwYCE1paUfJSp3Kj6",
            "bafybeidjogjfwuhbzwopgd4bn3skcf5m6oz72xshywcndzxgqb623nfclu",
            "bafybeig7rd7v2ygpkiiyu3kzsojmrj3ujtinivk7fxid5p33t6kdewzvsm"
        ),
        (
            2_097_153, "QmbEHbDumcjWSPjdVdKkAkex4wnLniiJRZ9wYM5HzyT1y1",
            "bafybeicbqmn7dngqnrzj3nvlx6g5kovlh5kqoorhkuzpjailn3coy5xzei",
            "bafybeiaqozjyc3tcium4herkmvqihhceoaka4xg26tx76ilynz7rs5wkw4"
        ),
        (
            45_613_057, "QmTedsTekQQkgACJXb1sPZSW8bLdS9LPMrT7L4YdjNRd4n",
            "bafybeih6tfqxgwyqtet2vaiqfjtdisrzv4cjmvm3ov6swdtljna55s4fle",
            "bafybeib4y7ghw2rq7bracc4xwtxrbzo7cfvagdpte2tmrkgwl6dyard3cm"
        ),
    ]

    @Test(arguments: counted)
    func countedBytesHaveTheirCIDs(
        count: Int, v0: String, v1: String, mixed: String
    ) {
        let content = (0..<count).map { UInt8(truncatingIfNeeded: $0 % 251) }
        let mixedProfile = ImportProfile(
            chunkSize: 1 << 18, fileLinksMax: 174, rawLeaves: true, cidVersion: 1,
            directoryEstimation: .links)
        #expect(ImportProfile.unixfsV0_2015.importContent(content).cid.description == v0)
        #expect(ImportProfile.unixfsV1_2025.importContent(content).cid.description == v1)
        #expect(mixedProfile.importContent(content).cid.description == mixed)
    }

    @Test func rootBlocksAreWrittenByteForByte() throws {
        let blocks = MemoryBlocks()
        let content = (0..<1_048_577).map { UInt8(truncatingIfNeeded: $0 % 251) }
        let v0 = ImportProfile.unixfsV0_2015.importContent(Array(content[..<262_145]), into: blocks)
        #expect(
            try blocks.block(v0.cid)
                == hex(
                    """
                    122a0a221220f529a685dcff99c05fbbb96250894863e4ac303b702ae783b3dabeabba070092\
                    1200188e801012280a221220394f163d9609823047884bdb19fd3f4f15b717da241aa92391b2\
                    1261c3515f04120018090a0c080218818010208080102001
                    """))
        #expect(v0.treeSize == 262_267)
        let v1 = ImportProfile.unixfsV1_2025.importContent(content, into: blocks)
        #expect(
            try blocks.block(v1.cid)
                == hex(
                    """
                    122c0a2401551220631b84027d6b9e52b539c4e8373622d23032dfadc64d60af87339c9037e4\
                    f769120018808040122a0a24015512205bad0d1132ac152cf657be8918ae163578448d56d40d\
                    ef9a590fe3dcab0c339b120018010a0c080218818040208080402001
                    """))
    }

    @Test func aSmallFileHasItsCID() {
        #expect(
            ImportProfile.unixfsV0_2015.leaf("Hello Worlds!\n").cid.description
                == "QmVr26fY1tKyspEJBniVhqxQeEjhF78XerGiqWAwraVLQH")
    }

    @Test func attributesChangeTheRootAsInKubo() {
        let profile = ImportProfile.unixfsV0_2015
        let mtime = UnixFSTime(seconds: 1_604_320_482)
        let fine = UnixFSTime(seconds: 1_603_539_720, nanoseconds: 54321)
        func empty(_ metadata: UnixFSMetadata) -> String {
            profile.importContent([], metadata: metadata).cid.description
        }
        #expect(
            empty(UnixFSMetadata(mode: 0o640)) == "QmQLgxypSNGNFTuUPGCecq6dDEjb6hNB5xSyVmP3cEuNtq")
        #expect(
            empty(UnixFSMetadata(mtime: mtime)) == "QmQ6kErEW8kztQFV8vbwNU8E4dmtGsYpRiboiLxUEwibvj")
        #expect(
            empty(UnixFSMetadata(mode: 0o640, mtime: mtime))
                == "QmYkvboLsvLFcSYmqVJRxvBdYRQLroLv9kELf3LRiCqBri")
        #expect(
            empty(UnixFSMetadata(mode: 0o764, mtime: fine))
                == "QmUkxrtBA8tPjwCYz1HrsoRfDz6NgKut3asVeHVQNH4C8L")
        #expect(
            profile.symlink(
                target: Array("nothing".utf8), metadata: UnixFSMetadata(mtime: mtime)
            ).root.cid.description == "QmbJwotgtr84JxcnjpwJ86uZiyMoxbZuNH4YrdJMypkYaB")
    }

    @Test func symlinksHaveTheirBlock() {
        let v0 = ImportProfile.unixfsV0_2015.symlink(target: Array("foo".utf8))
        #expect(v0.block == hex("0a0708041203666f6f"))
        #expect(v0.root.cid.description == "QmTB8BaCJdCH5H3k7GrxJsxgDNmNYGGR71C58ERkivXoj5")
        #expect(v0.root.treeSize == 9)
        let v1 = ImportProfile.unixfsV1_2025.symlink(target: Array("foo".utf8))
        #expect(
            v1.root.cid.description == "bafybeich3gyokcdmdj4yc5ql6lbtxcc3dchfqeck3k4fb37hbefqwaevma"
        )
    }

    @Test func profilesAreFoundByName() {
        #expect(ImportProfile(name: "unixfs-v1-2025") == .unixfsV1_2025)
        #expect(ImportProfile(name: "unixfs-v0-2015") == .unixfsV0_2015)
        #expect(ImportProfile(name: "unixfs") == nil)
        #expect(ImportProfile.unixfsV0_2015.name == "unixfs-v0-2015")
        #expect(ImportProfile.unixfsV0_2015.sharding(above: 1).name == "custom")
        #expect(ImportProfile.names.first == ImportProfile.unixfsV1_2025.name)
    }
}
