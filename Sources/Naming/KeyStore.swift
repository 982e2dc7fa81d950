// The keys that names are published with.
//
// Layout:   the directory `keys` of a state directory (0700):
//             NAME.key          the key as libp2p's protobuf, 68 bytes (0600)
//             NAME.ipns-record  the last record that was signed with it (0600)
//             lock              held while one of them is made or replaced
// Validity: NAME is 1 to 64 of A-Z a-z 0-9 _ - and no other. A record's signature is its key's. A key that
//           others may read is not used.
// Recovery: a record is on the disk before anybody gets it, so that no sequence is ever signed twice with other
//           bytes. A file is replaced by rename(2) once the new one is on the disk; `*.new` means nothing.

public import Base

/// Keeps keys, and what was signed with each.
public final class KeyStore: Sendable {
    /// A key and its last record.
    public struct Entry: Sendable {
        /// How the key is called here.
        public var label: String
        /// The IPNS name that is published with it.
        public var name: IPNSName
        /// What was signed last; nil for nothing.
        public var record: IPNSRecord?
    }

    /// The name of the directory in a state directory.
    public static let directoryName = "keys"
    /// How a key is called where nobody says.
    public static let defaultLabel = "self"
    /// The longest that a key may be called, in bytes.
    public static let labelLengthMax = 64

    private static let keySuffix = ".key"
    private static let recordSuffix = ".ipns-record"

    /// Whose keys they are.
    public let stateDirectory: String
    private let directory: PrivateDirectory

    /// Opens the keys of a state directory; their directory is made where it is missing.
    ///
    /// - Throws: `untrusted` where another user could write to it; `failed`.
    public init(stateDirectory: String) throws(NamingError) {
        self.stateDirectory = stateDirectory
        directory = try PrivateDirectory(path: "\(stateDirectory)/\(Self.directoryName)")
    }

    /// Checks what a key is to be called.
    public static func check(label: String) throws(NamingError) {
        let isGood = label.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
                true
            default: false
            }
        }
        guard isGood, (1...labelLengthMax).contains(label.utf8.count) else {
            throw NamingError(
                .malformed,
                "'\(label)' cannot be a key's name: 1 to \(labelLengthMax) letters, digits, - and _"
            )
        }
    }

    /// Where the last record of a key is.
    public func recordPath(of label: String) -> String {
        "\(directory.path)/\(label)\(Self.recordSuffix)"
    }

    /// Keeps a key under a name that no other has.
    ///
    /// - Throws: `refused` where there is such a key already.
    public func add(_ key: PrivateKey, label: String) throws(NamingError) {
        try Self.check(label: label)
        try directory.locked { () throws(NamingError) in
            guard try self.key(labelled: label) == nil else {
                throw NamingError(.refused, "there is a key '\(label)' already")
            }
            try directory.write(label + Self.keySuffix, key.protobuf, replaces: false)
        }
    }

    /// The key of a name; nil where there is none.
    public func key(labelled label: String) throws(NamingError) -> PrivateKey? {
        try Self.check(label: label)
        let file = label + Self.keySuffix
        return try directory.read(
            file, byteCountMax: PrivateKey.fileLengthMax, isSecret: true
        ).map { (bytes) throws(NamingError) in
            do throws(NamingError) {
                return try PrivateKey(protobuf: bytes)
            } catch {
                throw error.about("\(directory.path)/\(file)")
            }
        }
    }

    /// All keys, sorted by what they are called.
    public func entries() throws(NamingError) -> [Entry] {
        var entries: [Entry] = []
        for file in try directory.names().sorted() where file.hasSuffix(Self.keySuffix) {
            let label = String(file.dropLast(Self.keySuffix.count))
            guard (try? Self.check(label: label)) != nil, let key = try key(labelled: label) else {
                continue
            }
            entries.append(
                Entry(label: label, name: key.name, record: try record(of: label, key.name)))
        }
        return entries
    }

    /// The last record that was signed with a key, whether it holds still or not; nil for none.
    public func record(
        of label: String, _ name: IPNSName
    ) throws(NamingError) -> IPNSRecord? {
        try Self.check(label: label)
        return try directory.read(
            label + Self.recordSuffix, byteCountMax: IPNSRecord.byteCountMax, isSecret: false
        ).map { (bytes) throws(NamingError) in
            do throws(IPNSRecordError) {
                return try IPNSRecord(verifying: bytes, of: name, at: nil)
            } catch {
                throw NamingError(
                    .malformed,
                    "\(recordPath(of: label)) \(error): move it away, and publish with a greater "
                        + "--sequence than any before")
            }
        }
    }

    /// Signs a record with the sequence behind the last one, and keeps it before it gives it.
    ///
    /// - Parameters:
    ///   - value: a path from /ipfs/ or /ipns/ on.
    ///   - seen: the greatest sequence that somebody else is known to have; nil for none.
    /// - Throws: `notFound` where there is no such key; `refused` where no greater sequence is left.
    public func sign(
        _ value: String, with label: String, validUntil: Timestamp, ttlNanoseconds: UInt64,
        above seen: UInt64? = nil
    ) throws(NamingError) -> IPNSRecord {
        guard let key = try key(labelled: label) else {
            throw NamingError(
                .notFound, "there is no key '\(label)': registryfs key generate makes one")
        }
        return try directory.locked { () throws(NamingError) in
            let last = try record(of: label, key.name)?.sequence
            var sequence: UInt64 = 0
            if let greatest = [last, seen].compactMap({ $0 }).max() {
                // Kubo and others read it as a signed number.
                guard greatest < UInt64(Int64.max) else {
                    throw NamingError(
                        .refused, "no sequence is left for \(key.name): use another key")
                }
                sequence = greatest + 1
            }
            let record = try IPNSRecord(
                value: value, sequence: sequence, validUntil: validUntil,
                ttlNanoseconds: ttlNanoseconds, signedBy: key)
            try directory.write(label + Self.recordSuffix, record.bytes)
            return record
        }
    }
}
