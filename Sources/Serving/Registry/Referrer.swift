package import RegistryNames

/// A manifest that refers to another: a signature, an attestation, a list of what is in an image.
package struct Referrer: Sendable {
    package let digest: RegistryDigest
    let artifactType: String?
    /// As it stands in the list of referrers.
    package let descriptor: [UInt8]

    /// What a reference costs in memory, about, in bytes.
    var cost: Int { descriptor.count + (artifactType?.utf8.count ?? 0) + 160 }

    /// Nil for a manifest that refers to none.
    package static func of(
        _ bytes: [UInt8], digest: RegistryDigest
    ) -> (subject: RegistryDigest, referrer: Referrer)? {
        guard let fields = ManifestFields(bytes), let subject = fields.subject else { return nil }
        let mediaType = ManifestType.of(fields)
        // An image says by its configuration what it is, where it does not say it itself; an index has none.
        let artifactType =
            fields.artifactType ?? (fields.hasManifests ? nil : fields.configMediaType)
        var members: [(name: String, value: JSONText)] = [
            ("mediaType", .string(mediaType)), ("size", .number(UInt64(bytes.count))),
            ("digest", .string(digest.text)),
        ]
        if let artifactType { members.append(("artifactType", .string(artifactType))) }
        if !fields.annotations.isEmpty {
            members.append(
                (
                    "annotations",
                    .object(fields.annotations.map { ($0.name, .string($0.value)) })
                ))
        }
        return (
            subject,
            Referrer(
                digest: digest, artifactType: artifactType,
                descriptor: JSONText.object(members).bytes)
        )
    }
}

/// A part of a list of referrers, as an index.
struct ReferrersPage {
    /// The most that the descriptors of an answer come to, in bytes; one is given always.
    static let bytesMax = 2 << 20

    private var descriptors: [JSONText] = []
    /// The digest that the next part begins behind; nil at the end.
    private(set) var next: String?

    /// - Parameter isThere: whether a manifest is still in the repository.
    init(
        _ referrers: [Referrer], _ page: RegistryPage,
        isThere: (Referrer) throws(ServeFault) -> Bool
    ) throws(ServeFault) {
        guard page.count > 0 else { return }
        let last = page.last.map { String(decoding: $0, as: UTF8.self) } ?? ""
        let ascending = referrers.map { (text: $0.digest.text, referrer: $0) }
            .filter { $0.text > last }.sorted { $0.text < $1.text }
        var count = 0
        var given: String?
        for (text, referrer) in ascending {
            guard try isThere(referrer) else { continue }
            count += referrer.descriptor.count
            guard given == nil || count <= Self.bytesMax && descriptors.count < page.count else {
                next = given
                return
            }
            descriptors.append(.encoded(referrer.descriptor))
            given = text
        }
    }

    var index: JSONText {
        .object([
            ("schemaVersion", .number(2)), ("mediaType", .string(ManifestType.index)),
            ("manifests", .list(descriptors)),
        ])
    }
}
