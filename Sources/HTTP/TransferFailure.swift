internal import CCurl

/// What libcurl's errors mean for a request.
/// Source: libcurl-errors(3).
enum TransferFailure {
    static func kind(of code: CURLcode, explanation: String) -> HTTPError.Kind {
        switch code {
        case CURLE_COULDNT_CONNECT, CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY,
            CURLE_GOT_NOTHING, CURLE_SEND_ERROR, CURLE_PARTIAL_FILE, CURLE_SEND_FAIL_REWIND:
            return .offline
        case CURLE_RECV_ERROR:
            // Malformed chunks come under the same code as a lost connection.
            return explanation.lowercased().contains("chunk") ? .protocolViolation : .offline
        case CURLE_OPERATION_TIMEDOUT:
            // The only limit that curl keeps itself is the one for connecting.
            return .offline
        case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE,
            CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER, CURLE_SSL_ISSUER_ERROR:
            return .untrusted
        case CURLE_URL_MALFORMAT:
            return .invalidRequest
        case CURLE_UNSUPPORTED_PROTOCOL, CURLE_WEIRD_SERVER_REPLY, CURLE_WRITE_ERROR,
            CURLE_BAD_CONTENT_ENCODING, CURLE_TOO_MANY_REDIRECTS:
            return .protocolViolation
        default:
            // A malformed trailer comes under a code that says nothing.
            return explanation.lowercased().contains("chunk") ? .protocolViolation : .failed
        }
    }

    static func text(
        of code: CURLcode, explanation: String, hasReply: Bool, _ environment: HTTPEnvironment
    ) -> String {
        switch code {
        case CURLE_PARTIAL_FILE: "the connection ended in the middle of the reply"
        case CURLE_RECV_ERROR, CURLE_SEND_ERROR, CURLE_GOT_NOTHING:
            hasReply
                ? "the connection ended in the middle of the reply: \(explanation)"
                : "the connection ended before the reply: \(explanation)"
        case CURLE_WRITE_ERROR: "the head of the reply is too long"
        case CURLE_SSL_CACERT_BADFILE:
            environment.authorityFile.map {
                "no certificate authority can be read from \($0.path) (\($0.variable))"
            } ?? explanation
        default: explanation
        }
    }
}
