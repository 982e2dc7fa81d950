import Base
import Testing

@Suite struct RecentTests {
    @Test func whatWasNotedLastIsKnown() {
        var recent = Recent<Int, String>(countMax: 4)
        for key in 0..<1_000 {
            recent.note(key, "\(key)")
            for known in max(0, key - 3)...key { #expect(recent[known] == "\(known)") }
        }
        #expect(recent[1_000] == nil)
    }

    @Test func noMoreThanTwoGenerationsAreKept() {
        var recent = Recent<Int, Void>(countMax: 16)
        for key in 0..<1_000 { recent.insert(key) }
        let known = (0..<1_000).count { recent.contains($0) }
        #expect((16...32).contains(known))
    }

    @Test func aKeyThatIsNotedAgainTakesNoMoreRoom() {
        var recent = Recent<Int, Int>(countMax: 2)
        recent.note(1, 1)
        recent.note(2, 2)
        #expect(recent.isFull)
        for value in 3..<10 { recent.note(2, value) }
        #expect(recent[1] == 1)
        #expect(recent[2] == 9)
    }

    @Test func theNewerOfTwoGenerationsCounts() {
        var recent = Recent<Int, Int>(countMax: 8)
        recent.note(1, 1)
        recent.turn()
        #expect(recent[1] == 1)
        recent.note(1, 2)
        #expect(recent[1] == 2)
        recent.turn()
        #expect(recent[1] == 2)
        recent.turn()
        #expect(recent[1] == nil)
    }

    @Test func nothingIsLeftOfWhatIsForgotten() {
        var recent = Recent<Int, Void>(countMax: 1)
        recent.insert(1)
        recent.insert(2)
        recent.removeAll()
        #expect(!recent.contains(1))
        #expect(!recent.contains(2))
    }
}
