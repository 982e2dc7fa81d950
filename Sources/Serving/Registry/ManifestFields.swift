internal import RegistryNames

// What a registry looks at in a manifest.
//
// Of members that come twice the last counts, as for the clients written in Go. One of another type than it should have is
// passed over.
// Source: https://github.com/opencontainers/image-spec (manifest.md, image-index.md), Docker's manifest schemas 1 and 2.

/// The few fields of a manifest that decide how it is served.
package struct ManifestFields: Sendable {
    /// The most that annotations may have together, in bytes; more is as none.
    static let annotationBytesMax = 64 << 10

    var mediaType: String?
    var artifactType: String?
    var configMediaType: String?
    /// The digest of what it refers to; nil also where that is malformed.
    var subject: RegistryDigest?
    /// In bytewise order of their names.
    var annotations: [(name: String, value: String)] = []

    private(set) var hasManifests = false
    private(set) var hasConfig = false
    private(set) var hasLayers = false
    private(set) var hasBlobs = false
    private(set) var hasFileSystemLayers = false
    private(set) var hasSignatures = false

    /// Nil for what is no JSON object, or nested too deep.
    package init?(_ bytes: [UInt8]) {
        var reader = JSONReader(bytes)
        do throws(JSONFault) {
            try reader.readMembers { (reader, name) throws(JSONFault) in
                try read(name, &reader)
            }
        } catch {
            return nil
        }
        guard reader.isAtEnd() else { return nil }
    }

    private mutating func read(_ name: String, _ reader: inout JSONReader) throws(JSONFault) {
        switch name {
        case "mediaType": mediaType = try Self.text(&reader)
        case "artifactType": artifactType = try Self.text(&reader)
        case "manifests": hasManifests = try Self.passes(.array, &reader)
        case "layers": hasLayers = try Self.passes(.array, &reader)
        case "blobs": hasBlobs = try Self.passes(.array, &reader)
        case "fsLayers": hasFileSystemLayers = try Self.passes(.array, &reader)
        case "signatures": hasSignatures = try Self.passes(.array, &reader)
        case "config":
            hasConfig = reader.kind() == .object
            configMediaType = try Self.member("mediaType", &reader)
        case "subject":
            subject = try Self.member("digest", &reader)
                .flatMap { RegistryDigest(parsing: Array($0.utf8)) }
        case "annotations": annotations = try Self.texts(&reader)
        default: try reader.skipValue()
        }
    }

    /// A string that is not empty.
    private static func text(_ reader: inout JSONReader) throws(JSONFault) -> String? {
        guard reader.kind() == .string else {
            try reader.skipValue()
            return nil
        }
        let text = try reader.readString()
        return text.isEmpty ? nil : text
    }

    /// Whether the value that is passed over is of a kind.
    private static func passes(
        _ kind: JSONReader.Kind, _ reader: inout JSONReader
    ) throws(JSONFault) -> Bool {
        let isSo = reader.kind() == kind
        try reader.skipValue()
        return isSo
    }

    /// The string of a name in an object.
    private static func member(
        _ name: String, _ reader: inout JSONReader
    ) throws(JSONFault) -> String? {
        guard reader.kind() == .object else {
            try reader.skipValue()
            return nil
        }
        var value: String?
        try reader.readMembers { (reader, found) throws(JSONFault) in
            if found == name {
                value = try text(&reader)
            } else {
                try reader.skipValue()
            }
        }
        return value
    }

    private static func texts(
        _ reader: inout JSONReader
    ) throws(JSONFault) -> [(name: String, value: String)] {
        guard reader.kind() == .object else {
            try reader.skipValue()
            return []
        }
        var texts: [String: String] = [:]
        var count = 0
        try reader.readMembers { (reader, name) throws(JSONFault) in
            guard count <= annotationBytesMax, reader.kind() == .string else {
                return try reader.skipValue()
            }
            let value = try reader.readString()
            // What each costs in memory beside its text counts as well.
            count += name.utf8.count + value.utf8.count + 32
            texts[name] = value
        }
        guard count <= annotationBytesMax else { return [] }
        return texts.map { (name: $0.key, value: $0.value) }
            .sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    }
}

/// Types of manifests.
package enum ManifestType {
    package static let index = "application/vnd.oci.image.index.v1+json"
    static let image = "application/vnd.oci.image.manifest.v1+json"
    static let artifact = "application/vnd.oci.artifact.manifest.v1+json"
    static let schema1 = "application/vnd.docker.distribution.manifest.v1+json"
    static let schema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    /// Of an object that is no manifest anybody knows.
    static let json = "application/json"
    /// Of what is no JSON object.
    static let other = "application/octet-stream"

    /// The longest type that is taken from a manifest, in bytes.
    static let lengthMax = 255

    /// How a manifest is to be called: as it calls itself, else by its shape. What has the shape of both an image and an index
    /// is neither, because two clients might see two images in it (CVE-2021-41190).
    ///
    /// - Parameter fields: nil for what is no JSON object.
    package static func of(_ fields: ManifestFields?) -> String {
        guard let fields else { return other }
        if let type = fields.mediaType.flatMap(usable) { return type }
        if fields.hasFileSystemLayers || fields.hasSignatures {
            return fields.hasSignatures ? schema1Signed : schema1
        }
        let isImage = fields.hasConfig || fields.hasLayers
        switch (isImage, fields.hasManifests) {
        case (true, false): return image
        case (false, true): return index
        case (true, true): return json
        case (false, false): return fields.hasBlobs ? artifact : json
        }
    }

    /// A type that a manifest may give itself, without parameters. Others would have a browser take the bytes of whoever
    /// pushed them for a page of this server's.
    private static func usable(_ type: String) -> String? {
        let bare = type.utf8.prefix { $0 != UInt8(ascii: ";") && $0 != UInt8(ascii: " ") }
        guard bare.count <= lengthMax, bare.starts(with: "application/".utf8),
            bare.dropFirst(12).allSatisfy(isTypeCharacter)
        else { return nil }
        let text = String(decoding: bare, as: UTF8.self)
        return text.hasSuffix("+json") || text.hasSuffix("+prettyjws") ? text : nil
    }

    /// Of RFC 6838, 4.2.
    private static func isTypeCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default:
            "!#$&-^_.+".utf8.contains(byte)
        }
    }
}
