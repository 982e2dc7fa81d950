import Base
import MerkleDAG
import Multiformats
import PortableManifest
import Testing

/// What did not change is the same block.
@Suite struct IncrementalTests {
    private static func name(_ number: Int) -> [UInt8] { Array("sha256-\(number)".utf8) }

    private func built(_ entries: [[UInt8]: PortableEntry]) throws -> (CID, Blocks) {
        let blocks = Blocks()
        let sorted = entries.values.sorted { $0.name.lexicographicallyPrecedes($1.name) }
        return (try blocks.directory(sorted), blocks)
    }

    private func newBlockCount(_ after: Blocks, than before: Blocks) -> Int {
        after.blocks.keys.count { before.blocks[$0] == nil }
    }

    @Test(arguments: [20_000, 100_000])
    func oneNameMoreChangesFewBlocks(count: Int) throws {
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededGenerator(seed: seed)
        var entries: [[UInt8]: PortableEntry] = [:]
        while entries.count < count {
            let name = Self.name(Int.random(in: 0...1 << 40, using: &random))
            entries[name] = PortableEntry(
                name: name, kind: .regular,
                attributes: PortableAttributes(
                    mode: 0o644, uid: 0, gid: 0,
                    seconds: Int64.random(in: 0...2_000_000_000, using: &random), nanoseconds: 0))
        }
        let (_, before) = try built(entries)
        var counts: [Int] = []
        for _ in 0..<(count < 50_000 ? 30 : 8) {
            var changed = entries
            let name = Self.name(Int.random(in: 0...1 << 40, using: &random))
            changed[name] = PortableEntry(name: name, kind: .fifo, attributes: .plain)
            let (_, after) = try built(changed)
            counts.append(newBlockCount(after, than: before))
        }
        // The chunk and the list, nine times of ten; else a chunk or two more, because a cut moved.
        #expect(counts.reduce(0, +) < 3 * counts.count, "seed \(seed): \(counts)")
        #expect(counts.allSatisfy { (2...12).contains($0) }, "seed \(seed): \(counts)")
        #expect(before.blocks.count > 5, "seed \(seed)")
    }

    @Test func oneChangedEntryChangesItsChunkAndTheList() throws {
        var entries: [[UInt8]: PortableEntry] = [:]
        for number in 0..<20_000 {
            let name = Self.name(100_000 + number)
            entries[name] = PortableEntry(name: name, kind: .regular, attributes: .plain)
        }
        let (_, before) = try built(entries)
        for number in stride(from: 100_000, to: 120_000, by: 997) {
            var changed = entries
            changed[Self.name(number)]?.attributes.mode = 0o600
            let (_, after) = try built(changed)
            #expect(newBlockCount(after, than: before) == 2)
        }
    }

    @Test func oneRemovedNameChangesFewBlocks() throws {
        var entries: [[UInt8]: PortableEntry] = [:]
        for number in 0..<20_000 {
            let name = Self.name(100_000 + number)
            entries[name] = PortableEntry(name: name, kind: .regular, attributes: .plain)
        }
        let (_, before) = try built(entries)
        var counts: [Int] = []
        for number in stride(from: 100_000, to: 120_000, by: 499) {
            var changed = entries
            changed[Self.name(number)] = nil
            let (_, after) = try built(changed)
            counts.append(newBlockCount(after, than: before))
        }
        counts.sort()
        #expect(counts[counts.count / 2] == 2, "\(counts)")
        #expect(counts.allSatisfy { (2...12).contains($0) }, "\(counts)")
    }

    @Test func namesThatAreNoBoundariesAreCutByWeight() throws {
        // Names chosen so that the chunker never meets a boundary: the worst that a user can do.
        var names: [PortableEntry] = []
        var number = 0
        while names.count < 30_000 {
            let name = "\(1_000_000_000 + number)"
            number += 1
            let hash = Murmur.boundaryHash(Array(name.utf8) + [0])
            if hash >= 200 << 17 { names.append(PortableEntry(name)) }
        }
        let blocks = Blocks()
        let cid = try blocks.directory(names)
        #expect(try blocks.entries(cid).count == 30_000)
        // An entry weighs 18 bytes.
        #expect(blocks.blocks.count == 1 + (30_000 * 18 + (128 << 10) - 1) / (128 << 10))
    }
}

private enum Murmur {
    static func boundaryHash(_ bytes: [UInt8]) -> UInt64 {
        bytes.withUnsafeBytes { Murmur3.hash64($0) } >> 32
    }
}
