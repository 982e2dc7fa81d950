internal import Base
internal import Volume

internal import struct SystemPackage.Errno

/// Tells the kernel of names that changed without its doing.
///
/// On a thread of its own: to drop a name the kernel takes the lock of its directory, and whoever
/// has that may be waiting for the volume, even for the very thread that made the change.
final class ChangedNames: NamesObserver {
    private struct Change {
        let name: FileName
        let parent: Inode
    }

    private struct State {
        var changes: [Change] = []
        var thread: JoinableThread?
        var isEnded = false
    }

    private let state = Monitor(State())
    private let drop: @Sendable (FileName, Inode) -> Void

    /// Names that wait to be told; beyond that the one who changes them waits.
    private static let waitingMax = 4096

    /// - Parameter drop: makes the kernel forget a name of a directory; may block for requests.
    init(drop: @escaping @Sendable (FileName, Inode) -> Void) {
        self.drop = drop
    }

    func nameChanged(_ name: FileName, in parent: Inode) {
        state.withLock { state in
            while state.changes.count >= Self.waitingMax, !state.isEnded {
                self.state.wait(&state)
            }
            guard !state.isEnded else { return }
            state.changes.append(Change(name: name, parent: parent))
            // Where there is no thread to be had, the next change tries again.
            if state.thread == nil {
                state.thread = try? Threads.start(name: "fuse-names") { [self] in run() }
            }
        }
        state.wakeAll()
    }

    private func run() {
        while let changes = next() {
            state.wakeAll()
            for change in changes where !state.withLock({ $0.isEnded }) {
                drop(change.name, change.parent)
            }
        }
    }

    private func next() -> [Change]? {
        state.withLock { state in
            while state.changes.isEmpty, !state.isEnded { self.state.wait(&state) }
            defer { state.changes = [] }
            return state.isEnded ? nil : state.changes
        }
    }

    /// Ends the thread. Blocks for what it is telling, so requests must be served meanwhile, or the
    /// connection be gone.
    func end() {
        let thread = state.withLock { state in
            state.isEnded = true
            defer { state.thread = nil }
            return state.thread
        }
        state.wakeAll()
        thread?.join()
    }
}
