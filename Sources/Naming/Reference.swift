// The text that says what to mount: where it is, or who knows that.
//
//   CID[/PATH]                 content
//   /ipfs/CID[/PATH]           content
//   ipfs://CID[/PATH]          content; the path is escaped as in a URL
//   KEY[/PATH]                 an IPNS name: k51…, 12D3…, or another CID of a key
//   /ipns/NAME[/PATH]          an IPNS name or a domain
//   ipns://NAME[/PATH]         an IPNS name or a domain; the path is escaped as in a URL
//   DOMAIN[/PATH]              a domain with a dot, which has a DNSLink
//   FILE.car                   an archive; also whatever begins with ./ or ../ and ends so, or with /
//
// Validity: at most `Reference.lengthMax` bytes. A text that ends in .car and is none of those with a scheme or
//           from /ipfs/ or /ipns/ on is a file: the domain example.car is written /ipns/example.car.
// Source:   RFC 3986 section 2.1; https://specs.ipfs.tech/http-gateways/path-gateway/

internal import Multiformats

/// What `--from` names.
public enum Reference: Hashable, Sendable {
    /// Content, or a name that leads to it, and a path below.
    case path(ContentPath)
    /// The path of a CAR file, as it was written.
    case archive([UInt8])

    /// The longest text, in bytes.
    public static let lengthMax = ContentPath.lengthMax

    /// Reads a reference.
    ///
    /// - Throws: `malformed`, with what is wrong and where.
    public init(_ text: String) throws(NamingError) {
        try self.init(bytes: Array(text.utf8))
    }

    /// Reads a reference, whose names may be any bytes.
    ///
    /// - Throws: `malformed`, with what is wrong and where.
    public init(bytes: [UInt8]) throws(NamingError) {
        guard !bytes.isEmpty else { throw NamingError(.malformed, "the reference is empty") }
        guard bytes.count <= Self.lengthMax else {
            throw NamingError(
                .malformed, "the reference is longer than \(Self.lengthMax) bytes")
        }
        let scheme = bytes.prefix(7).map { $0 | ($0 >= 0x41 && $0 <= 0x5a ? 0x20 : 0) }
        if scheme.elementsEqual("ipfs://".utf8) || scheme.elementsEqual("ipns://".utf8) {
            self = .path(try Self.url(bytes, isName: scheme[2] == UInt8(ascii: "n")))
        } else if Self.begins(bytes, "/ipfs/") || Self.begins(bytes, "/ipns/") {
            self = .path(try ContentPath(bytes))
        } else if bytes.count > 4, bytes.suffix(4).elementsEqual(".car".utf8) {
            guard !bytes.contains(0) else {
                throw NamingError(.malformed, "a file's path has no NUL in it")
            }
            self = .archive(bytes)
        } else {
            self = .path(try Self.bare(bytes))
        }
    }

    private static func begins(_ bytes: [UInt8], _ text: String) -> Bool {
        bytes.starts(with: text.utf8)
    }

    private static func url(_ bytes: [UInt8], isName: Bool) throws(NamingError) -> ContentPath {
        let rest = Array(bytes.dropFirst(7))
        if let place = rest.firstIndex(where: { $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "#") }
        ) {
            throw NamingError(
                .malformed,
                "character \(place + 8), '\(Unicode.Scalar(rest[place]))', begins a query or a fragment: "
                    + "a ? in a name is written %3F, a # is written %23")
        }
        let parts = rest.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        let host = ContentPath.shown(Array(parts[0]))
        guard !host.isEmpty else {
            throw NamingError(
                .malformed, "nothing stands behind \(isName ? "ipns" : "ipfs")://")
        }
        var names: [[UInt8]] = []
        for part in parts.dropFirst() { names.append(try unescaped(part, offset: 7)) }
        return ContentPath(
            isName ? try ContentPath.name(host) : try ContentPath.content(host),
            names: try ContentPath.names(names))
    }

    /// - Parameter offset: what the indices of the part count from.
    private static func unescaped(
        _ part: ArraySlice<UInt8>, offset: Int
    ) throws(NamingError) -> [UInt8] {
        var bytes: [UInt8] = []
        var index = part.startIndex
        while index < part.endIndex {
            guard part[index] == UInt8(ascii: "%") else {
                bytes.append(part[index])
                index += 1
                continue
            }
            let digits = part[(index + 1)..<min(index + 3, part.endIndex)]
            let values = digits.compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
            guard values.count == 2 else {
                throw NamingError(
                    .malformed,
                    "character \(offset + index + 1), '%', has no two hexadecimal digits behind it")
            }
            let byte = UInt8(values[0] << 4 | values[1])
            guard byte != UInt8(ascii: "/") else {
                throw NamingError(
                    .malformed,
                    "character \(offset + index + 1): a name cannot have a / (%2F) in it")
            }
            bytes.append(byte)
            index += 3
        }
        return bytes
    }

    private static func bare(_ bytes: [UInt8]) throws(NamingError) -> ContentPath {
        let parts = bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        let head = ContentPath.shown(Array(parts[0]))
        guard !head.isEmpty, head != ".", head != ".." else {
            throw NamingError(
                .malformed,
                "'\(ContentPath.shown(bytes))' is neither a path from /ipfs/ or /ipns/ on nor a .car file"
            )
        }
        let names = try ContentPath.names(parts.dropFirst().map(Array.init))
        let cid: CID
        do throws(CIDError) {
            cid = try CID(parsing: head)
        } catch {
            if let name = try? IPNSName(head) { return ContentPath(.key(name), names: names) }
            guard head.contains(".") else {
                throw NamingError(
                    .malformed,
                    "'\(head)' is not a CID (\(ContentPath.why(error))), not the name of a key, and "
                        + "not a domain, which has a dot")
            }
            return ContentPath(.domain(try DNSName(head)), names: names)
        }
        guard cid.codec == .libp2pKey else { return ContentPath(.content(cid), names: names) }
        return ContentPath(.key(try IPNSName(cid)), names: names)
    }
}
