internal import HTTPTypes
internal import Multiformats

extension PathGateway {
    /// Answers with the page of a directory: its index.html, else a listing.
    func directory(_ asked: Asked, _ result: PathResult) throws(ServeFault) -> ServeResponse {
        let isJSON = asked.format == .json
        if !isJSON, let page = try indexPage(asked, result) {
            return try file(
                asked, page, name: Array("index.html".utf8), etag: "\"\(result.cid)\"")
        }
        var fields = asked.fields
        let etag = ListingPage.etag(result.cid, isJSON: isJSON)
        fields[.eTag] = etag
        fields[.cacheControl] = asked.cacheControl(isListing: true)
        if isJSON, asked.request.value("format") == nil {
            fields[.contentLocation] = asked.location(
                slash: true, adding: (name: "format", value: "json"))
        }
        if let response = EntityTag.unmet(asked.request, etag: etag, fields: fields) {
            return response
        }
        fields[.contentType] = isJSON ? "application/json" : "text/html; charset=utf-8"
        fields[.xContentTypeOptions] = "nosniff"
        if !isJSON {
            // Should a name ever get out of its quotes, nothing of it is run.
            fields[.contentSecurityPolicy] =
                "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
        }
        guard asked.request.method != .head else {
            return ServeResponse(200, fields, .producer(NoRows(), count: nil))
        }
        let root = asked.isHost ? [] : Array(asked.request.names.prefix(2))
        let page = ListingPage(
            place: ListingPage.Place(root: root, names: result.names), cid: result.cid,
            entries: try PathWalk(content, scope: scope, reach: asked.reach)
                .entries(result.cid, cancellation: asked.request.cancellation))
        return ServeResponse(200, fields, isJSON ? page.json() : page.html())
    }

    /// The index.html of a directory, also where it is a symlink within the tree; nil where there is no such file.
    private func indexPage(_ asked: Asked, _ result: PathResult) throws(ServeFault) -> PathResult? {
        let name = Array("index.html".utf8)
        var walk = PathWalk(content, scope: scope, reach: asked.reach)
        var page = try walk.follow([name], from: result.cid, followsLast: false)
        if case .symlink = page?.end {
            page = try walk.follow(result.names + [name], from: asked.root, followsLast: true)
        }
        switch page?.end {
        case .raw, .file: return page
        case .directory, .symlink, .other, nil: return nil
        }
    }
}

/// What an answer to HEAD has, where the length of the body would be known only once it is made.
private final class NoRows: BodyProducer {
    func next() throws(ServeFault) -> BytesPlace? { nil }
}
