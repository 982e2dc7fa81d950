internal import Base
internal import HTTPTypes
internal import Multiformats
internal import RegistryNames

/// A registry as OCI describes it, read-only, over what the stock registry's filesystem driver has written into a tree, or over a tree
/// that is a registry of files (`export-static`).
///
/// - `/v2/NAME/…` is of the tree as it is now, `/v2/ipfs/CID/NAME/…` of any root that is in scope.
/// - Manifests and blobs come as they are stored, whatever Accept says: a type is what the manifest says of itself.
/// - A manifest's bytes are hashed before they are given. A blob's are those that its CID names, each block looked at; where that is one
///   leaf, the CID is the digest, and is compared.
/// - With `ns=`, as mirrors send it, each thing is looked for below `NS/NAME` first, then below `NAME`.
///
/// Blocks the thread that asks; memory is bounded: some 4 MiB of manifests, 16 MiB of lists of referrers, and what an answer takes.
/// Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
public struct RegistryAPI: RequestHandler {
    /// Where the stock registry's configuration of every distribution has it lie below its root directory.
    public static let directoryDefault = ["docker", "registry", "v2"].map { Array($0.utf8) }

    /// For what a digest names, which never changes. Not `public`: what needs a token is for nobody's cache but the client's own.
    static let cacheForever = "max-age=31536000, immutable"
    /// For what a push may change: a second of it is what followers of a tree may lag anyway.
    static let cacheBriefly = "max-age=1"

    private let trees: RegistryTrees
    private let store: ManifestStore
    private let index: ReferrersIndex
    private let content: any ServedContent
    private let scope: BlockScope
    private let limits: RegistryLimits
    private let log: @Sendable (String) -> Void

    /// - Parameters:
    ///   - scope: of what a root has to be, and all blocks below it.
    ///   - directory: where the registry lies in a tree. It is found as well where the tree's root is that directory itself.
    ///   - log: takes a message of one line.
    public init(
        content: any ServedContent, scope: BlockScope,
        directory: [[UInt8]] = RegistryAPI.directoryDefault,
        log: @escaping @Sendable (String) -> Void
    ) {
        self.init(
            content: content, scope: scope, directory: directory, limits: RegistryLimits(),
            log: log)
    }

    /// With other bounds, for tests.
    package init(
        content: any ServedContent, scope: BlockScope, directory: [[UInt8]],
        limits: RegistryLimits, log: @escaping @Sendable (String) -> Void
    ) {
        self.content = content
        self.scope = scope
        self.limits = limits
        self.log = log
        trees = RegistryTrees(content: content, scope: scope, directory: directory)
        store = ManifestStore()
        index = ReferrersIndex(store, limits: limits, log: log)
    }

    public func respond(to request: ServeRequest) -> ServeResponse {
        guard request.method == .get || request.method == .head else {
            return RegistryError.readOnly.response
        }
        do throws(RegistryError) {
            let route = try RegistryRoute(request)
            do throws(ServeFault) {
                return try answer(route, request)
            } catch {
                throw refusal(of: error, route, request)
            }
        } catch {
            return error.response
        }
    }

    /// What a server answers that refuses a request before anybody here sees it; nil where that is not for a registry to say.
    ///
    /// - Parameter target: a path, with or without a query.
    public static func refusal(of target: String, status: Int) -> ServeResponse? {
        let path = target.utf8.prefix { $0 != UInt8(ascii: "?") }
        guard path.elementsEqual("/v2".utf8) || path.starts(with: "/v2/".utf8) else { return nil }
        return RegistryError.ofServer(status)?.response
    }

    /// What is said of a fault: nothing of this machine. What somebody has to look into is logged.
    private func refusal(
        of fault: ServeFault, _ route: RegistryRoute, _ request: ServeRequest
    ) -> RegistryError {
        let refusal: RegistryError
        switch fault {
        case .notFound, .unsuitable: return route.missing
        case .unavailable: return .unavailable
        case .timedOut: return .timedOut
        case .damaged: refusal = .damaged
        case .tooLarge: refusal = .tooLarge
        case .failed: refusal = .failed
        }
        log(oneLine("registry: \(request.method.rawValue) \(request.rawPath): \(fault)"))
        return refusal
    }

