import Serving
import Testing

@Suite struct ByteRangesTests {
    private func parse(_ field: String?, size: UInt64 = 100) -> RangeAnswer {
        ByteRanges.parse(field, size: size)
    }

    @Test func noFieldAsksForAll() {
        #expect(parse(nil) == .whole)
    }

    @Test(
        arguments: [
            ("bytes=0-0", 0..<1), ("bytes=6-16", 6..<17), ("bytes=10-", 10..<100),
            ("bytes=-3", 97..<100), ("bytes=-100", 0..<100), ("bytes=-101", 0..<100),
            ("bytes=99-", 99..<100), ("bytes=90-1000", 90..<100), ("BYTES=1-2", 1..<3),
            ("bytes= 1-2 ", 1..<3), ("bytes=,1-2,,", 1..<3), ("bytes=0000000001-00002", 1..<3),
        ] as [(String, Range<UInt64>)])
    func oneRangeIsWhatItSays(field: String, range: Range<UInt64>) {
        #expect(parse(field) == .ranges([range]))
    }

    @Test(arguments: [
        "", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=1", "bytes=1--2",
        "bytes=2-1", "bytes=1-2-3", "bytes=+1-2", "bytes=0x1-2", "bytes=1 -2", "bytes=1-2;3-4",
        "bytes=0-1,x", "bytes=0-1,3-2", "lines=1-2", "bytes=0-1, bytes=2-3", "bytes=١-٢",
    ])
    func whatIsMalformedIsPassedOver(field: String) {
        #expect(parse(field) == .whole)
    }

    @Test(arguments: ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=100-,200-300,-0"])
    func rangeBeyondTheEndIsUnsatisfiable(field: String) {
        #expect(parse(field) == .unsatisfiable)
    }

    @Test func whatLiesBeyondTheEndIsLeftOutOfSeveral() {
        #expect(parse("bytes=200-300,5-6,-0") == .ranges([5..<7]))
    }

    @Test func nothingHasNoRanges() {
        for field in ["bytes=0-", "bytes=0-0", "bytes=-5", "bytes=5-"] {
            #expect(parse(field, size: 0) == .whole)
        }
    }

    @Test func orderIsKeptAndNeighboursStayApart() {
        #expect(parse("bytes=50-59,0-9,10-19") == .ranges([50..<60, 0..<10, 10..<20]))
    }

    @Test func overlapsBecomeOneInThePlaceOfTheFirst() {
        #expect(parse("bytes=50-59,80-81,0-9,55-70,5-6") == .ranges([50..<71, 80..<82, 0..<10]))
        #expect(parse("bytes=0-10,20-30,5-25,90-91") == .ranges([0..<31, 90..<92]))
        #expect(parse("bytes=0-,0-,0-,-1") == .ranges([0..<100]))
    }

    @Test func numbersOfThirtyDigitsAreBeyondEveryEnd() {
        let huge = String(repeating: "9", count: 30)
        #expect(parse("bytes=1-\(huge)") == .ranges([1..<100]))
        #expect(parse("bytes=-\(huge)") == .ranges([0..<100]))
        #expect(parse("bytes=\(huge)-") == .unsatisfiable)
        #expect(parse("bytes=\(huge)-\(huge)") == .unsatisfiable)
        // One that is too large for 64 bits only by what would be left of it without its carry.
        #expect(parse("bytes=18446744073709551617-", size: 100) == .unsatisfiable)
        #expect(parse("bytes=1-18446744073709551616") == .ranges([1..<100]))
    }

    @Test func theLargestSizeHasALastByte() {
        #expect(parse("bytes=-1", size: .max) == .ranges([.max - 1..<(.max)]))
        #expect(parse("bytes=0-18446744073709551615", size: .max) == .ranges([0..<(.max)]))
    }

    @Test func moreThan1024RangesAreNotLookedAt() {
        func field(_ count: Int) -> String {
            "bytes=" + (0..<count).map { "\(2 * $0)-\(2 * $0)" }.joined(separator: ",")
        }
        guard case .ranges(let ranges) = parse(field(1_024), size: 3_000) else {
            Issue.record("1,024 ranges are few enough")
            return
        }
        #expect(ranges.count == 1_024)
        #expect(ranges.last == 2_046..<2_047)
        #expect(parse(field(1_025), size: 3_000) == .whole)
        // Those that overlap count too: they are work all the same.
        #expect(parse("bytes=" + String(repeating: "0-,", count: 1_025)) == .whole)
    }

    /// Against a model that knows bytes and nothing of ranges.
    @Test func randomFieldsAgreeWithASetOfBytes() {
        let seed = UInt64.random(in: .min ... .max)
        print("seed of randomFieldsAgreeWithASetOfBytes: \(seed)")
        var random = SeededRandom(state: seed)
        for _ in 0..<2000 {
            let size = Int.random(in: 1...40, using: &random)
            var specs: [String] = []
            var wanted: [Set<Int>] = []
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                let first = Int.random(in: 0...50, using: &random)
                let last = Int.random(in: first...60, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0:
                    specs.append("\(first)-\(last)")
                    wanted.append(Set((first...last).filter { $0 < size }))
                case 1:
                    specs.append("\(first)-")
                    wanted.append(Set((first..<max(first, size))))
                default:
                    specs.append("-\(first)")
                    wanted.append(Set(max(0, size - first)..<size))
                }
            }
            let field = "bytes=" + specs.joined(separator: ",")
            let answer = parse(field, size: UInt64(size))
            let all = wanted.reduce(into: Set<Int>()) { $0.formUnion($1) }
            guard case .ranges(let ranges) = answer else {
                #expect(
                    answer == .unsatisfiable && all.isEmpty, "seed \(seed): \(field) of \(size)")
                continue
            }
            let given = ranges.map { Set(Int($0.lowerBound)..<Int($0.upperBound)) }
            #expect(
                given.reduce(into: Set<Int>()) { $0.formUnion($1) } == all,
                "seed \(seed): \(field) of \(size) gives \(ranges)")
            #expect(given.reduce(0) { $0 + $1.count } == all.count, "seed \(seed): \(field)")
            #expect(given.allSatisfy { !$0.isEmpty }, "seed \(seed): \(field)")
            // Each range that was asked lies in one that is given, and those come in the order of the first of theirs.
            let places = given.map { range in
                wanted.firstIndex { !$0.isEmpty && $0.isSubset(of: range) } ?? -1
            }
            #expect(places == places.sorted() && !places.contains(-1), "seed \(seed): \(field)")
            for set in wanted where !set.isEmpty {
                #expect(given.contains { set.isSubset(of: $0) }, "seed \(seed): \(field)")
            }
        }
    }
}

/// SplitMix64: the same numbers for one seed everywhere.
struct SeededRandom: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
}
