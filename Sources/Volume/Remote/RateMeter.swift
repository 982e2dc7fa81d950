/// Bytes a second over the last ten seconds.
struct RateMeter {
    private var counts = [UInt64](repeating: 0, count: 10)
    private var second: Int64 = 0

    mutating func add(_ bytes: Int, at now: Int64) {
        move(to: now / 1000)
        counts[Int(second % 10)] += UInt64(bytes)
    }

    private mutating func move(to newSecond: Int64) {
        guard newSecond > second else { return }
        for step in 1...min(newSecond - second, 10) { counts[Int((second + step) % 10)] = 0 }
        second = newSecond
    }

    mutating func rate(at now: Int64) -> Double {
        move(to: now / 1000)
        return Double(counts.reduce(0, +)) / 10
    }
}
