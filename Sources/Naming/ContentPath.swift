// Paths from /ipfs/ or /ipns/ on.
//
// Text:     /ipfs/CID[/NAME…] or /ipns/NAME[/NAME…]: bytes, nothing of them escaped. Empty names are passed over.
// Validity: no name is `.` or `..`, has a NUL, or is longer than 255 bytes; at most `ContentPath.lengthMax`
//           bytes.
// Source:   https://specs.ipfs.tech/http-gateways/path-gateway/

public import Multiformats

/// A root, and the names below it.
public struct ContentPath: Hashable, Sendable, CustomStringConvertible {
    /// What a path begins with.
    public enum Root: Hashable, Sendable {
        /// /ipfs/CID: what is there never changes.
        case content(CID)
        /// /ipns/ and the name of a key.
        case key(IPNSName)
        /// /ipns/ and a domain.
        case domain(DNSName)
    }

    /// The longest text, in bytes.
    public static let lengthMax = 8192
    /// The longest name, in bytes.
    public static let nameLengthMax = 255

    public var root: Root
    /// The names below the root, each at most 255 bytes, none empty.
    public var names: [[UInt8]]

    public init(_ root: Root, names: [[UInt8]] = []) {
        self.root = root
        self.names = names
    }

    /// Reads a path from /ipfs/ or /ipns/ on.
    ///
    /// - Throws: `malformed`, with what is wrong and where.
    public init(_ text: [UInt8]) throws(NamingError) {
        guard text.count <= Self.lengthMax else {
            throw NamingError(.malformed, "the path is longer than \(Self.lengthMax) bytes")
        }
        let parts = text.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard parts.count >= 3, parts[0].isEmpty else {
            throw NamingError(
                .malformed, "'\(Self.shown(text))' does not begin with /ipfs/ or /ipns/")
        }
        let first = Self.shown(Array(parts[2]))
        switch String(decoding: parts[1], as: UTF8.self) {
        case "ipfs": root = try Self.content(first)
        case "ipns": root = try Self.name(first)
        default:
            throw NamingError(
                .malformed, "'\(Self.shown(text))' does not begin with /ipfs/ or /ipns/")
        }
        names = try Self.names(parts[3...].map(Array.init))
    }

    /// Reads what stands behind /ipfs/.
    static func content(_ text: String) throws(NamingError) -> Root {
        let cid: CID
        do throws(CIDError) {
            cid = try CID(parsing: text)
        } catch {
            throw NamingError(
                .malformed, "'\(text)', behind /ipfs/, is not a CID: \(why(error))")
        }
        guard cid.codec != .libp2pKey else {
            throw NamingError(
                .malformed, "\(text) is the name of a key, not of content: write /ipns/\(text)")
        }
        return .content(cid)
    }

    /// Reads what stands behind /ipns/.
    static func name(_ text: String) throws(NamingError) -> Root {
        if let name = try? IPNSName(text) { return .key(name) }
        let isCID = (try? CID(parsing: text)) != nil
        guard !isCID, text.contains(".") else {
            // Says what is wrong with it as a key.
            return .key(
                try telling("behind /ipns/") { () throws(NamingError) in try IPNSName(text) })
        }
        return .domain(
            try telling("behind /ipns/") { () throws(NamingError) in try DNSName(text) })
    }

    /// Checks the names below a root; empty ones are left out.
    static func names(_ parts: [[UInt8]]) throws(NamingError) -> [[UInt8]] {
        var names: [[UInt8]] = []
        for (index, part) in parts.enumerated() where !part.isEmpty {
            let place = "name \(index + 1) of the path"
            guard part.count <= nameLengthMax else {
                throw NamingError(
                    .malformed, "\(place) is longer than \(nameLengthMax) bytes")
            }
            guard !part.elementsEqual(".".utf8), !part.elementsEqual("..".utf8),
                !part.contains(0)
            else {
                throw NamingError(.malformed, "\(place) is '\(shown(part))', which leads nowhere")
            }
            names.append(part)
        }
        return names
    }

    static func telling<Result>(
        _ place: String, _ body: () throws(NamingError) -> Result
    ) throws(NamingError) -> Result {
        do throws(NamingError) {
            return try body()
        } catch {
            throw NamingError(error.kind, "\(error.description) (\(place))")
        }
    }

    /// Why a text is no CID, for people.
    static func why(_ error: CIDError) -> String {
        switch error {
        case .multibase(.badDigit(let offset)): "character \(offset + 1) cannot stand there"
        case .multibase(.unknownBase(let scalar)): "no CID begins with '\(scalar)'"
        case .multibase(.badEnding), .multihash(.truncated), .varint(.truncated):
            "it is cut off, or too long"
        case .multibase(.empty): "it is empty"
        case .trailingBytes: "it is too long"
        case .unsupportedVersion(let version): "it is of version \(version)"
        default: "\(error)"
        }
    }

    static func shown(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    /// The names, each with a slash before it.
    public var suffix: [UInt8] { names.flatMap { [UInt8(ascii: "/")] + $0 } }

    /// The path as bytes.
    public var bytes: [UInt8] {
        let head =
            switch root {
            case .content(let cid): "/ipfs/\(cid)"
            case .key(let name): "/ipns/\(name)"
            case .domain(let name): "/ipns/\(name)"
            }
        return Array(head.utf8) + suffix
    }

    /// The path for people, where bytes that are no UTF-8 are replaced.
    public var description: String { Self.shown(bytes) }
}
