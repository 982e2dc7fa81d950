internal import CCurl

extension Exchange {
    /// Says what came of it once its transfer has ended.
    ///
    /// - Parameter session: the one that made the transfer.
    func judge(
        _ ending: CurlSession.Ending, of request: HTTPRequest, on session: CurlSession,
        _ environment: HTTPEnvironment
    ) throws(HTTPError) -> HTTPReply {
        let code: CURLcode
        switch ending {
        case .cancelled: throw error(.cancelled, "cancelled", request, session)
        case .tooLate(let what): throw error(.timeout, what, request, session)
        case .ended(let ended): code = ended
        }
        if let fault { throw error(fault, faultText, request, session) }
        if isTooLarge, head == nil || isAccepted {
            throw error(
                .tooLarge, "the reply, or its head, is longer than it may be", request, session)
        }
        if let head, !isAccepted {
            // Its text is for people: what there is of it will do.
            let isWhole = code == CURLE_OK && isHeadWhole && !isTooLarge
            return reply(head, to: request, isWhole: isWhole)
        }
        guard code == CURLE_OK else {
            let explanation = environment.redacted(session.explanation(of: code))
            throw error(
                TransferFailure.kind(of: code, explanation: explanation),
                TransferFailure.text(
                    of: code, explanation: explanation, hasReply: hasReply, environment),
                request, session)
        }
        guard let head, isHeadWhole else {
            throw error(
                .offline, "the connection ended in the head of the reply", request, session)
        }
        guard isDelimited || request.takesUnknownEnd else {
            throw error(
                .protocolViolation, "the reply has no length, so its end cannot be told", request,
                session)
        }
        guard isPartWhole else {
            throw error(
                .protocolViolation, "the reply has another length than it says of its part",
                request, session)
        }
        return reply(head, to: request, isWhole: true)
    }

    private func reply(
        _ head: HTTPReplyHead, to request: HTTPRequest, isWhole: Bool
    ) -> HTTPReply {
        HTTPReply(
            head: head, trailers: trailers, body: takeReply(), isWhole: isWhole,
            isDelimited: isDelimited, url: request.url)
    }

    private func error(
        _ kind: HTTPError.Kind, _ message: String, _ request: HTTPRequest, _ session: CurlSession
    ) -> HTTPError {
        HTTPError(kind, request, message, wasSent: session.wasSent)
    }
}