    private func answer(
        _ route: RegistryRoute, _ request: ServeRequest
    ) throws(ServeFault) -> ServeResponse {
        if case .base = route.target {
            return Self.json(.object([]))
        }
        guard let registry = try trees.registry(root: route.root) else {
            // A registry that nobody has pushed to yet has no repositories, and is one all the same.
            if case .catalog = route.target, route.root == nil {
                return Self.json(.object([("repositories", .list([]))]))
            }
            return Self.noReferrers(route) ?? RegistryError.nameUnknown(route.nameText).response
        }
        let response: ServeResponse?
        switch route.target {
        case .base: response = nil
        case .catalog(let page): response = try catalog(page, route, request, registry)
        case .tags(let page): response = try tags(page, route, registry)
        case .manifest(let reference):
            response = try manifest(reference, route, request, registry)
        case .blob(let digest): response = try blob(digest, route, request, registry)
        case .referrers(let subject, let page):
            response = try referrers(to: subject, page, route, request, registry)
        }
        if let response { return response }
        if let response = Self.noReferrers(route) { return response }
        return try missing(route, registry).response
    }

    /// The empty list of who refers to what nobody has: there is no 404 for one digest (OCI distribution specification 1.1, "Listing
    /// Referrers"). A mirror must not say so of what the registry behind it may have.
    private static func noReferrers(_ route: RegistryRoute) -> ServeResponse? {
        guard case .referrers = route.target, route.namespace == nil else { return nil }
        var response = json(
            .object([
                ("schemaVersion", .number(2)), ("mediaType", .string(ManifestType.index)),
                ("manifests", .list([])),
            ]))
        response.fields[.contentType] = ManifestType.index
        return response
    }

    /// Whether it is the repository that is not there, or what was asked of it.
    private func missing(
        _ route: RegistryRoute, _ registry: RegistryTree
    ) throws(ServeFault) -> RegistryError {
        for place in route.places where try registry.hasRepository(place.name) {
            return route.missing
        }
        if route.root == nil { trees.forgetPlace() }
        return .nameUnknown(route.nameText)
    }

    // MARK: Manifests and blobs

    private func manifest(
        _ reference: ManifestReference, _ route: RegistryRoute, _ request: ServeRequest,
        _ registry: RegistryTree
    ) throws(ServeFault) -> ServeResponse? {
        for place in route.places {
            let named: RegistryDigest?
            let cacheControl: String
            switch reference {
            case .tag(let tag):
                named = try registry.digest(ofTag: tag, in: place.name)
                cacheControl = Self.cacheBriefly
            case .digest(let digest):
                named = digest
                cacheControl = Self.cacheForever
            }
            // A tag whose manifest is not there is none: a client that knows its digest would ask for it for ever.
            guard let digest = named, try registry.hasManifest(digest, in: place.name),
                let (cid, size) = try registry.bytesOf(digest, in: place.name)
            else { continue }
            // A large one is sent as a blob is, from where it lies: in memory it would be as long as a client takes for it.
            let isSmall = size <= ManifestStore.keptSizeMax
            let (facts, bytes) = try store.manifest(
                digest, cid: cid, size: size, wantsBytes: isSmall && request.method == .get,
                in: registry)
            let fields = Self.fields(
                digest, type: facts.mediaType, cacheControl: cacheControl, place.isOfNamespace,
                route)
            let (kept, content, scope) = (isSmall ? bytes : nil, content, scope)
            return try ranged(request, size: size, digest, fields) { (range) throws(ServeFault) in
                guard let kept else {
                    return try .file(cid, range: range, in: content, scope: scope)
                }
                guard range.upperBound <= kept.count else { throw .damaged(cid) }
                if range.lowerBound == 0, range.upperBound == kept.count { return .bytes(kept) }
                return .bytes(Array(kept[Int(range.lowerBound)..<Int(range.upperBound)]))
            }
        }
        return nil
    }

    /// The bytes come as they were hashed when their file was sealed: that they have the digest which is their name is what the
    /// registry saw to that took them, and no gigabyte is hashed for a request. A client does that anyway.
    private func blob(
        _ digest: RegistryDigest, _ route: RegistryRoute, _ request: ServeRequest,
        _ registry: RegistryTree
    ) throws(ServeFault) -> ServeResponse? {
        for place in route.places {
            guard try registry.hasBlob(digest, in: place.name),
                let (cid, size) = try registry.bytesOf(digest, in: place.name)
            else { continue }
            if cid.codec == .raw, cid.multihash.isSHA256, digest.multihash.isSHA256,
                cid.multihash != digest.multihash
            {
                throw .damaged(cid)
            }
            let fields = Self.fields(
                digest, type: "application/octet-stream", cacheControl: Self.cacheForever,
                place.isOfNamespace, route)
            let content = content
            let scope = scope
            return try ranged(request, size: size, digest, fields) { (range) throws(ServeFault) in
                try .file(cid, range: range, in: content, scope: scope)
            }
        }
        return nil
    }

