import Base
import MerkleDAG
import Multiformats
import PortableManifest
import Testing

@Suite struct RoundTripTests {
    @Test func randomDirectoriesComeBackAsTheyWere() throws {
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededGenerator(seed: seed)
        for _ in 0..<40 {
            let blocks = Blocks()
            let empty = try blocks.directory([])
            let entries = random.entries(
                count: Int.random(in: 0...3_000, using: &random),
                nameLengthMax: Int.random(in: 2...255, using: &random), directory: empty)
            let cid = try blocks.directory(entries)
            #expect(try blocks.entries(cid) == entries, "seed \(seed)")
            #expect(
                blocks.blocks.values.allSatisfy { $0.count < 608 << 10 }, "seed \(seed)")
            // Whatever was read is written as the same blocks.
            let again = Blocks()
            _ = try again.directory([])
            #expect(try again.directory(try blocks.entries(cid)) == cid, "seed \(seed)")
            #expect(again.blocks == blocks.blocks, "seed \(seed)")
        }
    }

    @Test func everyBlockIsCanonicalDAGCBOR() throws {
        var random = SeededGenerator(seed: 7)
        let blocks = Blocks()
        let empty = try blocks.directory([])
        _ = try blocks.directory(
            random.entries(count: 9_000, nameLengthMax: 60, directory: empty))
        #expect(blocks.blocks.count > 5)
        for (cid, block) in blocks.blocks {
            // The decoder takes nothing that is not canonical.
            let value = try DAGCBOR(decoding: block, valueCountMax: 1 << 20)
            #expect(value.encoded == block)
            #expect(PortableManifest.canBe(cid))
        }
    }

    @Test func aHundredThousandEntriesComeBackInFewBlocks() throws {
        let blocks = Blocks()
        let entries = (100_000..<200_000).map { PortableEntry("layer-\($0)") }
        let cid = try blocks.directory(entries)
        #expect(try blocks.entries(cid) == entries)
        #expect((20...200).contains(blocks.blocks.count), "\(blocks.blocks.count) blocks")
        let sizes = blocks.blocks.values.map(\.count)
        #expect(sizes.allSatisfy { $0 <= 160 << 10 }, "\(sizes.max() ?? 0) bytes")
        // Each block once, and a list before its chunks.
        #expect(blocks.asked.count == blocks.blocks.count)
        #expect(blocks.asked.first == cid)
    }

    @Test func chunksAheadAreThoseThatAreAskedForNext() throws {
        let blocks = Blocks()
        let cid = try blocks.directory((0..<80_000).map { PortableEntry("\(100_000 + $0)") })
        var reader = PortableDirectoryReader(cid)
        #expect(reader.chunksAhead(countMax: 4) == [])
        _ = try reader.next(blocks.get)
        let ahead = reader.chunksAhead(countMax: 4)
        try #require(ahead.count == 4)
        while try reader.next(blocks.get) != nil {}
        #expect(Array(blocks.asked[2..<6]) == ahead)
        #expect(reader.chunksAhead(countMax: 4) == [])
    }

    @Test func aDirectoryUpToTheLimitIsOneBlock() throws {
        func count(_ entryCount: Int) throws -> Int {
            let blocks = Blocks()
            _ = try blocks.directory((10_000..<10_000 + entryCount).map { PortableEntry("\($0)") })
            return blocks.blocks.count
        }
        // An entry weighs 13: its head 1, a name of 5 bytes 6, 1,700,000,000 seconds 5, 5 nanoseconds 1.
        #expect(try count((128 << 10) / 13) == 1)
        #expect(try count((128 << 10) / 13 + 1) == 3)
    }

    @Test func blocksComeBeforeThoseThatLinkToThem() throws {
        let blocks = Blocks()
        var seen: Set<CID> = []
        func emit(_ cid: CID, _ block: [UInt8]) throws {
            func check(_ value: DAGCBOR) {
                switch value {
                case .link(let link): #expect(seen.contains(link))
                case .list(let values): values.forEach(check)
                case .map(let entries): entries.map(\.value).forEach(check)
                default: break
                }
            }
            check(try DAGCBOR(decoding: block))
            seen.insert(cid)
            blocks.put(cid, block)
        }
        var builder = PortableDirectoryBuilder()
        for number in 0..<20_000 {
            var entry = PortableEntry("\(100_000 + number)")
            if number % 5_000 == 0 {
                entry.extendedAttributes = [
                    .init("user.a", [UInt8](repeating: 1, count: 4_096 + number))
                ]
            }
            try builder.add(entry, emit: emit)
        }
        let cid = try builder.finish(emit: emit)
        #expect(builder.count == 20_000)
        #expect(try blocks.entries(cid).count == 20_000)
    }

    @Test func attributesStandApartBeyondTheLimit() throws {
        // The list, its pair, the name and the head of the value take 1 + 1 + 7 + 3 bytes.
        for (count, blockCount) in [(4_096 - 12, 1), (4_096 - 11, 2)] {
            let blocks = Blocks()
            var entry = PortableEntry("a")
            entry.extendedAttributes = [.init("user.a", [UInt8](repeating: 7, count: count))]
            let cid = try blocks.directory([entry])
            #expect(blocks.blocks.count == blockCount)
            #expect(try blocks.entries(cid) == [entry])
        }
    }

    @Test func attributesThatManyEntriesHaveAreReadOnce() throws {
        let blocks = Blocks()
        let large = [PortableExtendedAttribute("user.a", [UInt8](repeating: 7, count: 9_000))]
        let cid = try blocks.directory(
            (0..<100).map { number in
                var entry = PortableEntry("\(1000 + number)")
                entry.extendedAttributes = large
                return entry
            })
        #expect(blocks.blocks.count == 2)
        #expect(try blocks.entries(cid).allSatisfy { $0.extendedAttributes == large })
        #expect(blocks.asked.count == 2)
    }

    @Test func theLargestSetsOfAttributesOfAVolumeFit() throws {
        let blocks = Blocks()
        var entry = PortableEntry("a")
        entry.extendedAttributes = (0..<15).map {
            .init("user.\(10 + $0)", [UInt8](repeating: UInt8($0), count: 65_536))
        }
        let cid = try blocks.directory([entry])
        #expect(try blocks.entries(cid) == [entry])
    }

    @Test func timesOfTheVolumeComeBack() {
        for nanoseconds in [0, 1, -1, Int64.min, .max, 1_700_000_000_123_456_789, -999_999_999] {
            let attributes = PortableAttributes(
                mode: 0, uid: 0, gid: 0, modified: Timestamp(nanoseconds: nanoseconds))
            #expect(attributes.nanoseconds < 1_000_000_000)
            #expect(attributes.modified == Timestamp(nanoseconds: nanoseconds))
        }
    }
}
