internal import InodeManifest

/// State that only who holds the manifest's lock can reach: whoever wants it has to show the manifest's
/// state, which is had under that lock alone. It costs nothing but a reference.
///
/// Sendable although unchecked, for that reason.
struct LockBound<State: AnyObject>: @unchecked Sendable {
    private let state: State

    init(_ state: State) {
        self.state = state
    }

    func callAsFunction(_ lock: borrowing ManifestState) -> State { state }
}
