internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats
internal import RegistryNames

internal import struct SystemPackage.Errno

// Blobs that are missing here are looked for in the trees of all grafts, several at a time: the one that somebody looked into last
// first. Who has failed lately is passed over. What is found becomes an ordinary file in ordinary directories, whose bytes
// come when they are read; see GraftVerification.swift for what they have to be.

/// What a graft has for a missing name among the blobs.
private enum FoundBlob: Sendable {
    case shard
    case file(cid: CID, size: UInt64, treeSize: UInt64, isProven: Bool)
}

/// A look for one name in the trees of several grafts.
private final class BlobSearch: Sendable {
    struct State {
        /// Those that are asked together; who answers later than the next are asked counts no more.
        var wave = 0
        var pending = 0
        var found: (graft: String, blob: FoundBlob)?
        /// What a graft has cannot be what the name says.
        var refusal: String?
    }

    let state = Monitor(State())
    let cancellation = Cancellation()
}

extension Volume {
    /// Looks for a name among the blobs in the trees of the grafts. Blocks for the network.
    ///
    /// - Returns: whether it is here by now.
    func pullBlob(
        _ place: PullPlace, _ name: FileName, in parent: Inode, _ options: DomainOptions
    ) throws(Errno) -> Bool {
        let grafts = manifest.withLock { Array($0.grafts.all.values) }
        guard !grafts.isEmpty else { return false }
        let search = BlobSearch()
        try run(search, for: place, in: grafts, options)
        let (found, refusal) = search.state.withLock { ($0.found, $0.refusal) }
        guard let (graft, blob) = found else {
            if let refusal { throw .ioError.because(refusal) }
            return false
        }
        let made = try changing { (state) throws(Errno) -> [(FileName, Inode)] in
            let directory = try directory(parent, state)
            guard directory.linkCount > 0, try state.entry(name, in: directory) == nil else {
                return []
            }
            try checkRoom(state)
            return try make(blob, place, name, in: directory, of: graft, state)
        }
        for (name, parent) in made { nameChanged(name, in: parent) }
        keepChangesBounded()
        return true
    }

    private func make(
        _ blob: FoundBlob, _ place: PullPlace, _ name: FileName, in directory: InodeRecord,
        of graft: String, _ state: ManifestState
    ) throws(Errno) -> [(FileName, Inode)] {
        guard case .file(let cid, let size, let treeSize, let isProven) = blob else {
            _ = try makePlain(name, in: directory, state)
            return [(name, directory.inode)]
        }
        let digits: [UInt8]
        var holder = directory
        switch place {
        case .blob(let text):
            digits = text
            holder = try makePlain(name, in: directory, state)
        case .data(let text): digits = text
        case .shard, .directory, .domain: return []
        }
        let record = state.makeInode(
            kind: .regular, mode: 0o644, uid: holder.uid, gid: holder.gid, parent: holder.inode)
        record.size = size
        record.blocks = size / 512 + (size % 512 == 0 ? 0 : 1)
        if size > 0 {
            let digest = Self.digest(digits)
            let object = try object(
                for: cid, size: size, treeSize: treeSize, digest: isProven ? nil : digest,
                graft: graft, state)
            record.object = object.id
            // So that it can be told where it came from.
            if isProven, object.state == .remote {
                state.put(
                    GraftObject(object: object.id, digest: digest, graft: graft, isVerified: true))
            }
        }
        state.insert(RegistryBlob.data, in: holder, inode: record.inode, kind: .regular)
        try touchDirectory(holder, state)
        return [(name, directory.inode), (RegistryBlob.data, holder.inode)]
    }

    // MARK: Other bytes

