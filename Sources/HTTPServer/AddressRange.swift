internal import Glibc
internal import NIOCore

/// A range of addresses: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
///
/// Addresses of IPv4 are as good as those of IPv6 that stand for them (`::ffff:0:0/96`, RFC 4291, section 2.5.5.2), which is how a
/// socket for both sees them.
public struct AddressRange: Hashable, Sendable {
    /// 16 bytes, in the network's order; the bits behind the prefix are zero.
    private let bytes: [UInt8]
    /// In bits, 0 to 128.
    private let prefix: Int

    /// Why a text is no range; its description is one line.
    public struct Malformed: Error, CustomStringConvertible {
        public let description: String
    }

    /// Reads a range of at most 64 bytes.
    public init(_ text: String) throws(Malformed) {
        let shown = "'\(text.prefix(64))'"
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard text.utf8.count <= 64, let first = parts.first,
            let address = Self.address(String(first))
        else {
            throw Malformed(
                description: "\(shown) is no range of addresses such as 10.0.0.0/8 or 2001:db8::/32"
            )
        }
        let isVersion4 = !first.contains(":")
        var prefix = 128
        if parts.count > 1 {
            let digits = parts[1]
            guard !digits.isEmpty, digits.utf8.count <= 3,
                digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
                let bits = Int(digits), bits <= (isVersion4 ? 32 : 128)
            else {
                throw Malformed(
                    description:
                        "\(shown): the bits behind '/' are 0 to \(isVersion4 ? 32 : 128)")
            }
            prefix = isVersion4 ? bits + 96 : bits
        }
        let masked = Self.masked(address, to: prefix)
        guard masked == address else {
            throw Malformed(
                description: "\(shown) has bits behind its prefix: what is meant is not clear")
        }
        bytes = masked
        self.prefix = prefix
    }

    /// Whether an address is in the range; one that is of no network never is.
    func contains(_ address: [UInt8]?) -> Bool {
        guard let address, address.count == 16 else { return false }
        return Self.masked(address, to: prefix) == bytes
    }

    /// Whether an address in text is in the range; what is none is not.
    package func contains(_ text: String) -> Bool { contains(Self.address(text)) }

    private static func masked(_ address: [UInt8], to prefix: Int) -> [UInt8] {
        var result = address
        for index in result.indices {
            let kept = min(8, max(0, prefix - index * 8))
            result[index] &= kept == 0 ? 0 : UInt8(truncatingIfNeeded: 0xff << (8 - kept))
        }
        return result
    }

    /// The 16 bytes of an address in text; nil where it is none.
    private static func address(_ text: String) -> [UInt8]? {
        var four = in_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            return mapped(withUnsafeBytes(of: &four) { Array($0) })
        }
        var six = in6_addr()
        guard inet_pton(AF_INET6, text, &six) == 1 else { return nil }
        return withUnsafeBytes(of: &six) { Array($0) }
    }

    private static func mapped(_ four: [UInt8]) -> [UInt8] {
        [UInt8](repeating: 0, count: 10) + [0xff, 0xff] + four
    }

    /// The 16 bytes of a client's address; nil for a unix socket.
    static func bytes(of address: SocketAddress?) -> [UInt8]? {
        address?.ipAddress.flatMap { Self.address($0) }
    }
}
