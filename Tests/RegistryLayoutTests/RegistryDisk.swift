import Base
import Foundation
import Multiformats
import RegistryLayout
import RegistryNames

/// A stock registry's directory in a temporary one, and a place for trees beside it.
final class RegistryDisk {
    let path: String
    var base: String { path + "/registry" }
    var target: String { path + "/target" }

    init() throws {
        path = FileManager.default.temporaryDirectory.path + "/layout-" + UUID().uuidString
        for directory in ["registry/repositories", "registry/blobs", "target"] {
            try FileManager.default.createDirectory(
                atPath: path + "/" + directory, withIntermediateDirectories: true)
        }
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ bytes: [UInt8], to file: String) throws {
        let whole = base + "/" + file
        try FileManager.default.createDirectory(
            atPath: (whole as NSString).deletingLastPathComponent,
            withIntermediateDirectories: true)
        try Data(bytes).write(to: URL(fileURLWithPath: whole))
    }

    func blobPath(_ digest: String) -> String {
        let hex = digest.split(separator: ":")[1]
        return "blobs/sha256/\(hex.prefix(2))/\(hex)/data"
    }

    /// Puts bytes where all repositories' are.
    func blob(_ bytes: [UInt8]) throws -> String {
        let digest = Self.digest(of: bytes)
        try write(bytes, to: blobPath(digest))
        return digest
    }

    func link(_ digest: String, _ file: String) throws { try write(Array(digest.utf8), to: file) }

    func layer(_ text: String, in repository: String) throws -> String {
        let digest = try blob(Array(text.utf8))
        try link(digest, "repositories/\(repository)/_layers/sha256/\(Self.hex(digest))/link")
        return digest
    }

    func manifest(_ json: String, in repository: String, tag: String? = nil) throws -> String {
        let digest = try blob(Array(json.utf8))
        let manifests = "repositories/\(repository)/_manifests"
        try link(digest, "\(manifests)/revisions/sha256/\(Self.hex(digest))/link")
        if let tag { try self.tag(tag, digest, in: repository) }
        return digest
    }

    func tag(_ tag: String, _ digest: String, in repository: String) throws {
        let tags = "repositories/\(repository)/_manifests/tags/\(tag)"
        try link(digest, "\(tags)/current/link")
        try link(digest, "\(tags)/index/sha256/\(Self.hex(digest))/link")
    }

    /// An image of one layer.
    func image(
        _ text: String, in repository: String, tag: String? = nil, subject: String? = nil
    ) throws -> (manifest: String, config: String, layer: String) {
        let config = try layer("{\"of\":\"\(text)\"}", in: repository)
        let layer = try layer(text, in: repository)
        let digest = try manifest(
            Self.image(config: config, layer: layer, subject: subject), in: repository, tag: tag)
        return (digest, config, layer)
    }

    static let imageType = "application/vnd.oci.image.manifest.v1+json"

    static func image(config: String, layer: String, subject: String? = nil) -> String {
        let refers = subject.map { ",\"subject\":{\"digest\":\"\($0)\",\"size\":1}" } ?? ""
        return
            "{\"schemaVersion\":2,\"mediaType\":\"\(imageType)\",\"config\":{\"digest\":\"\(config)\"},"
            + "\"layers\":[{\"digest\":\"\(layer)\"}]\(refers)}"
    }

    static func index(_ manifests: [String]) -> String {
        let list = manifests.map { "{\"digest\":\"\($0)\"}" }.joined(separator: ",")
        return "{\"schemaVersion\":2,\"manifests\":[\(list)]}"
    }

    static func digest(of bytes: [UInt8]) -> String {
        var hasher = SHA256Hasher()
        hasher.update(bytes)
        return "sha256:"
            + hasher.finalize().withDigest { digest in
                digest.map { String(format: "%02x", $0) }.joined()
            }
    }

    static func hex(_ digest: String) -> String { String(digest.split(separator: ":")[1]) }

    // MARK: What is tested

    func registry() throws -> StockRegistry {
        StockRegistry(base: try Sys.open(base, flags: O_RDONLY | O_DIRECTORY))
    }

    func contents(_ patterns: String...) throws -> [RepositoryContents] {
        let registry = try registry()
        let parsed = try patterns.map { try RepositoryPattern($0) }
        return try registry.repositories(matching: parsed)
            .map { try registry.contents(of: $0, tagged: parsed) }
    }

    func wholeContents(_ pattern: String) throws -> [RepositoryContents] {
        let registry = try registry()
        return try registry.repositories(matching: [try RepositoryPattern(pattern)])
            .map { try registry.wholeContents(of: $0) }
    }

    func syncStatic(_ tree: StaticTree, _ style: TreeSync.Style) throws -> TreeChanges {
        let sync = try TreeSync(
            root: try Sys.open(target, flags: O_RDONLY | O_DIRECTORY), from: try registry(), style,
            topNames: StaticTree.topNames, rank: StaticTree.rank)
        return try sync.run(tree.tree)
    }

    /// The files of the place for trees, sorted.
    func made() -> [String] {
        let all = FileManager.default.enumerator(atPath: target)?.compactMap { $0 as? String } ?? []
        return all.filter { path in
            var isDirectory: ObjCBool = false
            _ = FileManager.default.fileExists(
                atPath: target + "/" + path, isDirectory: &isDirectory)
            return !isDirectory.boolValue
        }.sorted()
    }

    func content(_ file: String) -> String? {
        FileManager.default.contents(atPath: target + "/" + file).map {
            String(decoding: $0, as: UTF8.self)
        }
    }

}
