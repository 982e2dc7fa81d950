import Multiformats
import Naming
import Testing

/// A key whose secret bytes are 00 to 1f, as other implementations see it.
enum KnownKey {
    static let publicBytes = hex(
        "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8")
    static let protobuf = hex("08011240") + Array(0..<32) + publicBytes
    static let name = "k51qzi5uqu5dg9ufswxt229ntzdy7p4125xzv5rtyjso89ajdujg6csfxcj260"
    static let peerID = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
    static func key() throws -> PrivateKey { try PrivateKey(protobuf: protobuf) }
}

@Suite struct NameTests {
    @Test func everyTextOfANameIsTheSameName() throws {
        let name = try KnownKey.key().name
        #expect(name.description == KnownKey.name)
        #expect(name.peerID == KnownKey.peerID)
        #expect(try IPNSName(KnownKey.name) == name)
        #expect(try IPNSName(KnownKey.peerID) == name)
        #expect(try IPNSName(name.cid.encoded(in: .base32)) == name)
        #expect(try IPNSName(name.cid.encoded(in: .base58btc)) == name)
        #expect(name.cid.bytes == hex("0172 0024 08011220") + KnownKey.publicBytes)
        #expect(
            name.routingKey == hex("2f69706e732f 0024 08011220") + KnownKey.publicBytes)
        #expect(
            name.topic
                == "/record/L2lwbnMvACQIARIgA6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg")
        #expect(
            Multihash.sha256(of: name.routingKey).digest
                == hex("eb9faadef8bfb82526a60ef7014583f919b2b7ad3705dc597efda863c3599a98"))
    }

    @Test func anotherPublishedNameIsRead() throws {
        let peer = try IPNSName("12D3KooW9pP4Seg3kZYhySpuVjn1RPdQBsUFZKiFxGMGQN5MeL6A")
        #expect(
            "\(peer)" == "k51qzi5uqu5dg6lcd99r9gmb963kgugjinxxggwy7o93oagk3f2eg3qcjh7127")
    }

    @Test(arguments: [
        ("bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4", "raw"),
        ("bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354", "dag-pb"),
        ("bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua", "dag-cbor"),
    ])
    func aCIDOfContentIsNoNameAndTheErrorTellsItsCodec(_ text: String, codec: String) {
        let error = #expect(throws: NamingError.self) { try IPNSName(text) }
        #expect(error?.kind == .malformed)
        #expect(error?.description.contains(codec) == true)
    }

    @Test(arguments: ["", "k", "k51", "example.org", "12D3", "Qm", "12D3KooW0", "k51qzi!"])
    func textsThatAreNoNamesAreRefused(_ text: String) {
        #expect(throws: NamingError.self) { try IPNSName(text) }
    }

    @Test func keysAreTheSameInAllTheirForms() throws {
        let key = try KnownKey.key()
        #expect(key.protobuf == KnownKey.protobuf)
        #expect(key.protobuf.count == PrivateKey.protobufLength)
        #expect(try PrivateKey(pem: key.pem).protobuf == KnownKey.protobuf)
        #expect(try PrivateKey(file: Array(key.pem.utf8)).name == key.name)
        #expect(try PrivateKey(file: KnownKey.protobuf).name == key.name)
        #expect(key.publicKey.protobuf == hex("08011220") + KnownKey.publicBytes)
        #expect(PrivateKey().name != PrivateKey().name)
        #expect(!"\(key)".contains("000102"))
    }

    @Test func keysInPEMOfOpenSSLAreRead() throws {
        // openssl pkey, of the example of RFC 8410, section 10.3, in both of its forms.
        let plain = """
            -----BEGIN PRIVATE KEY-----
            MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
            -----END PRIVATE KEY-----
            """
        let whole = """
            -----BEGIN PRIVATE KEY-----
            MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
            oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB
            Z9w7lshQhqowtrbLDFw4rXAxZuE=
            -----END PRIVATE KEY-----
            """
        let key = try PrivateKey(pem: plain)
        #expect(
            key.publicKey.protobuf.suffix(32).elementsEqual(
                hex("19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1")))
        #expect(try PrivateKey(pem: whole).name == key.name)
    }

    @Test func keysThatCannotBeUsedAreRefusedWithTheReason() throws {
        var wrong = KnownKey.protobuf
        wrong[67] ^= 1
        #expect(throws: NamingError.self) { try PrivateKey(protobuf: wrong) }
        #expect(throws: NamingError.self) { try PrivateKey(protobuf: []) }
        for count in 0..<KnownKey.protobuf.count {
            #expect(throws: NamingError.self) {
                try PrivateKey(protobuf: Array(KnownKey.protobuf[..<count]))
            }
        }
        let rsa = #expect(throws: NamingError.self) {
            try PrivateKey(
                pem: "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----")
        }
        #expect(rsa?.description.contains("RSA PRIVATE KEY") == true)
        let secp = #expect(throws: NamingError.self) {
            try PublicKey(protobuf: hex("08021221") + [UInt8](repeating: 2, count: 33))
        }
        #expect(secp?.description.contains("secp256k1") == true)
        let secret = #expect(throws: NamingError.self) {
            try PrivateKey(protobuf: hex("08021220") + [UInt8](repeating: 2, count: 32))
        }
        #expect(secret?.description.contains("secp256k1") == true)
    }
}
