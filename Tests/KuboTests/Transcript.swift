import Foundation
import KuboDouble
import Multiformats

/// One recorded exchange; see the README beside the recording it came from.
struct TranscriptExchange: Decodable {
    struct Body: Decodable {
        var text: String?
        var base64: String?
        var sha256: String?
        var length: Int?

        /// Nil where only the hash was recorded.
        var bytes: [UInt8]? {
            if let text { return Array(text.utf8) }
            return base64.flatMap { Data(base64Encoded: $0) }.map { [UInt8]($0) }
        }

        func matches(_ bytes: [UInt8]) -> Bool {
            if let own = self.bytes { return own == bytes }
            return bytes.count == length && Self.sha256(bytes) == sha256
        }

        static func sha256(_ bytes: [UInt8]) -> String {
            Multihash.sha256(of: bytes).digest.map { String(format: "%02x", $0) }.joined()
        }
    }

    struct Request: Decodable {
        var to: String
        var method: String
        var target: String
        var headers: [String: String]
        var body: Body?
    }

    struct Response: Decodable {
        var status: Int
        var headers: [String: String]
        var body: Body
        var trailers: [String: String]
        var cut: Bool
    }

    var name: String
    var request: Request
    var response: Response

    static func load() throws -> [TranscriptExchange] {
        let url = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("Transcripts/kubo-0.43.0-rc1.jsonl")
        let decoder = JSONDecoder()
        return try String(contentsOf: url, encoding: .utf8).split(separator: "\n").map {
            try decoder.decode(TranscriptExchange.self, from: Data($0.utf8))
        }
    }

    struct UnknownBody: Error {
        var name: String
    }

    /// The body that was sent. Of large ones the hash was recorded, and what they are made of is
    /// known: bytes that count up to 250, and zeros where a block is too big.
    func requestBody() throws -> [UInt8] {
        guard let body = request.body else { return [] }
        if let bytes = body.bytes { return bytes }
        for (field, file, isZero) in [("file", "f", false), ("data", "big", true)] {
            let head =
                "------registryfs-boundary\r\nContent-Disposition: form-data; name=\"\(field)\"; "
                + "filename=\"\(file)\"\r\nContent-Type: application/octet-stream\r\n\r\n"
            let tail = "\r\n------registryfs-boundary--\r\n"
            let count = (body.length ?? 0) - head.utf8.count - tail.utf8.count
            let content = (0..<max(0, count)).map { isZero ? 0 : UInt8($0 % 251) }
            let bytes = Array(head.utf8) + content + Array(tail.utf8)
            if body.matches(bytes) { return bytes }
        }
        throw UnknownBody(name: name)
    }
}
