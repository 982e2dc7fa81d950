internal import Base
internal import InodeManifest
internal import Logging
internal import Multiformats
internal import RegistryNames
internal import Remotes

internal import struct SystemPackage.Errno

// A blob of a graft is said to have the SHA-256 in its name. The CID tells nothing of that, so all bytes are read once, each block
// compared with its CID as always, and hashed on the way; until that has come out right nobody gets one. A CID stands
// for the same bytes for ever: so it is found out once, and what the cache lets go meanwhile may be fetched again.

/// Blobs of grafts whose bytes are being hashed, and those that turned out to be something else.
final class Verifications: Sendable {
    /// How far the hashing of an object has come. Who is interrupted leaves it to the next.
    struct Progress: Sendable {
        var hasher = SHA256Hasher()
        var offset: UInt64 = 0
    }

    enum Turn: Sendable {
        case go(Progress)
        case refused(String)
    }

    private struct Refusal: Sendable {
        let words: String
        let until: Int64
    }

    private struct State {
        var progress: [UInt64: Progress] = [:]
        var busy: Set<UInt64> = []
        var refused = Recent<UInt64, Refusal>(countMax: Verifications.refusedMax)
    }

    private let state = Monitor(State())
    private static let refusedMax = 4_096
    private static let progressMax = 1_024
    /// How long a blob that has other bytes is not read again, in milliseconds.
    private static let refusalMilliseconds: Int64 = 600_000

    func wakeAll() { state.wakeAll() }

    /// Waits for the turn to hash an object; nil where the wait was interrupted.
    func begin(_ object: UInt64, _ wait: RemoteWait) -> Turn? {
        state.withLock { state in
            while true {
                if let refused = state.refused[object],
                    refused.until > MonotonicClock.milliseconds
                {
                    return .refused(refused.words)
                }
                if state.busy.insert(object).inserted {
                    return .go(state.progress[object] ?? Progress())
                }
                guard !wait.isInterrupted else { return nil }
                self.state.wait(&state, milliseconds: 500)
                guard !wait.isInterrupted else { return nil }
            }
        }
    }

    /// Ends a turn, and keeps how far it has come; nil where there is nothing to go on with.
    func end(_ object: UInt64, _ progress: Progress?) {
        state.withLock { state in
            state.busy.remove(object)
            // Of one more than there may be, whoever reads it again begins again.
            let isKept =
                state.progress.count < Self.progressMax || state.progress[object] != nil
            state.progress[object] = isKept ? progress : nil
        }
        state.wakeAll()
    }

    /// Notes that an object has other bytes.
    func refuse(_ object: UInt64, _ words: String) {
        let until = MonotonicClock.milliseconds + Self.refusalMilliseconds
        state.withLock { $0.refused.note(object, Refusal(words: words, until: until)) }
    }
}

extension Volume {
    /// Reads all bytes of a graft's blob and compares them with its digest; nothing is done where that was done before. Blocks for
    /// the network.
    ///
    /// - Throws: EIO where it has other bytes, and where they are not to be had; EINTR where the wait was interrupted.
    func verify(_ file: RemoteFile, _ fetcher: Fetcher) throws(Errno) {
        guard let expected = file.expected else { return }
        let turn = try remotes.waits.during(
            wake: { [domains] in domains.verifications.wakeAll() }
        ) { (wait) throws(Errno) in
            guard let turn = domains.verifications.begin(file.object, wait) else {
                throw .interrupted
            }
            return turn
        }
        switch turn {
        case .refused(let words):
            replaceRefused(file, expected)
            throw .ioError.because(words)
        case .go(let progress):
            // Somebody else may have had the turn before. Of an object that went, nothing is known any more.
            let (isDone, isHere) = manifest.withLock { state in
                (
                    file.isVerified || state.grafts.unverified[file.object] == nil,
                    (try? state.object(file.object)) != nil
                )
            }
            guard !isDone || file.isVerified || isHere else {
                domains.verifications.end(file.object, nil)
                throw RemoteFile.gone
            }
            if isDone {
                domains.verifications.end(file.object, nil)
                file.noteVerified()
                return
            }
            try hash(file, expected, from: progress, fetcher)
        }
        keepVerified(file)
    }

    private func hash(
        _ file: RemoteFile, _ expected: GraftObject, from start: Verifications.Progress,
        _ fetcher: Fetcher
    ) throws(Errno) {
        var progress = start
        do throws(Errno) {
            let buffer = OwnedBuffer(byteCount: Self.hashedAtOnce)
            while progress.offset < file.size {
                let count = try file.read(
                    at: progress.offset, into: buffer.bytes, self, fetcher)
                guard count > 0 else { break }
                progress.hasher.update(
                    UnsafeRawBufferPointer(rebasing: buffer.bytes[..<count]))
                progress.offset += UInt64(count)
            }
        } catch {
            domains.verifications.end(file.object, progress)
            throw error
        }
        let found = progress.hasher.finalize()
        guard found.digest == expected.digest else {
            let wanted = (try? Multihash(code: .sha2_256, digest: expected.digest)).map(digestText)
            let words =
                "blob \(wanted ?? "") of \(graftWords(expected.graft)): \(file.cid) has \(progress.offset) bytes "
                + "with \(digestText(found)): it is not given to anybody"
            log.error("\(words)")
            domains.verifications.refuse(file.object, words)
            domains.verifications.end(file.object, nil)
            if let extents = file.reset(store) {
                fetcher.cache.withLock { $0.remove(extents) }
            }
            replaceRefused(file, expected)
            throw .ioError.because(words)
        }
        manifest.withLock { $0.noteVerified(file.object) }
        file.noteVerified()
        domains.verifications.end(file.object, nil)
    }

    private static let hashedAtOnce = 1 << 20

    /// Has what turned out to be right become an ordinary file: the cache begins empty at each mount, and the domain may go
    /// away.
    private func keepVerified(_ file: RemoteFile) {
        keepWhole(file)
        guard staysRemote(file.object) else { return }
        domains.pool.add(remotes.fetcher.nextTicket(), for: nil) { [weak self] _, _ in
            self?.convertBlob(file.object)
        }
    }

    /// Makes the bytes of an object whose DAG is not the profile's the volume's own.
    private func convertBlob(_ object: UInt64) {
        do throws(Errno) {
            // Which inodes have it is asked of SQLite.
            try manifest.checkpoint()
            let holders = try reading { (state) throws(Errno) in
                try state.rows.inodes(holding: object)
            }
            for holder in holders { try convertFile(Inode(holder)) }
        } catch {
            log.warning(
                "object \(object): stays in the cache: \(FailureCause.words(for: error))")
        }
    }

    /// Reads a file that came as a blob of a graft, so that its bytes are known to be what its name says.
    func verifyContent(of inode: Inode) throws(Errno) {
        let opened = try open(inode, flags: OpenFlags(rawValue: 0), caller: .system)
        defer { release(opened.handle) }
        let buffer = OwnedBuffer(byteCount: 1)
        _ = try read(opened.handle, at: 0, into: buffer.bytes)
    }

    private func digestText(_ multihash: Multihash) -> String {
        RegistryDigest(multihash)?.text ?? "\(multihash)"
    }

    func graftWords(_ graft: String) -> String {
        graft.isEmpty ? "a graft" : "\(shown(Array(graft.utf8)))"
    }
}
