/// Texts up to a bound, and how many there were.
struct BoundedTexts: Sendable {
    static let textsMax = 10_000

    private(set) var texts: [String] = []
    private(set) var count: UInt64 = 0

    init() {}

    /// Adds a text, which is made only where it is kept.
    mutating func append<Failure: Error>(
        _ text: () throws(Failure) -> String
    ) throws(Failure) {
        if texts.count < Self.textsMax { texts.append(try text()) }
        count += 1
    }

    mutating func append(contentsOf other: BoundedTexts) {
        texts += other.texts.prefix(Self.textsMax - texts.count)
        count += other.count
    }
}
