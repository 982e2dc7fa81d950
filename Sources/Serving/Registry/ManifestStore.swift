internal import Base
internal import Multiformats
internal import RegistryNames

/// A manifest that was looked at.
struct ManifestFacts: Sendable {
    var mediaType: String
}

/// Reads manifests, looks whether their bytes have their digests, and remembers what they are.
///
/// What is remembered is of a CID and a digest together: the CID says what the bytes are, so they need not be hashed or read a second
/// time. Tags are not remembered.
package final class ManifestStore: Sendable {
    /// The longest manifest that is served, in bytes: what all registries take (OCI, "Pushing Manifests").
    package static let sizeMax: UInt64 = 4 << 20

    /// Of how many manifests is known what they are: each some 300 bytes, and twice as many at most.
    private static let factsMax = 4096
    /// What the bytes that are kept come to, at most.
    private static let keptBytesMax = 4 << 20
    /// The longest manifest whose bytes are kept.
    static let keptSizeMax = 64 << 10

    private struct Key: Hashable {
        var cid: CID
        var digest: RegistryDigest
    }

    private struct State {
        var facts = Recent<Key, ManifestFacts>(countMax: factsMax)
        var bytes = RecentBytes<Key>(countMax: keptBytesMax)
    }

    private let state = Monitor(State())

    /// What a manifest is, and its bytes where they are wanted, or had to be read.
    ///
    /// - Throws: `damaged` where the bytes have another digest, `tooLarge` beyond `sizeMax`.
    func manifest(
        _ digest: RegistryDigest, cid: CID, size: UInt64, wantsBytes: Bool,
        in registry: RegistryTree
    ) throws(ServeFault) -> (facts: ManifestFacts, bytes: [UInt8]?) {
        let key = Key(cid: cid, digest: digest)
        let known = state.withLock { ($0.facts[key], $0.bytes[key]) }
        if let facts = known.0, !wantsBytes || known.1 != nil { return (facts, known.1) }
        let bytes: [UInt8]
        if let kept = known.1 {
            bytes = kept
        } else {
            bytes = try self.bytes(digest, cid: cid, size: size, in: registry)
        }
        let facts = known.0 ?? ManifestFacts(mediaType: ManifestType.of(ManifestFields(bytes)))
        state.withLock { state in
            state.facts.note(key, facts)
            if bytes.count <= Self.keptSizeMax { state.bytes.note(key, bytes) }
        }
        return (facts, bytes)
    }

    /// The bytes of a manifest, without remembering them.
    func bytes(
        _ digest: RegistryDigest, cid: CID, size: UInt64, in registry: RegistryTree
    ) throws(ServeFault) -> [UInt8] {
        let key = Key(cid: cid, digest: digest)
        if let kept = state.withLock({ $0.bytes[key] }) { return kept }
        guard size <= Self.sizeMax else {
            throw .tooLarge(reason: "a manifest of \(size) bytes")
        }
        let bytes = try registry.bytes(of: cid, size: size)
        guard digest.matches(bytes) else { throw .damaged(cid) }
        return bytes
    }
}

/// Bytes by key, of which those stay that were noted lately; as `Recent`, but bounded by what they come to.
struct RecentBytes<Key: Hashable> {
    /// In bytes.
    let countMax: Int
    private var newer: [Key: [UInt8]] = [:]
    private var older: [Key: [UInt8]] = [:]
    private var newerCount = 0

    init(countMax: Int) {
        self.countMax = countMax
    }

    subscript(key: Key) -> [UInt8]? { newer[key] ?? older[key] }

    mutating func note(_ key: Key, _ bytes: [UInt8]) {
        guard newer[key] == nil else { return }
        // What each costs beside its bytes counts as well.
        let cost = bytes.count + 128
        if newerCount + cost > countMax / 2 {
            older = newer
            newer = [:]
            newerCount = 0
        }
        newer[key] = bytes
        newerCount += cost
    }
}
