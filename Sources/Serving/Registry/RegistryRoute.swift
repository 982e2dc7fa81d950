internal import Multiformats
internal import RegistryNames

// What a path of the registry asks for.
//
// Path:   /v2/                                     is this a registry?
//         /v2/[ipfs/CID/]_catalog
//         /v2/[ipfs/CID/]NAME/manifests/TAG, …/manifests/DIGEST, …/blobs/DIGEST, …/tags/list, …/referrers/DIGEST
// Order:  read from the right, for components of names may be called `manifests` as well. `ipfs` with a CID behind it is
//         a root; with anything else (`ipfs/kubo`) it is the begin of a name.

/// What of a repository is asked for.
enum RegistryTarget {
    case base
    case catalog(RegistryPage)
    case tags(RegistryPage)
    case manifest(ManifestReference)
    case blob(RegistryDigest)
    case referrers(RegistryDigest, RegistryPage)
}

/// How a manifest is named.
enum ManifestReference {
    case tag([UInt8])
    case digest(RegistryDigest)

    var text: String {
        switch self {
        case .tag(let tag): String(decoding: tag, as: UTF8.self)
        case .digest(let digest): digest.text
        }
    }
}

/// A request, taken apart and checked. Nothing in it leads out of a directory.
struct RegistryRoute {
    /// The root of the tree; nil for the tree as it is now.
    var root: CID?
    /// The name of the root within the path, with a slash at its end; empty for the tree as it is now.
    var rootText = ""
    /// The repository's name in the tree; empty where the target is of none.
    var name: [[UInt8]] = []
    /// The registry that the client thinks it asks (`ns=` of containerd and other mirrors); nil where it does not say so, or
    /// says something else than a host.
    var namespace: String?
    var target: RegistryTarget

    /// The repository's name as the client wrote it.
    var nameText: String {
        rootText + name.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/")
    }

    init(_ request: ServeRequest) throws(RegistryError) {
        guard let first = request.names.first, Self.equal(first, "v2") else { throw .noEndpoint }
        var rest = request.names.dropFirst()
        guard !rest.isEmpty else {
            target = .base
            return
        }
        guard !request.hasTrailingSlash else { throw .noEndpoint }
        if let host = request.value("ns"), RegistryGrammar.isHost(host) { namespace = host }
        if rest.count > 2, let begin = rest.first, Self.equal(begin, "ipfs"),
            let cid = Self.cid(rest[rest.startIndex + 1])
        {
            root = cid.cid
            rootText = "ipfs/\(cid.text)/"
            rest = rest.dropFirst(2)
        }
        if rest.count == 1, let only = rest.first, Self.equal(only, "_catalog") {
            target = .catalog(try RegistryPage(request))
            return
        }
        guard rest.count >= 2, let last = rest.popLast(), let kind = rest.popLast() else {
            throw .noEndpoint
        }
        let isUpload =
            Self.equal(kind, "blobs") && Self.equal(last, "uploads")
            || Self.equal(kind, "uploads") && rest.last.map { Self.equal($0, "blobs") } ?? false
        guard !isUpload else { throw .uploadUnknown }
        // The name is looked at before what is asked of it.
        func checkName() throws(RegistryError) {
            guard RegistryGrammar.isName(rest) else { throw .nameInvalid(Self.text(rest)) }
        }
        switch String(decoding: kind, as: UTF8.self) {
        case "tags" where Self.equal(last, "list"):
            try checkName()
            target = .tags(try RegistryPage(request))
        case "manifests":
            try checkName()
            target = .manifest(try Self.reference(last, name: rootText + Self.text(rest)))
        case "blobs":
            try checkName()
            target = .blob(try Self.digest(last))
        case "referrers":
            try checkName()
            target = .referrers(try Self.digest(last), try RegistryPage(request))
        default: throw .noEndpoint
        }
        name = Array(rest)
    }

    /// What is not there, where it is not.
    var missing: RegistryError {
        switch target {
        case .base, .catalog, .tags, .referrers: .nameUnknown(nameText)
        case .manifest(let reference): .manifestUnknown(nameText, reference: reference.text)
        case .blob(let digest): .blobUnknown(nameText, digest: digest)
        }
    }

    /// Where the repository may lie below `repositories`, first choice first: what mirrors several registries keeps each below its
    /// host.
    var places: [(name: [[UInt8]], isOfNamespace: Bool)] {
        guard let namespace, RegistryGrammar.isComponent(Array(namespace.utf8)) else {
            return [(name, false)]
        }
        return [([Array(namespace.utf8)] + name, true), (name, false)]
    }

    private static func reference(
        _ text: [UInt8], name: String
    ) throws(RegistryError) -> ManifestReference {
        if text.contains(UInt8(ascii: ":")) { return .digest(try digest(text)) }
        guard RegistryGrammar.isTag(text) else {
            throw .manifestUnknown(name, reference: String(decoding: text, as: UTF8.self))
        }
        return .tag(text)
    }

    private static func digest(_ text: [UInt8]) throws(RegistryError) -> RegistryDigest {
        guard let digest = RegistryDigest(parsing: text) else {
            throw .digestInvalid(String(decoding: text, as: UTF8.self))
        }
        return digest
    }

    private static func cid(_ bytes: [UInt8]) -> (cid: CID, text: String)? {
        guard let text = String(validating: bytes, as: UTF8.self), let cid = CID(ofRequest: text)
        else { return nil }
        return (cid, text)
    }

    private static func text(_ names: ArraySlice<[UInt8]>) -> String {
        names.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/")
    }

    private static func equal(_ name: [UInt8], _ word: StaticString) -> Bool {
        word.withUTF8Buffer { name.elementsEqual($0) }
    }
}