    /// Has a blob that turned out to be something else come from another graft, where one has it: who gives it first must not keep
    /// it from all others. The name stands for another file then. Blocks for the network.
    func replaceRefused(_ refused: RemoteFile, _ expected: GraftObject) {
        guard let options = options.domains,
            let multihash = try? Multihash(code: .sha2_256, digest: expected.digest),
            let digits = RegistryDigest(multihash)?.hex
        else { return }
        noteLack(of: digits, in: expected.graft)
        do throws(Errno) {
            for _ in 0..<Self.replacementsMax {
                let search = BlobSearch()
                let grafts = manifest.withLock { Array($0.grafts.all.values) }
                try run(search, for: .data(digits), in: grafts, options)
                guard let (graft, blob) = search.state.withLock({ $0.found }),
                    case .file(let cid, _, _, _) = blob
                else { return }
                guard cid == refused.cid else {
                    return try replace(refused.object, by: blob, of: graft, digits)
                }
                noteLack(of: digits, in: graft)
            }
        } catch {
            log.notice(
                "object \(refused.object): stays as it is: \(FailureCause.words(for: error))")
        }
    }

    /// Grafts that are looked into for a blob because others have the same wrong one.
    private static let replacementsMax = 8

    /// Notes that the trees of a graft, as they are, have no such blob: the bytes below a CID never change.
    private func noteLack(of digits: [UInt8], in graft: String) {
        guard let graft = manifest.withLock({ $0.grafts.all[graft] }) else { return }
        for blobs in [graft.blobs, graft.blobsBefore] {
            guard let blobs else { continue }
            domains.noteLack(of: digits, in: blobs, part: graft.partOfBlobs)
        }
    }

    private func replace(
        _ object: UInt64, by blob: FoundBlob, of graft: String, _ digits: [UInt8]
    ) throws(Errno) {
        // Which inodes have it is asked of SQLite.
        try manifest.checkpoint()
        let holders = try reading { (state) throws(Errno) in
            try state.rows.inodes(holding: object)
        }
        for holder in holders {
            let parent = try changing { (state) throws(Errno) -> Inode? in
                guard let old = try state.inode(Inode(holder)), old.object == object,
                    old.linkCount > 0, old.parent.number != 0
                else { return nil }
                let directory = try directory(old.parent, state)
                guard try state.entry(RegistryBlob.data, in: directory)?.inode == old.inode,
                    try blobDigits(of: directory, state) == digits
                else { return nil }
                try checkRoom(state)
                state.remove(RegistryBlob.data, in: directory)
                dropLink(of: old, in: directory, state)
                _ = try make(
                    blob, .data(digits), RegistryBlob.data, in: directory, of: graft, state)
                return directory.inode
            }
            guard let parent else { continue }
            nameChanged(RegistryBlob.data, in: parent)
            log.notice(
                "blob sha256:\(String(decoding: digits, as: UTF8.self)): it comes from \(graftWords(graft)) now"
            )
        }
    }

    // MARK: Asking

    /// Asks grafts side by side, a few at a time, until one has it or the deadline has passed.
    private func run(
        _ search: BlobSearch, for place: PullPlace, in grafts: [StoredGraft],
        _ options: DomainOptions
    ) throws(Errno) {
        let now = MonotonicClock.milliseconds
        let deadline = now + Int64(options.lookupMilliseconds)
        let health = domains.state.withLock { $0.health }
        let asked =
            grafts
            .filter { $0.blobs != nil && (health[$0.name]?.restsUntil ?? 0) <= now }
            .sorted {
                (health[$0.name]?.usedAt ?? 0, $1.name) > (health[$1.name]?.usedAt ?? 0, $0.name)
            }
        let user = remotes.waits.user
        try remotes.waits.during(wake: {
            search.cancellation.cancel()
            search.state.wakeAll()
        }) { (wait) throws(Errno) in
            var rest = asked[...]
            while !rest.isEmpty {
                let wave = rest.prefix(Self.graftsAtOnce)
                rest = rest.dropFirst(wave.count)
                let left = deadline - MonotonicClock.milliseconds
                guard left > 0 else { return }
                // Whoever answers slowly leaves time for those after them.
                let waves = Int64(1 + (rest.count + Self.graftsAtOnce - 1) / Self.graftsAtOnce)
                let end = MonotonicClock.milliseconds + max(left / waves, 1)
                let call = GraftCall(
                    deadline: end, cancellation: search.cancellation, user: user)
                begin(search, for: place, in: Array(wave), call)
                let isFound = search.state.withLock { state in
                    while state.pending > 0, state.found == nil, !wait.isInterrupted {
                        let left = end - MonotonicClock.milliseconds
                        guard left > 0 else { break }
                        search.state.wait(&state, milliseconds: Int(min(left, 500)))
                    }
                    return state.found != nil
                }
                guard !wait.isInterrupted else { throw .interrupted }
                if isFound { break }
            }
        }
        search.cancellation.cancel()
    }

