// The last record that was seen of each name, so that none ever goes back.
//
// Layout:   a directory (0700) with a file for each name, the name's base36 text with `.ipns-record` behind it
//           (0600), which is the record as it came; and `lock`, which is held while a file is looked at and
//           replaced.
// Validity: a file is a record of the name in its own name, by its signature; its time may be over. One that is
//           not is an error: whoever passed over it could be shown an older record.
// Recovery: a file is replaced by rename(2) once the new one is on the disk. `*.new` is what a process left
//           that was killed, and means nothing.

internal import Base

/// Remembers on the disk the greatest sequence of each name.
///
/// Whoever has an older record of a name, which holds still, could else show a registry as it was then.
public final class SequenceStore: Sendable {
    private let directory: PrivateDirectory
    private static let suffix = ".ipns-record"

    /// Opens a store, which is made where it is missing.
    ///
    /// - Throws: `untrusted` where another user could write to it; `failed`.
    public init(directory path: String) throws(NamingError) {
        directory = try PrivateDirectory(path: path)
    }

    /// The last record that was seen of a name, whether it holds still or not; nil for none.
    public func last(of name: IPNSName) throws(NamingError) -> IPNSRecord? {
        try directory.read(
            "\(name)\(Self.suffix)", byteCountMax: IPNSRecord.byteCountMax, isSecret: false
        ).map { (bytes) throws(NamingError) in
            do throws(IPNSRecordError) {
                return try IPNSRecord(verifying: bytes, of: name, at: nil)
            } catch {
                throw NamingError(
                    .malformed,
                    "\(directory.path)/\(name)\(Self.suffix) \(error): remove it to begin anew")
            }
        }
    }

    /// Takes the record of a name that somebody gave, and remembers it where it is the latest.
    ///
    /// - Returns: the record that counts: of two with the same sequence, the one that holds longer.
    /// - Throws: `untrusted` for one that is older than what was seen.
    public func accept(
        _ record: IPNSRecord, of name: IPNSName
    ) throws(NamingError) -> IPNSRecord {
        try directory.locked { () throws(NamingError) in
            if let last = try last(of: name) {
                guard record.sequence >= last.sequence else {
                    throw NamingError(
                        .untrusted,
                        "the record of \(name) goes back: its sequence is \(record.sequence), and "
                            + "\(last.sequence) was seen before")
                }
                guard record.supersedes(last) else { return last }
            }
            try directory.write("\(name)\(Self.suffix)", record.bytes)
            return record
        }
    }
}
