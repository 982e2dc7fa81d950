internal import Base
internal import HTTPTypes

extension PathGateway {
    /// Answers for a path that is not there as the `_redirects` of the root says; nil where it says nothing, or leads to
    /// what is not there either.
    func redirected(_ asked: Asked) throws(ServeFault) -> ServeResponse? {
        var walk = PathWalk(content, scope: scope, reach: asked.reach)
        guard
            let file = try walk.follow(
                [Array("_redirects".utf8)], from: asked.root, followsLast: true)
        else { return nil }
        let rules: Redirects
        switch try rulesOrReason(file, asked) {
        case .success(let read): rules = read
        case .failure(let error):
            return Self.plain(500, "could not parse _redirects: \(oneLine(error.reason))")
        }
        switch rules.answer(to: asked.names) {
        case nil: return nil
        case .redirect(let target, let status):
            return ServeResponse(
                status, [.location: Redirects.adding(asked.request.query, to: target)])
        case .content(let names, let status):
            var walk = PathWalk(content, scope: scope, reach: asked.reach)
            guard let result = try walk.follow(names, from: asked.root, followsLast: true) else {
                return nil
            }
            return status == 200
                ? try answer(asked, result, isRewritten: true)
                : try statusPage(asked, result, status: status)
        }
    }

    private func rulesOrReason(
        _ file: PathResult, _ asked: Asked
    ) throws(ServeFault) -> Result<Redirects, RedirectsError> {
        switch file.end {
        case .raw, .file: break
        case .directory, .symlink, .other:
            return .failure(RedirectsError(reason: "it is not a file"))
        }
        let size = try Self.size(file.end)
        // One byte more than may be is enough to say so.
        let text = try beginning(
            of: file, size: size, count: UInt64(Redirects.byteCountMax) + 1, reach: asked.reach)
        do throws(RedirectsError) {
            return .success(try Redirects(text))
        } catch {
            return .failure(error)
        }
    }

    /// Answers with the page that a site has for what it does not have: whole, whatever the request says of ranges.
    private func statusPage(
        _ asked: Asked, _ result: PathResult, status: Int
    ) throws(ServeFault) -> ServeResponse {
        switch result.end {
        case .raw, .file: break
        case .directory, .symlink, .other: return Self.plain(status, "the site does not have this")
        }
        let size = try Self.size(result.end)
        var fields = asked.fields
        fields[.ipfsRoots] = result.roots
        fields[.cacheControl] = asked.cacheControl(isListing: false)
        fields[.eTag] = "\"\(result.cid)\""
        fields[.contentType] = "text/html"
        if asked.request.method == .head {
            return ServeResponse(status, fields, .unsent(count: size))
        }
        let body = try Self.bytes(
            of: result, 0..<size, in: content, scope: scope, reach: asked.reach)
        return ServeResponse(status, fields, body)
    }
}
