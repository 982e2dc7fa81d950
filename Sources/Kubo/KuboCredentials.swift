internal import Base
internal import Glibc

import struct SystemPackage.Errno

/// Why credentials cannot be used. Never holds any of them.
public struct KuboCredentialsError: Error, Hashable, Sendable, CustomStringConvertible {
    /// One line.
    public let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// What a node's `API.Authorizations` asks for: a bearer token, or a user and a password.
///
/// The secret shows in no description, and leaves this value only in the header of a request.
public struct KuboCredentials: Sendable, Hashable, CustomStringConvertible,
    CustomDebugStringConvertible, CustomReflectable
{
    /// The environment variable that is read by `init(environment:)`.
    public static let environmentName = "REGISTRYFS_KUBO_AUTH"
    /// The longest text, in bytes.
    public static let lengthMax = 4096

    private let scheme: String
    private let secret: String

    /// Reads `bearer:TOKEN`, `basic:USER:PASSWORD` or a bare token.
    public init(_ text: String) throws(KuboCredentialsError) {
        guard text.utf8.count <= Self.lengthMax else {
            throw KuboCredentialsError("the credentials are longer than \(Self.lengthMax) bytes")
        }
        // Anything else would end the header, or not survive it.
        guard !text.isEmpty, text.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7f }) else {
            throw KuboCredentialsError(
                "the credentials are empty, or have spaces or line ends in them")
        }
        if let token = text.without(prefix: "bearer:") {
            guard !token.isEmpty else { throw KuboCredentialsError("the bearer token is empty") }
            (scheme, secret) = ("bearer", token)
        } else if let pair = text.without(prefix: "basic:") {
            guard let colon = pair.utf8.firstIndex(of: UInt8(ascii: ":")), colon != pair.startIndex
            else {
                throw KuboCredentialsError("basic credentials have the form basic:USER:PASSWORD")
            }
            (scheme, secret) = ("basic", pair)
        } else {
            (scheme, secret) = ("bearer", text)
        }
    }

    /// Reads the one line of a file, in the forms of `init(_:)`.
    ///
    /// - Throws: also where the file is not a regular one, where others than its owner may read or
    ///   write it, or where it belongs to others than root and the caller.
    public init(file path: String) throws(KuboCredentialsError) {
        let text: String
        do throws(TrustedFileError) {
            let descriptor = try TrustedFile.open(path, followsLinks: true)
            text = try Self.text(of: descriptor.raw)
        } catch {
            switch error {
            case .owner(let uid):
                throw KuboCredentialsError(
                    "\(path), or a symlink to it, belongs to user \(uid): it must belong to root or to "
                        + "the user who mounts (chown)")
            case .system(.invalidArgument):
                throw KuboCredentialsError("\(path) is not a regular file")
            case .system(.illegalByteSequence): throw KuboCredentialsError("\(path) is not a text")
            case .system(.permissionDenied):
                throw KuboCredentialsError(
                    "\(path) must be readable, and by its owner alone (chmod 600)")
            case .system(let error): throw KuboCredentialsError("\(path): \(error)")
            }
        }
        var line = Substring(text)
        while let last = line.unicodeScalars.last, last == "\n" || last == "\r" {
            line.unicodeScalars.removeLast()
        }
        do throws(KuboCredentialsError) {
            try self.init(String(line))
        } catch {
            throw KuboCredentialsError("\(path): \(error)")
        }
    }

    private static func text(of descriptor: Int32) throws(TrustedFileError) -> String {
        do throws(Errno) {
            let status = try Sys.status(of: descriptor)
            guard status.mode & UInt32(S_IFMT) == UInt32(S_IFREG) else {
                throw Errno.invalidArgument
            }
            guard status.mode & 0o077 == 0 else { throw Errno.permissionDenied }
            var bytes = [UInt8](repeating: 0, count: lengthMax + 2)
            let count = try bytes.withMutableBytes { (buffer) throws(Errno) in
                try Sys.read(descriptor, at: 0, into: buffer)
            }
            guard let text = String(validating: bytes[..<count], as: UTF8.self) else {
                throw Errno.illegalByteSequence
            }
            return text
        } catch {
            throw .system(error)
        }
    }

    /// Reads `REGISTRYFS_KUBO_AUTH`; nil where it is not set or empty.
    public init?(environment: [String: String]) throws(KuboCredentialsError) {
        guard let text = environment[Self.environmentName], !text.isEmpty else { return nil }
        do throws(KuboCredentialsError) {
            try self.init(text)
        } catch {
            throw KuboCredentialsError("\(Self.environmentName): \(error)")
        }
    }

    /// The value of the Authorization header.
    var header: String {
        scheme == "bearer" ? "Bearer \(secret)" : "Basic \(Base64.encode(Array(secret.utf8)))"
    }

    /// The kind of the credentials, without them.
    public var description: String { "\(scheme) ***" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension String {
    func without(prefix: String) -> String? {
        utf8.starts(with: prefix.utf8)
            ? String(self[utf8.index(startIndex, offsetBy: prefix.utf8.count)...]) : nil
    }
}

/// Base64 with padding, for the Authorization header.
/// Source: RFC 4648, section 4.
enum Base64 {
    private static let alphabet = Array(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    static func encode(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        var index = 0
        while index < bytes.count {
            let count = min(3, bytes.count - index)
            var group: UInt32 = 0
            for place in 0..<3 {
                group = group << 8 | (place < count ? UInt32(bytes[index + place]) : 0)
            }
            for place in 0..<4 {
                let digit = alphabet[Int(group >> UInt32(18 - 6 * place) & 63)]
                text.append(place <= count ? digit : UInt8(ascii: "="))
            }
            index += 3
        }
        return String(decoding: text, as: UTF8.self)
    }
}
