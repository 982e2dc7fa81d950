import Multiformats
import Testing

/// A block, and the texts of its CID.
struct CIDVector: Sendable {
    var name: String
    var codec: Multicodec
    var content: [UInt8]
    /// The first one is what `description` gives, of the CIDv0 if there is one.
    var texts: [String]
}

@Suite struct CIDTests {
    static let vectors = [
        CIDVector(
            name: "empty raw", codec: .raw, content: [],
            texts: [
                "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
                "zb2rhmy65F3REf8SZp7De11gxtECBGgUKaLdiDj7MCGCHxbDW",
                "k2cwueebp9wws0fnm29jatrrbqocjaivp132efhd99cd5phw2odywbit",
                "f01551220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ]),
        CIDVector(
            name: "empty file", codec: .dagPB, content: hex("0a0408021800"),
            texts: [
                "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH",
                "bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y",
                "zdj7WiLc855B1KPRgV7Fh8ivjuAhePE1tuJafmxH5HmmSjqaD",
                "k2jmtxw57e8q3wevq1yz5usxqabvtnck9ehnqx5hk29iz6otpovk09uu",
            ]),
        CIDVector(
            name: "hello world line, raw", codec: .raw, content: Array("hello world\n".utf8),
            texts: [
                "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4",
                "zb2rhi36Gc9GJWijLEL6zW45MBux5FcFv5gJmjXA7VAMozEXY",
                "k2cwuecvan95uqzq14dj3a18wx6av6tgr73nxvopxn3j5kvyr0apys7b",
            ]),
        CIDVector(
            name: "hello world line, dag-pb", codec: .dagPB,
            content: hex("0a120802120c68656c6c6f20776f726c640a180c"),
            texts: [
                "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o",
                "bafybeicg2rebjoofv4kbyovkw7af3rpiitvnl6i7ckcywaq6xjcxnc2mby",
            ]),
        CIDVector(
            name: "hello world, raw", codec: .raw, content: Array("hello world".utf8),
            texts: ["bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"]),
        CIDVector(
            name: "hello world, dag-pb", codec: .dagPB,
            content: hex("0a110802120b68656c6c6f20776f726c64180b"),
            texts: [
                "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD",
                "bafybeihykld7uyxzogax6vgyvag42y7464eywpf55gxi5qpoisibh3c5wa",
            ]),
        CIDVector(
            name: "empty directory", codec: .dagPB, content: hex("0a020801"),
            texts: [
                "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn",
                "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354",
                "k2jmtxtlhjl3fhmgndf92e48by79ryjuvqp3y2qgehpao6v3lurvnmcv",
            ]),
        CIDVector(
            name: "zero-length dag-pb", codec: .dagPB, content: [],
            texts: [
                "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
                "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
            ]),
        CIDVector(
            name: "empty dag-cbor map", codec: .dagCBOR, content: hex("a0"),
            texts: ["bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"]),
    ]

    @Test(arguments: vectors)
    func publishedCIDsAreReadAndWritten(vector: CIDVector) throws {
        let cid = CID(codec: vector.codec, multihash: .sha256(of: vector.content))
        let usual = cid.asV0 ?? cid
        #expect(usual.description == vector.texts.first)
        #expect(usual.asV1 == cid)
        for text in vector.texts {
            let parsed = try CID(parsing: text)
            #expect(parsed.asV1 == cid)
            #expect(parsed.codec == vector.codec)
            #expect(parsed.version == (text.hasPrefix("Qm") ? 0 : 1))
            try vector.content.withUnsafeBytes { try parsed.verify($0) }
            guard parsed.version == 1 else { continue }
            let (base, bytes) = try Multibase.decode(text)
            #expect(parsed.encoded(in: base) == text)
            #expect(parsed.bytes == bytes)
        }
        for form in [cid, usual] {
            #expect(try CID(bytes: form.bytes) == form)
            #expect(form.byteCount == form.bytes.count)
        }
    }

    @Test func otherFunctionsHaveTheirPublishedCIDs() throws {
        let text = """
            bafkrgqbqt3gerhas23vuzrapkdeqf4vu2dwxp3srdj6hvg6nhsug2tgyn6mj3u23yx7utftq3i2ckw2fwdh5\
            qmhid5qf3t35yvkc5e5ottlw6
            """
        let cid = try CID(parsing: text)
        #expect(cid.multihash.code == .sha2_512)
        try Array("hello world".utf8).withUnsafeBytes { try cid.verify($0) }
        #expect(cid.description == text)
    }

    @Test func contentMayLieInItsCID() throws {
        let nothing = CID(codec: .raw, multihash: try .identity([]))
        #expect(nothing.description == "bafkqaaa")
        #expect(nothing.bytes == hex("01550000"))
        let directory = CID(codec: .dagPB, multihash: try .identity(hex("0a020801")))
        #expect(directory.description == "bafyaabakaieac")
        #expect(directory.asV0 == nil)
        #expect(try CID(parsing: "bafyaabakaieac") == directory)
        #expect(throws: MultihashError.self) {
            try Multihash.identity([UInt8](repeating: 0, count: 129))
        }
    }

    @Test func peersHaveTheirPublishedNames() throws {
        let key = hex("08011220") + (0..<32).map { UInt8($0) }
        let multihash = try Multihash.identity(key)
        let cid = CID(codec: .libp2pKey, multihash: multihash)
        #expect(cid.bytes == hex("01720024") + key)
        let name = "k51qzi5uqu5dg6lcd99r9gmb963kgugjinxxggwy7o93oagk3f2eg3qcjh7127"
        #expect(cid.encoded(in: .base36) == name)
        #expect(try CID(parsing: name) == cid)
        #expect(
            Multibase.base58btc.encodeWithoutPrefix(multihash.bytes)
                == "12D3KooW9pP4Seg3kZYhySpuVjn1RPdQBsUFZKiFxGMGQN5MeL6A")
    }

