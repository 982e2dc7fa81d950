internal import Base
internal import Multiformats
internal import RegistryNames

// Who refers to whom, by repository: a manifest says only what it refers to.
//
// A repository's manifests are read once each, for a digest says for ever what they are. Which there are is asked at each
// request (names of `_manifests/revisions/*`), so what was pushed meanwhile is read then. Whether a repository still has a
// manifest is asked by whoever gives the answer: the stock registry leaves the directory of one that was deleted.
//
// Bounds: repositories of up to `manifestsMax` manifests, whose referrers come to `repositoryBytesMax` (`RegistryLimits`); what is
//         beyond has no list, as in a registry that knows none, and clients look for the tag that stands for it. All that is
//         remembered comes to `referrersBytesMax`; what was not asked for longest goes first.
// Turns:  one request reads a repository's manifests at a time. It stops after `millisecondsMax`, and the next goes on from there.

/// Remembers the referrers of manifests. Has a lock of its own, under which nothing is read.
final class ReferrersIndex: Sendable {
    /// A repository of a tree: that as it is now, or that of a root.
    struct Key: Hashable, Sendable {
        var root: CID?
        var base: [[UInt8]]
        var repository: [[UInt8]]
    }

    /// What refers to a manifest.
    enum Answer: Sendable {
        case list([Referrer])
        /// The repository has no manifests, or there is none of that name.
        case noManifests
        /// Beyond the bounds.
        case tooLarge
    }

    /// What is known of a repository.
    fileprivate struct Known {
        /// Of the names when it was last complete.
        var listing: Multihash?
        var isTooLarge = false
        /// Manifests that were read, or that are none.
        var read: Set<RegistryDigest> = []
        /// Manifests whose bytes nobody had.
        var absent: Set<RegistryDigest> = []
        var absentSince: Int64 = 0
        var referrers: [RegistryDigest: [Referrer]] = [:]
        var referrersCost = 0
        /// When it was last asked for, by the count of all requests.
        var turn: UInt64 = 0

        var cost: Int { referrersCost + 96 * (read.count + absent.count) + 512 }
    }

    private struct State {
        var known: [Key: Known] = [:]
        var cost = 0
        var turns: UInt64 = 0
        /// Whose manifests are being read.
        var busy: Set<Key> = []
    }

    private let store: ManifestStore
    private let limits: RegistryLimits
    private let log: @Sendable (String) -> Void
    private let state = Monitor(State())

    init(
        _ store: ManifestStore, limits: RegistryLimits, log: @escaping @Sendable (String) -> Void
    ) {
        self.store = store
        self.limits = limits
        self.log = log
    }

    /// What refers to a manifest, in no order.
    ///
    /// - Throws: `timedOut` where there was much to read: it is worth another try.
    func referrers(
        to subject: RegistryDigest, _ key: Key, in registry: RegistryTree,
        cancellation: Cancellation?
    ) throws(ServeFault) -> Answer {
        let deadline = MonotonicClock.milliseconds + limits.millisecondsMax
        guard let (digests, listing) = try manifests(of: key.repository, in: registry) else {
            return .noManifests
        }
        try takeTurn(key, until: deadline, cancellation)
        var known = state.withLock { state in
            let known = state.known.removeValue(forKey: key)
            state.cost -= known?.cost ?? 0
            return known ?? Known()
        }
        defer { endTurn(key, known) }

        let absence = MonotonicClock.milliseconds - known.absentSince
        let looksAgain = !known.absent.isEmpty && absence >= limits.absenceMilliseconds
        if known.listing != listing || looksAgain {
            if looksAgain { known.absent = [] }
            try read(
                digests, into: &known, key, in: registry, until: deadline, cancellation)
            known.listing = listing
        }
        return known.isTooLarge ? .tooLarge : .list(known.referrers[subject] ?? [])
    }

