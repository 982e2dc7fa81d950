// Which addresses are everybody's, and which mean something else on each network.
//
// Not public:  IPv4 0/8, 10/8, 100.64/10, 127/8, 169.254/16, 172.16/12, 192.0.0/24, 192.168/16, 198.18/15, 224/3;
//              IPv6 all but 2000::/3. What carries an IPv4 address (::ffff:0:0/96, 64:ff9b::/96, 2002::/16) is
//              what that is.
// Source:      the registries of RFC 6890, without the blocks for documentation: nobody is there.

internal import Glibc

/// Tells addresses of the public Internet from those of this machine and of its networks.
public enum PublicAddress {
    /// Whether a `sockaddr_in` or `sockaddr_in6` has a public address; false for all else.
    static func isPublic(_ socketAddress: UnsafeRawBufferPointer) -> Bool {
        guard socketAddress.count >= MemoryLayout<sa_family_t>.size else { return false }
        switch Int32(socketAddress.loadUnaligned(as: sa_family_t.self)) {
        case AF_INET where socketAddress.count >= MemoryLayout<sockaddr_in>.size:
            let address = socketAddress.loadUnaligned(as: sockaddr_in.self)
            return isPublic(version4: UInt32(bigEndian: address.sin_addr.s_addr))
        case AF_INET6 where socketAddress.count >= MemoryLayout<sockaddr_in6>.size:
            let address = socketAddress.loadUnaligned(as: sockaddr_in6.self)
            return withUnsafeBytes(of: address.sin6_addr) { isPublic(version6: Array($0)) }
        default: return false
        }
    }

    /// Whether a text is a public address; nil where it is no address (inet_pton(3)).
    public static func isPublic(_ text: String) -> Bool? {
        var version4 = in_addr()
        if inet_pton(AF_INET, text, &version4) == 1 {
            return isPublic(version4: UInt32(bigEndian: version4.s_addr))
        }
        var version6 = in6_addr()
        guard inet_pton(AF_INET6, text, &version6) == 1 else { return nil }
        return withUnsafeBytes(of: version6) { isPublic(version6: Array($0)) }
    }

    private static let privateNetworks: [(network: UInt32, bits: UInt32)] = [
        (0x0000_0000, 8), (0x0a00_0000, 8), (0x6440_0000, 10), (0x7f00_0000, 8),
        (0xa9fe_0000, 16), (0xac10_0000, 12), (0xc000_0000, 24), (0xc0a8_0000, 16),
        (0xc612_0000, 15), (0xe000_0000, 3),
    ]

    private static func isPublic(version4 address: UInt32) -> Bool {
        privateNetworks.allSatisfy { (address ^ $0.network) >> (32 - $0.bits) != 0 }
    }

    /// - Parameter bytes: 16 of them.
    private static func isPublic(version6 bytes: [UInt8]) -> Bool {
        func version4(at offset: Int) -> UInt32 {
            bytes[offset..<(offset + 4)].reduce(0) { $0 << 8 | UInt32($1) }
        }
        let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
        let translated: [UInt8] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]
        if bytes.starts(with: mapped) || bytes.starts(with: translated) {
            return isPublic(version4: version4(at: 12))
        }
        if bytes.starts(with: [0x20, 0x02]) { return isPublic(version4: version4(at: 2)) }
        return bytes[0] >> 5 == 1
    }
}
