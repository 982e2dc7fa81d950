/// What one step of a check found, and what is to be done about it.
struct CheckFindings {
    /// The most changes of one round; what is beyond it is found again by the next one.
    static let actionsMax = 100_000

    /// Whether findings that can be mended are to be mended.
    var isMending = false
    private(set) var problems = BoundedTexts()
    /// Findings that `actions` mends.
    private(set) var mended = BoundedTexts()
    private(set) var actions: [CheckAction] = []

    mutating func add(
        mend: [CheckAction], _ text: () throws(CheckFailure) -> String
    ) throws(CheckFailure) {
        if isMending, !mend.isEmpty, actions.count < Self.actionsMax {
            actions += mend
            try mended.append(text)
        } else {
            try problems.append(text)
        }
    }
}
