internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

// A name that is missing here is looked for elsewhere in three places of a registry's tree, and nowhere else:
//
//   …docker/registry/v2/repositories/NAME          where NAME is a domain that may be pulled through
//   …docker/registry/v2/blobs/sha256/XX            where a graft has such a directory
//   …docker/registry/v2/blobs/sha256/XX/HEX        where a graft has such a blob, and `data` in it
//
// The directories above are made at their first lookup, because a registry that nobody has pushed to has none. What the name
// itself tells is looked at first, so that any other name that is missing costs a comparison.

/// What a missing name may be, by itself.
enum PullName {
    case directory
    case shard
    case blob
    case data
    case domain(String)

    init?(_ name: FileName, _ options: DomainOptions) {
        let bytes = name.bytes
        switch bytes.count {
        case 2 where Self.isHex(bytes) && bytes != Self.v2: self = .shard
        case 4 where bytes == Self.dataName: self = .data
        case 64 where Self.isHex(bytes): self = .blob
        default:
            if Self.directories.contains(bytes) {
                self = .directory
                return
            }
            guard bytes.contains(UInt8(ascii: ".")),
                let text = String(validating: bytes, as: UTF8.self),
                options.directory.covers(text)
            else { return nil }
            self = .domain(text)
        }
    }

    private static let v2 = Array("v2".utf8)
    private static let dataName = Array("data".utf8)
    private static let directories = Set(
        ["docker", "registry", "v2", "repositories", "blobs", "sha256"].map { Array($0.utf8) })

    static func isHex(_ bytes: some Collection<UInt8>) -> Bool {
        bytes.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }
}

/// A name that is looked for elsewhere.
enum PullPlace {
    /// A directory of the registry's layout that is made.
    case directory
    /// A directory of the blobs whose digests begin with these digits.
    case shard([UInt8])
    /// The directory of a blob.
    case blob([UInt8])
    /// The bytes of a blob whose directory is here.
    case data([UInt8])
    case domain(String)
}

extension Volume {
    /// Looks elsewhere for a name that is missing here. Blocks for the network, until the deadline of a lookup.
    ///
    /// - Returns: whether it may be here by now.
    /// - Throws: EIO where it cannot be found out, EINTR where the wait was interrupted.
    func pullThrough(_ name: FileName, in parent: Inode) throws(Errno) -> Bool {
        guard let domains = options.domains, let place = try pullPlace(name, in: parent) else {
            return false
        }
        switch place {
        case .directory:
            try makePlain(name, in: parent)
            return true
        case .domain(let domain): return try lookUp(domain, in: parent, domains)
        case .shard, .blob, .data: return try pullBlob(place, name, in: parent, domains)
        }
    }

    /// Whether a name that is missing may turn up without anybody's doing here.
    func mayBePulled(_ name: FileName, in parent: Inode) -> Bool {
        guard let place = try? pullPlace(name, in: parent) else { return false }
        if case .directory = place { return false }
        return true
    }

    private func pullPlace(_ name: FileName, in parent: Inode) throws(Errno) -> PullPlace? {
        guard let domains = options.domains, !options.isReadOnly, !parent.isOfView,
            !following.isFollowed, let kind = PullName(name, domains)
        else { return nil }
        return try reading { (state) throws(Errno) in
            let directory = try directory(parent, state)
            guard directory.linkCount > 0 else { return nil }
            let path: [FileName]
            switch kind {
            case .directory: return try isPlain(name, in: directory, state) ? .directory : nil
            case .domain(let domain):
                path = StockNames.repositories
                return try lies(directory, at: path, state) ? .domain(domain) : nil
            case .shard:
                return try lies(directory, at: StockNames.sha256, state)
                    ? .shard(name.bytes) : nil
            case .blob:
                path = StockNames.sha256 + [FileName(Array(name.bytes.prefix(2)))]
                return try lies(directory, at: path, state) ? .blob(name.bytes) : nil
            case .data:
                return try blobDigits(of: directory, state).map { .data($0) }
            }
        }
    }

