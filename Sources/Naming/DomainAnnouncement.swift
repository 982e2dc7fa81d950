// What a domain's owner says, beside a DNSLink, of who has its blocks.
//
// Records:  TXT of _dnslink.DOMAIN and of DOMAIN. `gateway=` and the URL of a trustless gateway; `ipfsnode=` and the
//           multiaddr of an IPFS node, or a JSON array of such texts without escapes but `\/`.
// Validity: a record is at most `textBytesMax` bytes; a URL begins with https:// or http://; a multiaddr begins with a
//           slash, has /p2p/ or /ipfs/ in it and 512 bytes at most. What is not so is passed over: DNS has all sorts of
//           records. The first `gatewaysMax` and `nodesMax` count, in the order of their bytes, for DNS has none.
// Source:   the driver of the registry's fork that read `ipfsnode=`; https://github.com/multiformats/multiaddr

/// Who has what a domain leads to, by the word of its owner.
public struct DomainAnnouncement: Hashable, Sendable {
    /// The most gateways of one domain.
    public static let gatewaysMax = 4
    /// The most addresses of nodes of one domain.
    public static let nodesMax = 8
    static let textBytesMax = 8_192
    private static let urlBytesMax = 2_048
    private static let multiaddrBytesMax = 512

    /// URLs of gateways, as they stand there.
    public private(set) var gateways: [String] = []
    /// Multiaddrs of nodes.
    public private(set) var nodes: [String] = []

    public init() {}

    public var isEmpty: Bool { gateways.isEmpty && nodes.isEmpty }

    /// Takes what further records say.
    ///
    /// - Returns: what was not known.
    @discardableResult
    public mutating func add(_ texts: [DNSText]) -> DomainAnnouncement {
        var new = DomainAnnouncement()
        let sorted = texts.map(\.bytes).filter { $0.count <= Self.textBytesMax }
            .sorted { $0.lexicographicallyPrecedes($1) }
        for text in sorted {
            if let url = Self.value(of: "gateway=", in: text), Self.isURL(url) {
                guard gateways.count < Self.gatewaysMax, !gateways.contains(url) else { continue }
                gateways.append(url)
                new.gateways.append(url)
            } else if let value = Self.value(of: "ipfsnode=", in: text) {
                for node in Self.multiaddrs(value)
                where nodes.count < Self.nodesMax && !nodes.contains(node) {
                    nodes.append(node)
                    new.nodes.append(node)
                }
            }
        }
        return new
    }

    /// What stands behind a key; nil also for other bytes than printable ASCII.
    private static func value(of key: String, in text: [UInt8]) -> String? {
        guard text.starts(with: key.utf8), text.allSatisfy({ $0 >= 0x20 && $0 < 0x7f }) else {
            return nil
        }
        return trimmed(String(decoding: text.dropFirst(key.utf8.count), as: UTF8.self)[...])
    }

    private static func trimmed(_ text: Substring) -> String {
        var text = text
        while text.hasPrefix(" ") { text.removeFirst() }
        while text.hasSuffix(" ") { text.removeLast() }
        return String(text)
    }

    private static func isURL(_ text: String) -> Bool {
        text.utf8.count <= urlBytesMax && (text.hasPrefix("https://") || text.hasPrefix("http://"))
            && !text.contains(" ")
    }

    private static func multiaddrs(_ value: String) -> [String] {
        guard value.hasPrefix("["), value.hasSuffix("]") else { return [value].filter(isMultiaddr) }
        return value.dropFirst().dropLast().split(separator: ",").compactMap { part in
            let text = trimmed(part)
            guard text.count >= 2, text.hasPrefix("\""), text.hasSuffix("\"") else { return nil }
            return unescaped(text.dropFirst().dropLast())
        }.filter(isMultiaddr)
    }

    /// A text with `\/` as `/`.
    private static func unescaped(_ text: Substring) -> String {
        var result = ""
        var isEscaped = false
        for character in text {
            if isEscaped, character != "/" { result.append("\\") }
            isEscaped = !isEscaped && character == "\\"
            if !isEscaped { result.append(character) }
        }
        return result
    }

    private static func isMultiaddr(_ text: String) -> Bool {
        text.utf8.count <= multiaddrBytesMax && text.hasPrefix("/")
            && (text.contains("/p2p/") || text.contains("/ipfs/"))
            && text.utf8.allSatisfy { byte in
                byte > 0x20 && byte < 0x7f && byte != UInt8(ascii: "\"")
                    && byte != UInt8(ascii: "\\")
            }
    }
}
