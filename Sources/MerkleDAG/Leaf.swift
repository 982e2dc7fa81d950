public import Multiformats

/// One chunk of a file, hashed.
public struct Leaf: Hashable, Sendable {
    /// The CID of the leaf's block.
    public var cid: CID
    /// The bytes of the file in it.
    public var fileSize: UInt64
    /// The bytes of its block.
    public var treeSize: UInt64

    /// Makes a leaf of what somebody computed.
    public init(cid: CID, fileSize: UInt64, treeSize: UInt64) {
        self.cid = cid
        self.fileSize = fileSize
        self.treeSize = treeSize
    }
}

/// The bytes around a chunk in its block: block = prefix ‖ chunk ‖ suffix.
///
/// With it a leaf can be served as a block from where the file's bytes lie. Both parts are empty
/// for raw leaves.
public struct LeafFraming: Hashable, Sendable {
    /// What stands before the chunk.
    public var prefix: [UInt8]
    /// What stands behind it.
    public var suffix: [UInt8]
}

extension ImportProfile {
    /// The bytes around a chunk of `length` bytes in its block.
    ///
    /// - Parameter metadata: the attributes of the file, if this leaf is the whole file.
    /// - Precondition: `length` is not negative and not above `chunkSizeMax`; a raw leaf gets no
    ///   metadata (see `forMetadata`).
    public func leafFraming(length: Int, metadata: UnixFSMetadata = .none) -> LeafFraming {
        precondition((0...Self.chunkSizeMax).contains(length), "no chunk has that length")
        precondition(metadata.isEmpty || !rawLeaves, "a raw leaf cannot hold attributes")
        guard !rawLeaves else { return LeafFraming(prefix: [], suffix: []) }

        let size = UInt64(length)
        var messageLength = 2 + varintFieldLength(size) + metadata.encodedLength
        if length > 0 { messageLength += bytesFieldLength(length) }

        var prefix: [UInt8] = []
        prefix.appendVarintField(tag: 0x0a, UInt64(messageLength))
        prefix.appendVarintField(tag: 0x08, UnixFSData.Kind.file.rawValue)
        if length > 0 { prefix.appendVarintField(tag: 0x12, size) }

        var suffix: [UInt8] = []
        suffix.appendVarintField(tag: 0x18, size)
        metadata.append(to: &suffix)
        return LeafFraming(prefix: prefix, suffix: suffix)
    }

    /// Hashes a chunk where it lies and gives the leaf that it becomes.
    ///
    /// May be called on any thread. Costs one SHA-256 over the block; nothing is copied.
    ///
    /// - Parameter metadata: the attributes of the file, if this leaf is the whole file.
    public func leaf(
        _ chunk: UnsafeRawBufferPointer, metadata: UnixFSMetadata = .none
    ) -> Leaf {
        var hasher = LeafHasher(profile: self, length: chunk.count, metadata: metadata)
        hasher.update(chunk)
        return hasher.finish()
    }

    /// Hashes content where it lies, in chunks from its beginning: at least one, and the last one may be
    /// short. Two at a time cost less than one after the other.
    public func leaves(of content: UnsafeRawBufferPointer) -> [Leaf] {
        var leaves: [Leaf] = []
        var rest = content
        while rawLeaves, rest.count >= 2 * chunkSize {
            let (one, other) = Multihash.sha256(
                of: UnsafeRawBufferPointer(rebasing: rest[..<chunkSize]),
                and: UnsafeRawBufferPointer(rebasing: rest[chunkSize..<2 * chunkSize]))
            for multihash in [one, other] {
                leaves.append(
                    Leaf(
                        cid: CID(codec: .raw, multihash: multihash), fileSize: UInt64(chunkSize),
                        treeSize: UInt64(chunkSize)))
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[(2 * chunkSize)...])
        }
        while leaves.isEmpty || !rest.isEmpty {
            let chunk = UnsafeRawBufferPointer(rebasing: rest.prefix(chunkSize))
            leaves.append(leaf(chunk))
            rest = UnsafeRawBufferPointer(rebasing: rest[chunk.count...])
        }
        return leaves
    }

    /// The block of a chunk, a copy.
    public func leafBlock(
        _ chunk: UnsafeRawBufferPointer, metadata: UnixFSMetadata = .none
    ) -> [UInt8] {
        let framing = leafFraming(length: chunk.count, metadata: metadata)
        var block: [UInt8] = []
        block.reserveCapacity(framing.prefix.count + chunk.count + framing.suffix.count)
        block.append(contentsOf: framing.prefix)
        block.append(contentsOf: chunk)
        block.append(contentsOf: framing.suffix)
        return block
    }

    /// The CID of a DAG node that has this hash and is no raw leaf.
    func nodeCID(_ multihash: Multihash) -> CID {
        CID.dagPB(multihash, version: cidVersion)
    }
}

/// Hashes one chunk that comes in pieces; its length has to be known before.
public struct LeafHasher: Sendable {
    private let profile: ImportProfile
    private let length: Int
    private let framing: LeafFraming
    private var hashedCount = 0
    private var hasher = SHA256Hasher()

    /// Begins a chunk of `length` bytes.
    ///
    /// - Parameter metadata: the attributes of the file, if this leaf is the whole file.
    public init(profile: ImportProfile, length: Int, metadata: UnixFSMetadata = .none) {
        self.profile = profile
        self.length = length
        framing = profile.leafFraming(length: length, metadata: metadata)
        hasher.update(framing.prefix)
    }

    /// Hashes the next piece of the chunk where it lies.
    public mutating func update(_ piece: UnsafeRawBufferPointer) {
        hashedCount += piece.count
        hasher.update(piece)
    }

    /// The leaf.
    ///
    /// - Precondition: the pieces had `length` bytes together.
    public mutating func finish() -> Leaf {
        precondition(hashedCount == length, "a chunk has the length that it was begun with")
        hasher.update(framing.suffix)
        let multihash = hasher.finalize()
        return Leaf(
            cid: profile.rawLeaves
                ? CID(codec: .raw, multihash: multihash) : profile.nodeCID(multihash),
            fileSize: UInt64(length),
            treeSize: UInt64(framing.prefix.count + length + framing.suffix.count))
    }
}
