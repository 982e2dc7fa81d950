// The choices that decide which CID a file or a directory gets.
// Source: IPIP-0499, https://specs.ipfs.tech/ipips/ipip-0499

/// How content becomes a DAG: whoever uses the same profile gets the same CIDs.
public struct ImportProfile: Hashable, Sendable {
    /// How the size of a directory is estimated when it is decided whether to shard it.
    public enum DirectorySizeEstimation: Hashable, Sendable {
        /// The lengths of all names and binary CIDs.
        case links
        /// The exact length of the block.
        case block
        /// Not at all: only `directoryLinksMax` counts.
        case disabled
    }

    /// The bytes of a chunk; the last one of a file may be shorter. 1 to `chunkSizeMax`.
    public let chunkSize: Int
    /// The most links of a DAG node of a file. 2 to `fileLinksLimit`.
    public let fileLinksMax: Int
    /// Whether a leaf is the bare bytes, or wrapped in dag-pb and UnixFS.
    public let rawLeaves: Bool
    /// The version of every CID except those of raw leaves, which are always 1. 0 or 1.
    public let cidVersion: Int
    /// The most links of a DAG node of a sharded directory. A power of two, 8 to 1024.
    public let hamtFanout: Int
    /// A directory whose estimated size is above this many bytes is sharded.
    public let directoryThreshold: Int
    /// How that size is estimated.
    public let directoryEstimation: DirectorySizeEstimation
    /// A directory with more entries is sharded; 0 is no bound.
    public let directoryLinksMax: Int

    /// The largest chunk, in bytes: framed, it still fits a block.
    public static let chunkSizeMax = DAGNode.blockSizeMax - 256
    /// The largest `fileLinksMax`: that many links still fit a block.
    public static let fileLinksLimit = 8192

    /// Makes a profile.
    ///
    /// - Precondition: each value is in the range that its property names.
    public init(
        chunkSize: Int, fileLinksMax: Int, rawLeaves: Bool, cidVersion: Int, hamtFanout: Int = 256,
        directoryThreshold: Int = 262_144, directoryEstimation: DirectorySizeEstimation,
        directoryLinksMax: Int = 0
    ) {
        precondition((1...Self.chunkSizeMax).contains(chunkSize), "chunkSize out of range")
        precondition((2...Self.fileLinksLimit).contains(fileLinksMax), "fileLinksMax out of range")
        precondition((0...1).contains(cidVersion), "a CID has version 0 or 1")
        precondition(
            (8...1024).contains(hamtFanout) && hamtFanout.nonzeroBitCount == 1,
            "hamtFanout is a power of two from 8 to 1024")
        precondition(directoryThreshold >= 0 && directoryLinksMax >= 0, "a bound is not negative")
        self.chunkSize = chunkSize
        self.fileLinksMax = fileLinksMax
        self.rawLeaves = rawLeaves
        self.cidVersion = cidVersion
        self.hamtFanout = hamtFanout
        self.directoryThreshold = directoryThreshold
        self.directoryEstimation = directoryEstimation
        self.directoryLinksMax = directoryLinksMax
    }

    /// The profile that IPIP-0499 recommends: raw leaves of 1 MiB, CIDv1. The default here.
    public static let unixfsV1_2025 = ImportProfile(
        chunkSize: 1 << 20, fileLinksMax: 1024, rawLeaves: true, cidVersion: 1,
        directoryEstimation: .block)

    /// What Kubo does when nothing is configured: wrapped leaves of 256 KiB, CIDv0.
    public static let unixfsV0_2015 = ImportProfile(
        chunkSize: 1 << 18, fileLinksMax: 174, rawLeaves: false, cidVersion: 0,
        directoryEstimation: .links)

    private static let named: [(name: String, profile: ImportProfile)] = [
        ("unixfs-v1-2025", .unixfsV1_2025),
        ("unixfs-v0-2015", .unixfsV0_2015),
    ]

    /// The names that `init(name:)` knows, the default first.
    public static var names: [String] { named.map(\.name) }

    /// The profile of this name, or nil if there is none.
    public init?(name: String) {
        guard let known = Self.named.first(where: { $0.name == name }) else { return nil }
        self = known.profile
    }

    /// The name in IPIP-0499, or `custom`.
    public var name: String {
        Self.named.first { $0.profile == self }?.name ?? "custom"
    }

    /// The profile for files whose mode or mtime goes into the DAG.
    ///
    /// A raw leaf cannot hold attributes, so every leaf is wrapped, as Kubo does it.
    public var forMetadata: ImportProfile {
        ImportProfile(
            chunkSize: chunkSize, fileLinksMax: fileLinksMax, rawLeaves: false,
            cidVersion: cidVersion, hamtFanout: hamtFanout,
            directoryThreshold: directoryThreshold, directoryEstimation: directoryEstimation,
            directoryLinksMax: directoryLinksMax)
    }
}
