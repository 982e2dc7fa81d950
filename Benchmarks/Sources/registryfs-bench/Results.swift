/// All samples of a run.
struct Results {
    /// In the order in which they were measured first.
    private(set) var works: [Work] = []
    /// By work, filesystem and round.
    private var samples: [Work: [String: [Int: Double]]] = [:]
    /// What could not be measured, and why.
    private(set) var failures: [String] = []

    mutating func add(_ value: Double, _ work: Work, target: String, round: Int) {
        if samples[work] == nil { works.append(work) }
        samples[work, default: [:]][target, default: [:]][round] = value
    }

    mutating func fail(_ work: Work, target: String, _ failure: Failure) {
        let line = "\(work.name) on \(target): \(failure.message)"
        if !failures.contains(line) { failures.append(line) }
    }

    func work(named name: String) -> Work? { works.first { $0.name == name } }

    func values(_ work: Work, _ target: String) -> [(round: Int, value: Double)] {
        (samples[work]?[target] ?? [:]).sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// The figures of one filesystem over the rounds.
    func spread(_ work: Work, _ target: String) -> Spread? {
        Spread(values(work, target).map(\.value))
    }

    /// The ratios of one filesystem to another, pair by pair: both figures of one round.
    func ratios(_ work: Work, _ target: String, to reference: String) -> Spread? {
        guard let own = samples[work]?[target], let other = samples[work]?[reference] else {
            return nil
        }
        return Spread(
            own.compactMap { round, value in
                guard let base = other[round], base > 0 else { return nil }
                return value / base
            })
    }
}

/// The middle and the ends of some figures.
struct Spread {
    let median, low, high: Double

    init?(_ values: [Double]) {
        let sorted = values.sorted()
        guard let first = sorted.first, let last = sorted.last else { return nil }
        low = first
        high = last
        let middle = sorted.count / 2
        median =
            sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }

    /// The same, of the reciprocals.
    var reciprocal: Spread? { low > 0 ? Spread([1 / low, 1 / median, 1 / high]) : nil }
}
