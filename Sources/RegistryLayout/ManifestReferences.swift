package import RegistryNames
internal import Serving

// What a manifest needs: members `config`, `layers`, `blobs`, `fsLayers` name blobs, `manifests` names manifests, each by `digest` (schema 1:
// `blobSum`).
//
// Validity: a JSON object. Members of other types, and digests that are none, are passed over, as by whoever serves it. A descriptor with
//           `urls` may be nowhere here: its bytes are where these say.
// Source:   https://github.com/opencontainers/image-spec (manifest.md, image-index.md), Docker's manifest schemas 1 and 2.

/// The digests in a manifest, each once, in the order in which they stand.
package struct ManifestReferences: Sendable, Hashable {
    package private(set) var blobs: [RegistryDigest] = []
    package private(set) var manifests: [RegistryDigest] = []
    /// Of the blobs, those that may be elsewhere.
    package private(set) var foreign: Set<RegistryDigest> = []

    /// Of bytes up to `ManifestStore.sizeMax`. Nothing for what is no JSON object, or nested too deep.
    package init(_ bytes: [UInt8]) {
        var found = (blobs: Ordered(), manifests: Ordered(), foreign: Set<RegistryDigest>())
        var reader = JSONReader(bytes)
        do throws(JSONFault) {
            try reader.readMembers { (reader, name) throws(JSONFault) in
                switch name {
                case "config":
                    try Self.descriptor(&reader, into: &found.blobs, &found.foreign)
                case "layers", "blobs", "fsLayers":
                    try Self.list(&reader, into: &found.blobs, &found.foreign)
                case "manifests":
                    var ignored: Set<RegistryDigest> = []
                    try Self.list(&reader, into: &found.manifests, &ignored)
                default:
                    try reader.skipValue()
                }
            }
        } catch {
            return
        }
        blobs = found.blobs.list
        manifests = found.manifests.list
        foreign = found.foreign
    }

    private struct Ordered {
        var list: [RegistryDigest] = []
        private var seen: Set<RegistryDigest> = []

        mutating func add(_ digest: RegistryDigest) {
            if seen.insert(digest).inserted { list.append(digest) }
        }
    }

    private static func list(
        _ reader: inout JSONReader, into found: inout Ordered, _ foreign: inout Set<RegistryDigest>
    ) throws(JSONFault) {
        guard reader.kind() == .array else { return try reader.skipValue() }
        try reader.readElements { (reader) throws(JSONFault) in
            try descriptor(&reader, into: &found, &foreign)
        }
    }

    private static func descriptor(
        _ reader: inout JSONReader, into found: inout Ordered, _ foreign: inout Set<RegistryDigest>
    ) throws(JSONFault) {
        guard reader.kind() == .object else { return try reader.skipValue() }
        var digest: RegistryDigest?
        var hasURLs = false
        try reader.readMembers { (reader, name) throws(JSONFault) in
            switch name {
            case "digest", "blobSum":
                guard reader.kind() == .string else { return try reader.skipValue() }
                digest = RegistryDigest(parsing: Array(try reader.readString().utf8))
            case "urls":
                hasURLs = reader.kind() == .array
                try reader.skipValue()
            default:
                try reader.skipValue()
            }
        }
        guard let digest else { return }
        found.add(digest)
        if hasURLs { foreign.insert(digest) }
    }
}
