/// How the handles of an inode get at its bytes. What the first open decides holds until the last close: the
/// kernel refuses to mix both ways, or two backing files, on one inode.
///
///      undecided ──refuse──▶ byRequests ──close──▶ undecided
///        │   ▲
/// attach │   └────────── takeAway ───────┬─────────────┐
///        ▼                               │             │
///       open ───────── close ─────────▶ closed ─────▶ mapped ⟲ keepMapped, each second
///        ▲ ⟲ use                         │ keepMapped  │
///        └───────────── use ─────────────┴─────────────┘
///
/// In open, closed and mapped alike:
///
///       read ──makeWritable──▶ written ──sync──▶ synced ⟲ sync
///                                ▲ ⟲ syncTooSoon   │
///                                │ ⟲ change        │
///                                └─ syncTooSoon, ──┘
///                                   change
///
/// Who moves it holds the manifest's lock; and the file's write lock, but for `close` and `change`.
package enum BackingState: Hashable, Sendable {
    /// Nobody has it open, or the first open is under way.
    case undecided
    /// By requests to the volume.
    case byRequests
    /// In a backing file, and somebody has it open. It is registered, or being registered again.
    case open(Bytes)
    /// In a backing file that is to be taken away: nobody has it open, and the kernel may have it still. Who opens it
    /// before that is done has it again.
    case closed(Bytes)
    /// As `closed`, and a lease told that somebody has it mapped.
    case mapped(Bytes)

    /// What the manifest knows of the bytes in a backing file.
    package enum Bytes: CaseIterable, Sendable {
        /// Nobody can write: they are the inode's object.
        case read
        /// Somebody can write, and they may be newer than the object. It stays so until the backing file is taken
        /// away, because a shared mapping may outlive its file descriptor.
        case written
        /// As `written`, and the manifest has them as long as the file has the size and the time of then.
        case synced
    }

    /// What happens to an open file.
    package enum Event: CaseIterable, Sendable {
        /// The first open is told to ask for each read and write.
        case refuse
        /// The first open gets a backing file.
        case attach
        /// An open is given the backing file that there is.
        case use
        /// The backing file is registered again.
        case register
        /// Somebody is to write the bytes who could only read them.
        case makeWritable
        /// The bytes may be newer than the manifest's, though the file's time may not tell.
        case change
        /// The manifest took the bytes over, and each later write will move the file's time.
        case sync
        /// The manifest took the bytes over, and a write may follow that leaves the file's time as it is.
        case syncTooSoon
        /// The last handle ended.
        case close
        /// The registration ended.
        case unregister
        /// The lease was refused: somebody has it mapped.
        case keepMapped
        /// The kernel has the file no longer, and what was written is taken over.
        case takeAway
    }

    /// The state after an event; nil where only a bug of ours can bring it about.
    package func after(_ event: Event) -> BackingState? {
        switch self {
        case .undecided:
            switch event {
            case .refuse: .byRequests
            case .attach: .open(.read)
            // The open failed before it was decided, or nothing is registered any more.
            case .close: .undecided
            case .use, .register, .makeWritable, .change, .sync, .syncTooSoon, .unregister,
                .keepMapped,
                .takeAway:
                nil
            }
        case .byRequests: event == .close ? .undecided : nil
        case .open(let bytes):
            switch event {
            case .use, .register: self
            case .close: .closed(bytes)
            case .makeWritable, .change, .sync, .syncTooSoon: bytes.after(event).map { .open($0) }
            case .refuse, .attach, .unregister, .keepMapped, .takeAway: nil
            }
        case .closed(let bytes):
            switch event {
            case .use: .open(bytes)
            // Of an open that failed before it was given the file.
            case .close: self
            case .makeWritable, .change, .sync, .syncTooSoon: bytes.after(event).map { .closed($0) }
            case .unregister: self
            case .keepMapped: .mapped(bytes)
            case .takeAway: .undecided
            case .refuse, .attach, .register: nil
            }
        case .mapped(let bytes):
            switch event {
            case .use: .open(bytes)
            case .close: self
            case .makeWritable, .change, .sync, .syncTooSoon: bytes.after(event).map { .mapped($0) }
            case .unregister, .keepMapped: self
            case .takeAway: .undecided
            case .refuse, .attach, .register: nil
            }
        }
    }

    /// Takes an event in.
    ///
    /// - Returns: false, with the state as it was, where it cannot come about. Debug builds end the process, and so
    ///   do those where LOCK_RANKS is defined.
    mutating func move(_ event: Event) -> Bool {
        guard let next = after(event) else {
            #if DEBUG || LOCK_RANKS
            preconditionFailure("a backing file that is \(self) cannot take in \(event)")
            #else
            return false
            #endif
        }
        self = next
        return true
    }

    /// What the manifest knows of the bytes; nil where there is no backing file.
    package var bytes: Bytes? {
        switch self {
        case .undecided, .byRequests: nil
        case .open(let bytes), .closed(let bytes), .mapped(let bytes): bytes
        }
    }

    /// Whether somebody can write a backing file.
    package var isWritable: Bool {
        switch bytes {
        case .written, .synced: true
        case .read, nil: false
        }
    }
}

extension BackingState.Bytes {
    /// What is known after one of the events that are about the bytes.
    fileprivate func after(_ event: BackingState.Event) -> Self? {
        switch (self, event) {
        case (.read, .makeWritable): .written
        case (.written, .change), (.synced, .change): .written
        case (.written, .sync), (.synced, .sync): .synced
        case (.written, .syncTooSoon), (.synced, .syncTooSoon): .written
        default: nil
        }
    }
}
