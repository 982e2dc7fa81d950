import Base
import Glibc
import Testing

@Suite struct LockRankTests {
    @Test func locksMayBeTakenFromTheOutermostToTheInnermost() {
        let (file, manifest) = (Monitor(1, rank: .file), Monitor(2, rank: .manifest))
        let (leaf, log) = (Monitor(3), Monitor(4, rank: .log))
        let sum = file.withLock { one in
            manifest.withLock { two in
                leaf.withLock { three in log.withLock { four in one + two + three + four } }
            }
        }
        #expect(sum == 10)
        // One after the other, in any order.
        #expect(leaf.withLock { $0 } + file.withLock { $0 } == 4)
    }

    @Test func aLockThatIsFreeMayBeTakenOutOfOrder() {
        let (file, manifest) = (Monitor(1, rank: .file), Monitor(2, rank: .manifest))
        let isTaken = manifest.withLock { _ in
            var isTaken = false
            file.withLockIfFree { _ in isTaken = true }
            return isTaken
        }
        #expect(isTaken)
    }

    #if DEBUG || LOCK_RANKS

    @Test func aLockUnderOneFurtherInEndsTheProcess() async {
        await #expect(processExitsWith: .failure) {
            unsetenv("LOCK_RANKS")
            let (file, manifest) = (Monitor(1, rank: .file), Monitor(2, rank: .manifest))
            manifest.withLock { _ in file.withLock { _ in } }
        }
    }

    @Test func aLockUnderOneOfItsRankEndsTheProcess() async {
        await #expect(processExitsWith: .failure) {
            unsetenv("LOCK_RANKS")
            let (one, other) = (Monitor(1), Monitor(2))
            one.withLock { _ in other.withLock { _ in } }
        }
    }

    @Test func aLockUnderOneThatWasFreeIsCheckedAgainstItsRank() async {
        await #expect(processExitsWith: .failure) {
            unsetenv("LOCK_RANKS")
            let (file, manifest) = (Monitor(1, rank: .file), Monitor(2, rank: .manifest))
            manifest.withLockIfFree { _ in file.withLock { _ in } }
        }
    }

    #endif
}
