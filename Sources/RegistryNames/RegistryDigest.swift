package import Multiformats

// The digest of a blob or manifest, as OCI writes it.
//
// Text:     sha256:HEX with 64, or sha512:HEX with 128 lowercase hexadecimal digits.
// Validity: nothing else; a digest is a name on the disk of the stock registry, so one digest has one text.
// Source:   https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests

/// By which a registry knows a blob or a manifest.
package struct RegistryDigest: Hashable, Sendable {
    /// The longest text of one.
    package static let lengthMax = 7 + 128

    /// A SHA-256 or a SHA-512.
    package let multihash: Multihash

    /// Nil for what is malformed, and for functions that are not served.
    package init?(parsing text: some Collection<UInt8>) {
        guard text.count <= Self.lengthMax, let colon = text.firstIndex(of: UInt8(ascii: ":"))
        else { return nil }
        self.init(
            algorithm: text[..<colon], hex: text[text.index(after: colon)...])
    }

    /// Nil for functions that are not served.
    package init?(_ multihash: Multihash) {
        guard multihash.code == .sha2_256 || multihash.code == .sha2_512 else { return nil }
        self.multihash = multihash
    }

    /// Of the names of a directory and of what is in it.
    package init?(algorithm: some Collection<UInt8>, hex: some Collection<UInt8>) {
        let code: Multicodec
        if algorithm.elementsEqual("sha256".utf8) {
            code = .sha2_256
        } else if algorithm.elementsEqual("sha512".utf8) {
            code = .sha2_512
        } else {
            return nil
        }
        guard hex.count <= Self.lengthMax, hex.count % 2 == 0 else { return nil }
        var digest: [UInt8] = []
        digest.reserveCapacity(hex.count / 2)
        var high: UInt8?
        for character in hex {
            guard let digit = Self.digit(character) else { return nil }
            if let first = high {
                digest.append(first << 4 | digit)
                high = nil
            } else {
                high = digit
            }
        }
        guard let multihash = try? Multihash(code: code, digest: digest) else { return nil }
        self.multihash = multihash
    }

    /// The names of algorithms, each a directory on the disk of the stock registry.
    package static let algorithms = ["sha256", "sha512"]

    /// One of `algorithms`.
    package var algorithm: String { multihash.isSHA256 ? "sha256" : "sha512" }

    /// In lowercase hexadecimal digits.
    package var hex: [UInt8] {
        multihash.withDigest { digest in
            var hex: [UInt8] = []
            hex.reserveCapacity(2 * digest.count)
            for byte in digest {
                hex.append(Self.character(byte >> 4))
                hex.append(Self.character(byte & 0xf))
            }
            return hex
        }
    }

    /// As it stands in a request, or in a link of the stock registry.
    package var text: String { algorithm + ":" + String(decoding: hex, as: UTF8.self) }

    /// Whether some bytes have this digest.
    package func matches(_ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { (raw) -> Bool in
            do throws(MultihashError) {
                try multihash.verify(raw)
                return true
            } catch {
                return false
            }
        }
    }

    private static func digit(_ character: UInt8) -> UInt8? {
        switch character {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
        default: nil
        }
    }

    private static func character(_ digit: UInt8) -> UInt8 {
        digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + (digit - 10)
    }
}