    /// The digits of the digest by which a directory of a blob is named; nil for any other directory.
    func blobDigits(
        of directory: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> [UInt8]? {
        guard directory.inode != .root, let above = try state.inode(directory.parent),
            let name = state.rows.nameForMessage(of: directory.inode, in: above)?.bytes,
            name.count == 64, PullName.isHex(name),
            try lies(
                above, at: StockNames.sha256 + [FileName(Array(name.prefix(2)))], state)
        else { return nil }
        return name
    }

    /// Whether a missing name is one of the directories that a registry makes.
    private func isPlain(
        _ name: FileName, in directory: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> Bool {
        for path in [StockNames.repositories, StockNames.sha256] {
            guard let index = path.firstIndex(of: name) else { continue }
            if index == 0 { return directory.inode == .root }
            if try lies(directory, at: Array(path[..<index]), state) { return true }
        }
        return false
    }

    /// Whether a directory has these names, the last one its own.
    private func lies(
        _ directory: InodeRecord, at path: [FileName], _ state: ManifestState
    ) throws(Errno) -> Bool {
        var record = directory
        for name in path.reversed() {
            guard record.inode != .root, let above = try state.inode(record.parent),
                above.kind == .directory, above.isLoaded,
                let entry = try state.entry(name, in: above), entry.inode == record.inode
            else { return false }
            record = above
        }
        return true
    }

    /// Makes an empty directory of the owner of the one above it; nothing is done where the name is taken.
    func makePlain(_ name: FileName, in parent: Inode) throws(Errno) {
        let isMade = try changing { (state) throws(Errno) in
            let directory = try directory(parent, state)
            guard directory.linkCount > 0 else { throw .noSuchFileOrDirectory }
            guard try state.entry(name, in: directory) == nil else { return false }
            try checkRoom(state)
            _ = try makePlain(name, in: directory, state)
            return true
        }
        if isMade { nameChanged(name, in: parent) }
    }

    func makePlain(
        _ name: FileName, in directory: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> InodeRecord {
        guard directory.linkCount < UInt32.max else { throw .tooManyLinks }
        let made = state.makeInode(
            kind: .directory, mode: 0o755, uid: directory.uid, gid: directory.gid,
            parent: directory.inode)
        state.insert(name, in: directory, inode: made.inode, kind: .directory)
        directory.addLink()
        try touchDirectory(directory, state)
        return made
    }

    // MARK: Domains

    /// Looks up a domain together with all who want it; false where there is no such tree.
    private func lookUp(
        _ domain: String, in repositories: Inode, _ options: DomainOptions
    ) throws(Errno) -> Bool {
        if let refusal = domains.refusal(of: domain) { return try refused(refusal) }
        let deadline = MonotonicClock.milliseconds + Int64(options.lookupMilliseconds)
        let lookup = beginLookup(domain, in: repositories, options, until: deadline)
        let outcome = try remotes.waits.during(wake: { lookup.outcome.wakeAll() }) {
            (wait) throws(Errno) in
            let outcome = lookup.wait(until: deadline, wait)
            guard outcome != nil || !wait.isInterrupted else { throw .interrupted }
            return outcome
        }
        switch outcome {
        case .here: return true
        case .refused(let refusal): return try refused(refusal)
        case nil:
            throw .ioError.because(
                "domain \(shown(Array(domain.utf8))): nobody answered within "
                    + "\(options.lookupMilliseconds) ms")
        }
    }

    private func refused(_ refusal: DomainsRoom.Refusal) throws(Errno) -> Bool {
        guard refusal.kind == .failed else { return false }
        throw .ioError.because(refusal.words)
    }

    /// The lookup of a domain that is under way, or one that is begun.
    private func beginLookup(
        _ domain: String, in repositories: Inode, _ options: DomainOptions, until deadline: Int64
    ) -> DomainLookup {
        let (lookup, isNew) = domains.state.withLock { state in
            if let known = state.lookups[domain] { return (known, false) }
            let made = DomainLookup()
            if !state.isStopping { state.lookups[domain] = made }
            return (made, true)
        }
        guard isNew else { return lookup }
        let user = remotes.waits.user
        domains.pool.add(remotes.fetcher.nextTicket(), for: user) { [weak self] user, _ in
            self?.perform(lookup, of: domain, in: repositories, options, until: deadline, user)
        }
        return lookup
    }

    private func perform(
        _ lookup: DomainLookup, of domain: String, in repositories: Inode,
        _ options: DomainOptions, until deadline: Int64, _ user: UInt32?
    ) {
        let outcome: DomainLookup.Outcome
        do throws(GraftFailure) {
            let call = GraftCall(
                deadline: deadline, cancellation: lookup.cancellation, user: user)
            try takeDomain(domain, in: repositories, options, call)
            outcome = .here
        } catch {
            let seconds =
                error.kind == .absent
                ? min(error.lifetimeSeconds ?? options.absentSeconds, options.absentSeconds)
                : Self.failureSeconds
            log.notice("domain \(shown(Array(domain.utf8))): \(error.words)")
            outcome = .refused(
                DomainsRoom.Refusal(
                    kind: error.kind,
                    words: "domain \(shown(Array(domain.utf8))): \(error.words)",
                    until: MonotonicClock.milliseconds + Int64(max(seconds, 0) * 1000)))
        }
        domains.state.withLock { state in
            state.lookups[domain] = nil
            if case .refused(let refusal) = outcome { state.refusals.note(domain, refusal) }
        }
        lookup.end(outcome)
    }

    /// How long a domain that could not be looked up is not asked for again, in seconds.
    private static let failureSeconds: Double = 5
}

/// Names of the stock registry's layout, from `docker` on.
enum StockNames {
    static let top: [FileName] = [FileName("docker"), FileName("registry"), FileName("v2")]
    static let repositories = top + [FileName("repositories")]
    static let sha256 = top + [FileName("blobs"), FileName("sha256")]
}

/// What a look at others has in common with what it needs of them.
struct GraftCall: Sendable {
    /// In milliseconds of `MonotonicClock`.
    let deadline: Int64
    let cancellation: Cancellation
    /// On whose behalf; nil for the volume's own.
    let user: UInt32?
}

/// Why a tree of others cannot be had.
struct GraftFailure: Error {
    let kind: DomainError.Kind
    let words: String
    var lifetimeSeconds: Double?

    init(_ kind: DomainError.Kind, _ words: String, lifetimeSeconds: Double? = nil) {
        self.kind = kind
        self.words = words
        self.lifetimeSeconds = lifetimeSeconds
    }

    init(_ error: DomainError) {
        self.init(error.kind, "\(error)", lifetimeSeconds: error.lifetimeSeconds)
    }

    init(_ error: Errno, _ what: String) {
        self.init(.failed, "\(what): \(FailureCause.words(for: error))")
    }
}