    /// Grafts that are asked for one name at a time.
    private static let graftsAtOnce = 16

    private func begin(
        _ search: BlobSearch, for place: PullPlace, in grafts: [StoredGraft], _ call: GraftCall
    ) {
        let wave = search.state.withLock { state in
            state.pending = grafts.count
            state.wave += 1
            return state.wave
        }
        for graft in grafts {
            domains.pool.add(remotes.fetcher.nextTicket(), for: call.user) {
                [weak self] _, _ in
                var found: FoundBlob?
                var refusal: String?
                if let self, !search.cancellation.isCancelled {
                    (found, refusal) = look(for: place, in: graft, call)
                }
                search.state.withLock { [found, refusal] state in
                    if state.wave == wave { state.pending -= 1 }
                    state.refusal = refusal ?? state.refusal
                    if let found, state.found == nil { state.found = (graft.name, found) }
                }
                search.state.wakeAll()
            }
        }
    }

    /// Looks into the tree of one graft, the newest one and the one before.
    private func look(
        for place: PullPlace, in graft: StoredGraft, _ call: GraftCall
    ) -> (FoundBlob?, refusal: String?) {
        let source = GraftBlocks(volume: self, call: call)
        do throws(GraftFailure) {
            for blobs in [graft.blobs, graft.blobsBefore] {
                guard let blobs else { continue }
                if let found = try look(for: place, in: blobs, of: graft, source) {
                    domains.note(graft.name, failed: false)
                    domains.noteUse(of: graft.name)
                    return (found, nil)
                }
            }
            domains.note(graft.name, failed: false)
        } catch {
            guard error.kind == .failed else { return (nil, error.words) }
            // That another one was faster, or that nobody waits any more, is no failure of its. Who waits until the deadline
            // has all end then.
            if !call.cancellation.isCancelled || MonotonicClock.milliseconds >= call.deadline {
                domains.note(graft.name, failed: true)
                log.notice("graft \(graftWords(graft.name)): \(error.words)")
            }
        }
        return (nil, nil)
    }

