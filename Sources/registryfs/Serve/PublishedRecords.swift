import Base
import Glibc
import Multiformats
import Naming
import ReadSocket
import Serving

import struct SystemPackage.Errno

/// The records that `publish` signed, where a server without rights finds them: beside the read socket. Everybody may have
/// them, and each is verified when it is read.
enum PublishedRecords {
    private static let suffix = ".ipns-record"

    static func fileName(of name: IPNSName) -> String { "\(name)\(suffix)" }

    /// Keeps a record, in place of an earlier one of its name.
    static func put(
        _ record: IPNSRecord, of name: IPNSName, stateDirectory: String
    ) throws(Failure) {
        do throws(Errno) {
            let directory = try ReadPlace.make(stateDirectory: stateDirectory)
            let file = fileName(of: name)
            let temporary = file + ".new"
            _ = try Sys.unlink(temporary, in: directory.raw)
            let descriptor = try Sys.open(
                temporary, in: directory.raw, flags: O_WRONLY | O_CREAT | O_EXCL, mode: 0o644)
            guard fchmod(descriptor.raw, 0o644) == 0 else { throw Errno(rawValue: errno) }
            var failure: Errno?
            record.bytes.withUnsafeBytes { bytes in
                do throws(Errno) {
                    try SystemFiles.write(bytes, to: descriptor.raw)
                } catch {
                    failure = error
                }
            }
            if let failure { throw failure }
            try Sys.rename(temporary, in: directory.raw, to: file, in: directory.raw)
        } catch {
            throw Failure(
                "the record is signed, and cannot be kept for 'serve' in "
                    + "\(RawText.shown(stateDirectory)): \(error.reason)")
        }
    }
}

/// The records of a volume's own names, for a server that has the directory of the read socket open.
final class OwnRecords: NameRecords, NameLookup {
    private let directory: OwnedDescriptor

    /// - Parameter directory: from `ReadPlace.open`.
    init(directory: consuming OwnedDescriptor) {
        self.directory = directory
    }

    func record(of name: IPNSName) throws(ServeFault) -> IPNSRecord? {
        // By /proc, because the way to the directory is closed to this process; the name is base36.
        let path = "/proc/self/fd/\(directory.raw)/\(PublishedRecords.fileName(of: name))"
        guard
            let bytes = try? SystemFiles.read(path, byteCountMax: IPNSRecord.byteCountMax + 1),
            bytes.count <= IPNSRecord.byteCountMax
        else { return nil }
        return try? IPNSRecord(verifying: bytes, of: name, at: .now())
    }

    func root(of name: String) throws(ServeFault) -> NameTarget? {
        guard name.utf8.count <= IPNSName.textLengthMax, let key = try? IPNSName(name),
            let record = try record(of: key),
            let path = try? ContentPath(Array(record.value.utf8)),
            case .content(let cid) = path.root
        else { return nil }
        return NameTarget(cid, path: path.names, ttlSeconds: record.keptSeconds(at: .now()))
    }
}