    /// Which manifests a repository has, or had, and what tells whether that has changed.
    private func manifests(
        of repository: [[UInt8]], in registry: RegistryTree
    ) throws(ServeFault) -> (digests: [RegistryDigest], listing: Multihash)? {
        guard let digests = try registry.manifests(of: repository) else { return nil }
        var hasher = SHA256Hasher()
        for digest in digests { hasher.update(digest.multihash.bytes) }
        return (digests, hasher.finalize())
    }

    // MARK: Reading

    private func read(
        _ digests: [RegistryDigest], into known: inout Known, _ key: Key, in registry: RegistryTree,
        until deadline: Int64, _ cancellation: Cancellation?
    ) throws(ServeFault) {
        let all = Set(digests)
        if !known.read.isSubset(of: all) || !known.absent.isSubset(of: all) {
            known.forget { !all.contains($0) }
        }
        known.isTooLarge = digests.count > limits.manifestsMax
        for digest in digests where !known.isTooLarge {
            guard !known.read.contains(digest), !known.absent.contains(digest) else { continue }
            guard MonotonicClock.milliseconds < deadline, !(cancellation?.isCancelled ?? false)
            else { throw .timedOut }
            try read(digest, into: &known, of: key.repository, in: registry)
            known.isTooLarge = known.referrersCost > limits.repositoryBytesMax
        }
        guard known.isTooLarge else { return }
        let name = key.repository.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/")
        log(
            oneLine(
                "registry: \(name): too many manifests, or too large ones, for a list of referrers")
        )
        known = Known(isTooLarge: true)
    }

    private func read(
        _ digest: RegistryDigest, into known: inout Known, of repository: [[UInt8]],
        in registry: RegistryTree
    ) throws(ServeFault) {
        do throws(ServeFault) {
            guard let (cid, size) = try registry.bytesOf(digest, in: repository) else {
                throw .notFound
            }
            let bytes = try store.bytes(digest, cid: cid, size: size, in: registry)
            known.read.insert(digest)
            guard let (subject, referrer) = Referrer.of(bytes, digest: digest) else { return }
            known.referrers[subject, default: []].append(referrer)
            known.referrersCost += referrer.cost
        } catch {
            switch error {
            case .notFound:
                if known.absent.isEmpty { known.absentSince = MonotonicClock.milliseconds }
                known.absent.insert(digest)
            case .damaged, .unsuitable, .tooLarge:
                log(
                    oneLine(
                        "registry: \(digest.text) is not looked at for what it refers to: \(error)")
                )
                known.read.insert(digest)
            case .unavailable, .timedOut, .failed:
                throw error
            }
        }
    }

    // MARK: Turns

    private func takeTurn(
        _ key: Key, until deadline: Int64, _ cancellation: Cancellation?
    ) throws(ServeFault) {
        try state.withLock { (state) throws(ServeFault) in
            while state.busy.contains(key) {
                let left = deadline - MonotonicClock.milliseconds
                guard left > 0, !(cancellation?.isCancelled ?? false) else { throw .timedOut }
                self.state.wait(&state, milliseconds: Int(min(left, 100)))
            }
            state.busy.insert(key)
        }
    }

    /// Remembers what is known now, also after an error, and lets go of what was not asked for longest.
    private func endTurn(_ key: Key, _ known: Known) {
        state.withLock { state in
            state.turns += 1
            var known = known
            known.turn = state.turns
            state.known[key] = known
            state.cost += known.cost
            while state.known.count > limits.repositoriesMax
                || state.cost > limits.referrersBytesMax,
                let oldest = state.known.min(by: { $0.value.turn < $1.value.turn })
            {
                state.cost -= oldest.value.cost
                state.known[oldest.key] = nil
            }
            state.busy.remove(key)
        }
        state.wakeAll()
    }
}

extension ReferrersIndex.Known {
    fileprivate mutating func forget(_ isGone: (RegistryDigest) -> Bool) {
        read = read.filter { !isGone($0) }
        absent = absent.filter { !isGone($0) }
        for (subject, those) in referrers {
            let left = those.filter { !isGone($0.digest) }
            referrers[subject] = left.isEmpty ? nil : left
        }
        referrersCost = referrers.values.joined().reduce(0) { $0 + $1.cost }
    }
}