    @Test func filecoinPiecesAreCIDs() throws {
        let text = "baga6ea4seaqdomn3tgwgrh3g532zopskstnbrd2n3sxfqbze7rxt7vqn7veigmy"
        let cid = try CID(parsing: text)
        #expect(cid.codec == .filCommitmentUnsealed)
        #expect(cid.multihash.code == .sha2_256Trunc254Padded)
        #expect(cid.description == text)
    }

    @Test func upperCaseTextsAreRead() throws {
        let cid = CID.raw(sha256: [])
        for base in Multibase.allCases {
            #expect(try CID(parsing: cid.encoded(in: base)) == cid)
        }
    }

    @Test func theCIDBeforeOtherBytesIsFound() throws {
        for text in Self.vectors.flatMap(\.texts) + ["bafkqaaa"] {
            let cid = try CID(parsing: text)
            let bytes = cid.bytes + hex("00ff1220")
            let (found, length) = try bytes.withUnsafeBytes { try CID.decodePrefix($0) }
            #expect(found == cid)
            #expect(length == cid.bytes.count)
        }
    }

    @Test func everyCutIsRejected() throws {
        for vector in Self.vectors {
            let cid = CID(codec: vector.codec, multihash: .sha256(of: vector.content))
            for bytes in [cid.bytes, cid.asV0?.bytes ?? []] {
                for count in 0..<bytes.count {
                    #expect(throws: CIDError.self) { try CID(bytes: Array(bytes[..<count])) }
                }
            }
            let text = cid.description
            for count in 0..<text.count {
                #expect(throws: CIDError.self) { try CID(parsing: String(text.prefix(count))) }
            }
        }
    }

    @Test(arguments: [
        ("", CIDError.varint(.truncated)), ("00", .unsupportedVersion(0)),
        ("02550000", .unsupportedVersion(2)), ("03550000", .unsupportedVersion(3)),
        ("81005500", .varint(.notMinimal)), ("01d5000000", .varint(.notMinimal)),
        ("0155000000", .trailingBytes(count: 1)),
        ("0155800000", .multihash(.varint(.notMinimal))),
        ("01ffffffffffffffff7f0000", .codecTooLarge(UInt64(Int64.max))),
        ("018080808008" + "0000", .codecTooLarge(0x8000_0000)),
        ("0155121f", .multihash(.badDigestLength(code: .sha2_256, length: 31))),
        ("1221" + String(repeating: "00", count: 33), .unsupportedVersion(0x12)),
        ("1220" + String(repeating: "00", count: 33), .trailingBytes(count: 1)),
    ])
    func malformedBytesAreRejected(digits: String, error: CIDError) {
        #expect(throws: error) { try CID(bytes: hex(digits)) }
    }

    @Test func malformedTextsAreRejected() {
        let v0 = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
        #expect(throws: CIDError.version0InMultibase) { try CID(parsing: "z" + v0) }
        #expect(throws: CIDError.version0InMultibase) {
            try CID(parsing: "f1220" + String(repeating: "00", count: 32))
        }
        #expect(throws: CIDError.multibase(.unknownBase("Q"))) {
            try CID(parsing: String(v0.dropLast()))
        }
        #expect(throws: CIDError.multibase(.badDigit(offset: 45))) {
            try CID(parsing: v0.dropLast() + "0")
        }
        #expect(throws: CIDError.multibase(.empty)) { try CID(parsing: "") }
        #expect(throws: CIDError.self) {
            try CID(parsing: "/ipfs/bafkqaaa")
        }
        let upper = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku".uppercased()
        #expect(throws: CIDError.multibase(.badDigit(offset: 1))) {
            try CID(parsing: "b" + upper.dropFirst())
        }
    }

    @Test func largestCodecIsAccepted() throws {
        let cid = CID(
            codec: Multicodec(rawValue: CID.codecMax), multihash: .sha256(of: []))
        #expect(try CID(bytes: cid.bytes) == cid)
        #expect(cid.version == 1)
    }

    @Test func orderAndEqualityAreThoseOfTheBytes() throws {
        var cids = try Self.vectors.flatMap(\.texts).map { try CID(parsing: $0) }
        cids.append(try CID(parsing: "bafkqaaa"))
        cids.append(try CID(parsing: "bafyaabakaieac"))
        for left in cids {
            for right in cids {
                #expect((left < right) == left.bytes.lexicographicallyPrecedes(right.bytes))
                #expect((left == right) == (left.bytes == right.bytes))
                if left == right { #expect(left.hashValue == right.hashValue) }
            }
        }
    }

    @Test func aTableOfCIDsIsSmall() {
        #expect(MemoryLayout<CID>.stride == 40)
        #expect(MemoryLayout<CID?>.stride == 40)
    }
}