    private func ranged(
        _ request: ServeRequest, size: UInt64, _ digest: RegistryDigest, _ fields: HTTPFields,
        body: @escaping @Sendable (Range<UInt64>) throws(ServeFault) -> ServeBody
    ) throws(ServeFault) -> ServeResponse {
        var response = try ServeResponse.ranged(
            request, size: size, etag: "\"\(digest.text)\"", fields: fields, body: body)
        if response.status == 416 {
            response.fields[.contentType] = "application/json"
            response.body = .bytes(RegistryError.rangeInvalid.body)
        }
        return response
    }

    private static func fields(
        _ digest: RegistryDigest, type: String, cacheControl: String, _ isOfNamespace: Bool,
        _ route: RegistryRoute
    ) -> HTTPFields {
        var fields = HTTPFields.ofRegistry(type: type, cacheControl: cacheControl)
        fields[.contentDigest] = digest.text
        if isOfNamespace { fields[.registryNamespace] = route.namespace }
        return fields
    }

    // MARK: Lists

    private func catalog(
        _ page: RegistryPage, _ route: RegistryRoute, _ request: ServeRequest,
        _ registry: RegistryTree
    ) throws(ServeFault) -> ServeResponse {
        var catalog = RegistryCatalog(
            registry, limits: limits, cancellation: request.cancellation)
        let found = try catalog.find(page)
        var response = Self.json(
            .object([("repositories", .list(found.names.map(JSONText.string)))]))
        if let next = found.next {
            let path = "/v2/\(route.rootText)_catalog"
            response.fields[.link] = page.link(path: path, last: next)
        }
        return response
    }

    private func tags(
        _ page: RegistryPage, _ route: RegistryRoute, _ registry: RegistryTree
    ) throws(ServeFault) -> ServeResponse? {
        for place in route.places {
            guard
                let found = try RegistryTags.find(
                    page, of: place.name, in: registry, limits: limits)
            else { continue }
            var response = Self.json(
                .object([
                    ("name", .string(route.nameText)),
                    ("tags", .list(found.names.map(JSONText.string))),
                ]))
            if let next = found.next {
                response.fields[.link] = page.link(
                    path: "/v2/\(route.nameText)/tags/list", last: next, query: Self.query(route))
            }
            if place.isOfNamespace { response.fields[.registryNamespace] = route.namespace }
            return response
        }
        return nil
    }

    /// A list of up to 2 MiB: the most that clients read of an index is 4.
    private func referrers(
        to subject: RegistryDigest, _ page: RegistryPage, _ route: RegistryRoute,
        _ request: ServeRequest, _ registry: RegistryTree
    ) throws(ServeFault) -> ServeResponse? {
        for place in route.places {
            let key = ReferrersIndex.Key(
                root: route.root, base: registry.base, repository: place.name)
            let all: [Referrer]
            switch try index.referrers(
                to: subject, key, in: registry, cancellation: request.cancellation)
            {
            case .list(let referrers): all = referrers
            case .noManifests:
                guard try registry.hasRepository(place.name) else { continue }
                all = []
            case .tooLarge: return RegistryError.noReferrers.response
            }
            let type = request.value("artifactType").flatMap { $0.isEmpty ? nil : $0 }
            let list = try ReferrersPage(
                all.filter { type == nil || $0.artifactType == type }, page,
                isThere: { (referrer) throws(ServeFault) in
                    try registry.hasManifest(referrer.digest, in: place.name)
                })
            var response = Self.json(list.index)
            response.fields[.contentType] = ManifestType.index
            if type != nil { response.fields[.filtersApplied] = "artifactType" }
            if let next = list.next {
                response.fields[.link] = page.link(
                    path: "/v2/\(route.nameText)/referrers/\(subject.text)",
                    last: Array(next.utf8),
                    query: (type.map { [("artifactType", $0)] } ?? []) + Self.query(route))
            }
            if place.isOfNamespace { response.fields[.registryNamespace] = route.namespace }
            return response
        }
        return nil
    }

    private static func query(_ route: RegistryRoute) -> [(name: String, value: String)] {
        route.namespace.map { [("ns", $0)] } ?? []
    }

    private static func json(_ text: JSONText) -> ServeResponse {
        ServeResponse(
            200, .ofRegistry(type: "application/json", cacheControl: cacheBriefly),
            .bytes(text.bytes))
    }
}