    /// - Throws: `absent` for what is there and cannot be what the name says.
    private func look(
        for place: PullPlace, in blobs: CID, of graft: StoredGraft, _ source: GraftBlocks
    ) throws(GraftFailure) -> FoundBlob? {
        let digits: [UInt8]
        switch place {
        case .shard(let text), .blob(let text), .data(let text): digits = text
        case .directory, .domain: return nil
        }
        let part = graft.partOfBlobs
        guard !domains.lacks(digits, in: blobs, part: part) else { return nil }
        let entry: BlobLink?
        if graft.layout == .files {
            entry = try staticBlob(digits, in: blobs, of: graft, source)
            if entry != nil, case .shard = place { return .shard }
        } else {
            do throws(DAGReadError) {
                entry = try Self.entry(of: digits, in: blobs, source)
            } catch {
                throw blobFailure(error, source)
            }
            if entry != nil, case .shard = place { return .shard }
        }
        guard let entry else {
            domains.noteLack(of: digits, in: blobs, part: part)
            return nil
        }
        let digest = Self.digest(digits)
        let what =
            "blob sha256:\(String(decoding: digits, as: UTF8.self)) of \(graftWords(graft.name))"
        guard entry.cid.multihash.isSHA256, entry.cid.codec == .raw || entry.cid.codec == .dagPB
        else { throw GraftFailure(.absent, "\(what): \(entry.cid) is no file that is taken") }
        if entry.cid.codec == .raw, entry.cid.multihash.digest != digest {
            let words = "\(what): \(entry.cid) has another SHA-256: it is not taken"
            log.error("\(words)")
            throw GraftFailure(.absent, words)
        }
        let kind: UnixFSEntry
        do throws(DAGReadError) {
            kind = try source.entry(of: entry.cid, treeSize: entry.treeSize)
        } catch {
            throw blobFailure(error, source)
        }
        guard case .file(let size, _) = kind else {
            throw GraftFailure(.absent, "\(what): \(entry.cid) is no file")
        }
        // A DAG that links the same block again and again claims any size, and who reads it would hash for ever.
        guard size <= Self.graftBlobSizeMax else {
            throw GraftFailure(
                .absent, "\(what): \(entry.cid) says that it has \(size) bytes: it is not taken")
        }
        guard size > 0 || digest == Multihash.sha256(of: [UInt8]()).digest else {
            throw GraftFailure(.absent, "\(what): \(entry.cid) is empty: it is not taken")
        }
        return .file(
            cid: entry.cid, size: size, treeSize: entry.treeSize,
            isProven: entry.cid.codec == .raw || size == 0)
    }

    /// Bytes of a blob of a graft, at most.
    private static let graftBlobSizeMax: UInt64 = 1 << 40

    /// What is malformed is said to be of the graft, and does not have it rest.
    private func blobFailure(_ error: DAGReadError, _ source: GraftBlocks) -> GraftFailure {
        if error.isOfContent { return GraftFailure(.absent, "its blobs: \(error.reason)") }
        return source.failure(error, "its blobs")
    }

    /// The entry of a shard, or of the bytes of a blob; nil where there is none.
    private static func entry(
        of digits: [UInt8], in blobs: CID, _ source: GraftBlocks
    ) throws(DAGReadError) -> BlobLink? {
        var path = [Array("sha256".utf8), Array(digits.prefix(2))]
        if digits.count > 2 { path += [digits, RegistryBlob.data.bytes] }
        var cid = blobs
        for name in path.dropLast() {
            guard
                let entry = try DirectoryReader(root: cid, source: source).entry(name)
            else { return nil }
            cid = entry.cid
        }
        guard let name = path.last else { return nil }
        return try DirectoryReader(root: cid, source: source).entry(name).map {
            BlobLink(cid: $0.cid, treeSize: $0.treeSize)
        }
    }

    /// The bytes of a SHA-256 of 64 hexadecimal digits; none for others.
    private static func digest(_ digits: [UInt8]) -> [UInt8] {
        RegistryDigest(algorithm: Array("sha256".utf8), hex: digits)?.multihash.digest ?? []
    }

    /// The SHA-256 that a file has to have which gets a name among the blobs, where the volume has or had grafts; nil for any other,
    /// and for one whose CID says it.
    func graftDigest(
        of child: ExpandedEntry, in directory: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> [UInt8]? {
        // A snapshot may have the blob of one that was removed since.
        let isAsked =
            options.domains != nil || !state.grafts.all.isEmpty
            || !state.grafts.unverified.isEmpty
        guard child.name == RegistryBlob.data, isAsked,
            let digits = try blobDigits(of: directory, state)
        else { return nil }
        let digest = Self.digest(digits)
        let isProven = child.cid.codec == .raw && child.cid.multihash.digest == digest
        return isProven ? nil : digest
    }
}

/// A link to the bytes of a blob, or to a directory of blobs.
struct BlobLink {
    let cid: CID
    let treeSize: UInt64
}

enum RegistryBlob {
    /// The name of a blob's bytes in its directory.
    static let data = FileName("data")
}

extension StoredGraft {
    /// What tells its blobs from those of other grafts of the same tree: a static registry has them by repository.
    var partOfBlobs: String { layout == .files ? name : "" }
}
