import Base
import Testing

@Suite struct WorkQueueTests {
    @Test func itemsComeInTheirOrder() {
        let queue = WorkQueue<Int>()
        for item in 0..<100 { queue.add(item) }
        #expect(queue.count == 100)
        #expect((0..<100).map { _ in queue.take() } == (0..<100).map { $0 })
        #expect(queue.count == 0)
    }

    @Test func anItemThatIsThereIsNotThereTwice() {
        let queue = WorkQueue<Int>()
        queue.add(1)
        queue.add(2)
        queue.add(1)
        #expect(queue.count == 2)
        #expect(queue.take() == 2)
        #expect(queue.take() == 1)
        #expect(queue.count == 0)
    }

    @Test func anItemIsNotTakenBeforeItsTime() {
        let queue = WorkQueue<Int>()
        let begun = MonotonicClock.milliseconds
        queue.add(1, delayMilliseconds: 40)
        queue.add(2)
        #expect(queue.take() == 2)
        #expect(queue.take() == 1)
        #expect(MonotonicClock.milliseconds - begun >= 40)
    }

    @Test func anItemThatIsPutOffWaitsAnew() {
        let queue = WorkQueue<Int>()
        queue.add(1)
        let begun = MonotonicClock.milliseconds
        queue.add(1, delayMilliseconds: 40)
        #expect(queue.count == 1)
        #expect(queue.take() == 1)
        #expect(MonotonicClock.milliseconds - begun >= 40)
    }

    @Test func anItemThatIsPutOffForEverIsTakenOnce() {
        let queue = WorkQueue<Int>()
        for _ in 0..<10_000 { queue.add(1, delayMilliseconds: 20) }
        queue.add(2, delayMilliseconds: 60)
        #expect(queue.count == 2)
        #expect(queue.take() == 1)
        #expect(queue.take() == 2)
        #expect(queue.count == 0)
    }

    @Test func whoWaitsIsWokenByWhatComes() throws {
        let queue = WorkQueue<Int>()
        let taken = Monitor<[Int]>([])
        let threads = try (0..<3).map { number in
            try Threads.start(name: "take-\(number)") {
                while let item = queue.take() {
                    taken.withLock { $0.append(item) }
                    taken.wakeAll()
                }
            }
        }
        for item in 0..<300 {
            queue.add(item, delayMilliseconds: item % 3)
            if item.isMultiple(of: 50) { Threads.sleep(milliseconds: 1) }
        }
        taken.withLock { state in
            while state.count < 300 { taken.wait(&state) }
        }
        queue.stop()
        for thread in threads { thread.join() }
        #expect(taken.withLock { $0.sorted() } == Array(0..<300))
    }

    @Test func nobodyWaitsInOneThatIsStopped() throws {
        let queue = WorkQueue<Int>()
        let isOver = Monitor(false)
        let thread = try Threads.start(name: "take") {
            let item = queue.take()
            isOver.withLock { $0 = item == nil }
        }
        Threads.sleep(milliseconds: 5)
        queue.stop()
        thread.join()
        #expect(isOver.withLock { $0 })
        queue.add(1)
        #expect(queue.take() == nil)
        #expect(queue.count == 0)
    }
}
