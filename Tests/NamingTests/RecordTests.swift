import Base
import MerkleDAG
import Multiformats
import Naming
import Testing

@Suite struct RecordTests {
    static let moment = Timestamp(seconds: 1_893_456_000, nanoseconds: 0)
    static let value = "/ipfs/bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"

    static func make(
        sequence: UInt64 = 7, validUntil: Timestamp = moment, value: String = value,
        hasV1: Bool = true, key: PrivateKey? = nil
    ) throws -> IPNSRecord {
        try IPNSRecord(
            value: value, sequence: sequence, validUntil: validUntil,
            ttlNanoseconds: 300_000_000_000, hasV1: hasV1, signedBy: key ?? KnownKey.key())
    }

    @Test(arguments: RecordFixture.all)
    func publishedRecordsHaveTheirVerdicts(_ fixture: RecordFixture) throws {
        let name = try IPNSName(fixture.name)
        if let error = fixture.error {
            #expect(throws: error) { try IPNSRecord(verifying: fixture.record, of: name) }
        } else {
            let record = try IPNSRecord(verifying: fixture.record, of: name)
            #expect(fixture.value.isEmpty || record.value == fixture.value)
            #expect(record.bytes == fixture.record)
            // What holds is a record of this name alone.
            #expect(throws: IPNSRecordError.self) {
                try IPNSRecord(verifying: fixture.record, of: KnownKey.key().name)
            }
        }
    }

    @Test func recordsAreMadeByteForByteAsOthersMakeThem() throws {
        let data = hex(
            """
            a56354544c1b00000045d964b8006556616c756558412f697066732f62616679626569637a73736364736273376666
            717a3535617371646633736d76366b6c637733676f66737a76776c79617263693437626766333534685365717565
            6e6365076856616c6964697479581e323033302d30312d30315430303a30303a30302e3030303030303030305a6c
            56616c69646974795479706500
            """)
        let signature = hex(
            """
            34a90e0c1224631e84d9b6bee953bc43178bed5b32318155c79c8d5d2f3ebeecc68ec275ad8af3c25def4b7ae4e5
            3d3cdec58a984e4a8965c75b69153f471101
            """)
        let v2 = try Self.make(hasV1: false)
        #expect(v2.bytes == hex("4240") + signature + hex("4a9801") + data)
        #expect(v2.bytes.count == 221)
        let both = try Self.make()
        #expect(both.bytes.count == 397)
        #expect(
            Multihash.sha256(of: both.bytes).digest
                == hex("0d3fa166715214a841f0984f66b33075d165777a24a26dead9258d1d1e9c0f60"))
        for record in [v2, both] {
            let read = try IPNSRecord(verifying: record.bytes, of: KnownKey.key().name)
            #expect(read == record)
            #expect(read.sequence == 7)
            #expect(read.ttlNanoseconds == 300_000_000_000)
            #expect(read.validUntil == Self.moment)
        }
    }

    @Test func aRecordHoldsUntilItsTimeAndNotAtIt() throws {
        let name = try KnownKey.key().name
        let record = try Self.make()
        let before = Timestamp(nanoseconds: Self.moment.nanoseconds - 1)
        #expect(try IPNSRecord(verifying: record.bytes, of: name, at: before) == record)
        #expect(throws: IPNSRecordError.expired(Self.moment)) {
            try IPNSRecord(verifying: record.bytes, of: name, at: Self.moment)
        }
        #expect(try IPNSRecord(verifying: record.bytes, of: name, at: nil) == record)
    }

    @Test func noBitOfARecordCanBeChanged() throws {
        let name = try KnownKey.key().name
        let record = try Self.make(hasV1: false)
        for index in record.bytes.indices {
            for bit in 0..<8 {
                var bytes = record.bytes
                bytes[index] ^= 1 << bit
                #expect(throws: IPNSRecordError.self) {
                    try IPNSRecord(verifying: bytes, of: name, at: nil)
                }
            }
        }
    }

    @Test func noPartOfARecordIsARecord() throws {
        let fixture = RecordFixture.named("rsa")
        let name = try IPNSName(fixture.name)
        for count in 0..<fixture.record.count {
            #expect(throws: IPNSRecordError.self) {
                try IPNSRecord(verifying: Array(fixture.record[..<count]), of: name, at: nil)
            }
        }
    }

    @Test func sizeIsLookedAtBeforeAnythingElse() throws {
        let name = try KnownKey.key().name
        let bytes = [UInt8](repeating: 0xff, count: IPNSRecord.byteCountMax + 1)
        #expect(throws: IPNSRecordError.tooLarge(byteCount: bytes.count)) {
            try IPNSRecord(verifying: bytes, of: name)
        }
        #expect(throws: NamingError.self) {
            try Self.make(value: "/ipfs/" + String(repeating: "x", count: 10_240))
        }
    }

    @Test func aKeyMustBeTheNames() throws {
        let other = PrivateKey()
        let record = try Self.make()
        #expect(throws: IPNSRecordError.badSignature) {
            try IPNSRecord(verifying: record.bytes, of: other.name, at: nil)
        }
        // Another key in the record, however good its signature.
        let theirs = try Self.make(key: other)
        let key = other.publicKey.protobuf
        let forged = theirs.bytes + [0x3a, UInt8(key.count)] + key
        #expect(throws: IPNSRecordError.otherKey) {
            try IPNSRecord(verifying: forged, of: KnownKey.key().name, at: nil)
        }
        #expect(try IPNSRecord(verifying: forged, of: other.name, at: nil).value == Self.value)
        // A name that is a hash needs the key.
        let rsa = try IPNSName(RecordFixture.named("rsa").name)
        #expect(throws: IPNSRecordError.noKey) {
            try IPNSRecord(verifying: record.bytes, of: rsa, at: nil)
        }
    }

    @Test func greaterSequenceWinsAndThenTheLaterEnd() throws {
        let later = Timestamp(seconds: Self.moment.seconds + 1, nanoseconds: 0)
        let first = try Self.make(sequence: 1, validUntil: later)
        let second = try Self.make(sequence: 2)
        let longer = try Self.make(sequence: 2, validUntil: later)
        #expect(second.supersedes(first) && !first.supersedes(second))
        #expect(longer.supersedes(second) && !second.supersedes(longer))
        #expect(!second.supersedes(second))
    }

    @Test(
        arguments: [
            ("2123-08-14T12:17:03.694052Z", 4_847_689_023, 694_052_000),
            ("2023-01-01T00:00:36.23727Z", 1_672_531_236, 237_270_000),
            ("2030-01-01T00:00:00Z", 1_893_456_000, 0),
            ("2030-01-01T00:00:00.000000001Z", 1_893_456_000, 1),
            ("2024-02-29T23:59:60.5Z", 1_709_251_199, 500_000_000),
            ("2030-01-01T02:00:00+02:00", 1_893_456_000, 0),
            ("1969-12-31T23:30:00-00:30", 0, 0),
        ] as [(String, Int64, Int64)])
    func timesAreReadAsTheyOccur(_ text: String, seconds: Int64, nanoseconds: Int64) throws {
        let record = try signed(validity: text)
        let read = try IPNSRecord(verifying: record, of: KnownKey.key().name, at: nil)
        #expect(read.validUntil == Timestamp(seconds: seconds, nanoseconds: nanoseconds))
    }

    @Test(arguments: [
        "", "2030", "2030-13-01T00:00:00Z", "2030-02-29T00:00:00Z", "2030-01-01T24:00:00Z",
        "2030-01-01 00:00:00Z", "2030-01-01T00:00:00", "2030-01-01T00:00:00.Z",
        "2030-01-01T00:00:00.1234567890Z", "2030-01-01T00:00:00Z ", "2030-01-01T00:00:00+1:00",
        "-030-01-01T00:00:00Z", "2030-01-01T0\u{661}:00:00Z",
    ])
    func whatIsNoTimeIsRefused(_ text: String) throws {
        let record = try signed(validity: text)
        #expect(throws: IPNSRecordError.badValidity) {
            try IPNSRecord(verifying: record, of: KnownKey.key().name, at: nil)
        }
    }

    @Test func dataIsJudgedThoughItIsSigned() throws {
        let name = try KnownKey.key().name
        func judge(_ change: (inout [DAGCBOR.Entry]) -> Void) throws {
            var entries = Self.entries()
            change(&entries)
            _ = try IPNSRecord(verifying: try sign(.map(entries)), of: name, at: nil)
        }
        try judge { _ in }
        // Others' keys mean nothing.
        try judge { $0.append(.init("_other", .list([.float(1.5), .link(.raw(sha256: []))]))) }
        #expect(throws: IPNSRecordError.unknownValidityType(1)) {
            try judge { $0[4].value = .unsigned(1) }
        }
        #expect(throws: IPNSRecordError.self) { try judge { $0[0].value = .negative(0) } }
        #expect(throws: IPNSRecordError.self) { try judge { $0[2].value = .negative(0) } }
        #expect(throws: IPNSRecordError.self) { try judge { $0[1].value = .text("/ipfs/x") } }
        #expect(throws: IPNSRecordError.badValue) {
            try judge { $0[1].value = .bytes(Array("ipfs/x".utf8)) }
        }
        for index in 0..<5 {
            #expect(throws: IPNSRecordError.self) { try judge { $0.remove(at: index) } }
        }
        // Times of 64 bits.
        let long = try sign(.map(Self.entries(ttl: .unsigned(.max))))
        #expect(
            try IPNSRecord(verifying: long, of: name, at: nil).ttlNanoseconds
                == UInt64(Int64.max))
    }

    private static func entries(
        validity: String = "2030-01-01T00:00:00Z", ttl: DAGCBOR = .unsigned(1)
    ) -> [DAGCBOR.Entry] {
        [
            .init("TTL", ttl), .init("Value", .bytes(Array(value.utf8))),
            .init("Sequence", .unsigned(1)), .init("Validity", .bytes(Array(validity.utf8))),
            .init("ValidityType", .unsigned(0)),
        ]
    }

    private func signed(validity: String) throws -> [UInt8] {
        try sign(.map(Self.entries(validity: validity)))
    }

    /// A record of data of any kind.
    private func sign(_ data: DAGCBOR) throws -> [UInt8] {
        try IPNSRecord.signed(data: data.encoded, by: KnownKey.key())
    }
}
