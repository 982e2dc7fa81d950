/// Manifests of all kinds, as texts.
enum Manifests {
    static let imageType = "application/vnd.oci.image.manifest.v1+json"
    static let indexType = "application/vnd.oci.image.index.v1+json"

    static func descriptor(_ digest: String, type: String = "application/octet-stream") -> String {
        "{\"mediaType\":\"\(type)\",\"size\":2,\"digest\":\"\(digest)\"}"
    }

    /// An OCI image.
    static func image(
        config: String = RegistryDouble.digest(Array("{}".utf8)),
        configType: String = "application/vnd.oci.image.config.v1+json", layers: [String] = [],
        artifactType: String? = nil, subject: String? = nil, annotations: String? = nil,
        note: String = ""
    ) -> String {
        "{\"schemaVersion\":2,\"mediaType\":\"\(imageType)\"\(note.isEmpty ? "" : ",\"note\":\"\(note)\"")"
            + (artifactType.map { ",\"artifactType\":\"\($0)\"" } ?? "")
            + ",\"config\":\(descriptor(config, type: configType))"
            + ",\"layers\":[\(layers.map { descriptor($0) }.joined(separator: ","))]"
            + (subject.map { ",\"subject\":\(descriptor($0, type: imageType))" } ?? "")
            + (annotations.map { ",\"annotations\":\($0)" } ?? "") + "}"
    }

    /// An OCI index.
    static func index(
        _ manifests: [String] = [], artifactType: String? = nil, subject: String? = nil,
        annotations: String? = nil
    ) -> String {
        "{\"schemaVersion\":2,\"mediaType\":\"\(indexType)\""
            + (artifactType.map { ",\"artifactType\":\"\($0)\"" } ?? "")
            + ",\"manifests\":[\(manifests.map { descriptor($0, type: imageType) }.joined(separator: ","))]"
            + (subject.map { ",\"subject\":\(descriptor($0, type: imageType))" } ?? "")
            + (annotations.map { ",\"annotations\":\($0)" } ?? "") + "}"
    }
}
