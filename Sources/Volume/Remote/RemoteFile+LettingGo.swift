internal import Base
internal import ObjectStore

internal import struct SystemPackage.Errno

extension RemoteFile {
    /// Lets go of the bytes of the extent that begins at an offset; nil while somebody reads, or
    /// where they are not here.
    func drop(partAt start: UInt64, _ store: ObjectStore) -> UInt64? {
        state.withLock { state in
            let index = index(of: start, state)
            let extent = state.extents[index]
            guard state.readers == 0, !state.isGone, extent.start == start, extent.isPresent else {
                return nil
            }
            do throws(Errno) {
                let wasOpen = state.file != nil
                guard let file = try openFile(&state, store) else { return nil }
                if !wasOpen { state.file = nil }
                try Sys.allocate(
                    file.raw, mode: Self.punchHole, offset: start,
                    length: extent.length)
            } catch {
                return nil
            }
            state.extents[index].state = .missing
            state.missing += 1
            return extent.length
        }
    }

    /// Begins a read where all bytes are here; they stay until `endRead`.
    func beginWholeRead() -> Bool {
        state.withLock { state in
            guard !state.isGone, state.missing == 0, state.isStored else { return false }
            state.readers += 1
            return true
        }
    }

    /// Lets go of all bytes, and of what is known of the blocks; nil while somebody reads. Whoever waits
    /// for some of it has it fetched again.
    func reset(_ store: ObjectStore) -> CachedExtents? {
        let gone = state.withLock { state -> CachedExtents? in
            guard state.readers == 0, !state.isGone else { return nil }
            let gone = present(state)
            do throws(Errno) {
                if let file = try openFile(&state, store) { try Sys.truncate(file.raw, to: 0) }
            } catch {
                return nil
            }
            budget.remove(state.extents.count - 1)
            state.extents = [Self.whole(cid, size)]
            state.missing = 1
            state.file = nil
            state.generation += 1
            (state.nextOffset, state.window, state.grownAt) = (nil, 0, nil)
            return gone
        }
        state.wakeAll()
        return gone
    }

    /// Notes whether somebody has the object open; else the file in the cache is closed, for there may be
    /// more of them than descriptors.
    func note(isOpen: Bool) {
        state.withLock { state in
            state.isOpen = isOpen
            closeIfUnused(&state)
        }
    }

    func closeIfUnused(_ state: inout State) {
        if !state.isOpen, state.readers == 0 { state.file = nil }
    }

    /// Ends the use of a file of which nothing is here; false where something is, or is on its way.
    func retire() -> Bool {
        state.withLock { state in
            guard state.readers == 0, !state.isGone, state.extents.count == 1, state.file == nil
            else { return false }
            switch state.extents[0].state {
            case .fetching, .present: return false
            case .missing, .failed: break
            }
            state.isGone = true
            return true
        }
    }

    /// FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE of linux/falloc.h.
    private static let punchHole: Int32 = 0x02 | 0x01
}
