internal import Base
internal import Glibc
internal import MerkleDAG
internal import Multiformats
internal import Remotes

internal import struct SystemPackage.Errno

/// The file of an archive: read anywhere, and watched for changes.
final class ArchiveFile: Sendable {
    /// For people.
    let path: String
    let byteCount: UInt64
    private let modified: Timestamp
    private let descriptor: OwnedDescriptor

    init(_ path: String) throws(RemoteError) {
        self.path = oneLine(path)
        do throws(Errno) {
            // A fifo must not hold up who opens it.
            descriptor = try Sys.open(path, flags: O_RDONLY | O_NONBLOCK)
            let status = try Sys.status(of: descriptor.raw)
            byteCount = status.size
            modified = status.modified
            guard status.mode & S_IFMT == S_IFREG else { throw .invalidArgument }
        } catch {
            let kind: RemoteError.Kind = error == .noSuchFileOrDirectory ? .notFound : .failed
            let why = error == .invalidArgument ? "it is no file" : FailureCause.words(for: error)
            throw RemoteError(kind, "\(oneLine(path)): \(oneLine(why)) (\(kind.rawValue))")
        }
    }

    /// Reads from an offset until the buffer is full or the file ends; returns the count.
    func read(
        at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(RemoteError) -> Int {
        do throws(Errno) {
            return try Sys.read(descriptor.raw, at: offset, into: buffer)
        } catch {
            throw self.error(.failed, at: offset, oneLine(FailureCause.words(for: error)))
        }
    }

    /// Reads so many bytes from an offset, or throws where the file ends before.
    func bytes(at offset: UInt64, count: Int) throws(RemoteError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let got = try bytes.withMutableBytes { (buffer) throws(RemoteError) in
            try read(at: offset, into: buffer)
        }
        guard got == count else { throw error(.truncated, at: offset) }
        return bytes
    }

    /// Throws where the file is not what it was when it was opened.
    func checkUnchanged() throws(RemoteError) {
        do throws(Errno) {
            let status = try Sys.status(of: descriptor.raw)
            guard status.size == byteCount, status.modified == modified else {
                throw .staleNFSFileHandle
            }
        } catch {
            let why =
                error == .staleNFSFileHandle
                ? "the file has changed since it was opened" : FailureCause.words(for: error)
            throw RemoteError(.failed, "\(path): \(oneLine(why)) (failed)")
        }
    }

    /// An error that names the file and a place in it.
    func error(_ kind: RemoteError.Kind, at offset: UInt64, _ what: String) -> RemoteError {
        RemoteError(kind, "\(path): at byte \(offset): \(what) (\(kind.rawValue))")
    }

    func error(_ error: CARError, at offset: UInt64) -> RemoteError {
        switch error {
        case .unsupportedHash: self.error(.refused, at: offset, error.words)
        case .readFailed(let cause as RemoteError): cause
        case .readFailed, .tooMany: self.error(.failed, at: offset, error.words)
        default: self.error(.wrongBytes, at: offset, error.words)
        }
    }
}

extension CARError {
    /// For people, behind the file and the place.
    var words: String {
        switch self {
        case .readFailed(let error): "it cannot be read: \(oneLine("\(error)"))"
        case .truncated: "the file ends within what begins here"
        case .cutOff(let cid): "the file ends within the block \(cid)"
        case .varint: "a malformed length"
        case .badHeader: "no header of a CAR"
        case .headerTooLong(let length): "a header of \(length) bytes"
        case .unsupportedVersion(let version): "a CAR of version \(version)"
        case .badOffsets: "a header whose offsets contradict each other"
        case .sectionTooShort(let length): "a section of \(length) bytes, which has no CID"
        case .sectionTooLong(let length):
            "a section of \(length) bytes, whose block is larger than any"
        case .cid: "a malformed CID"
        case .wrongBytes(let cid): "the bytes are not the block \(cid)"
        case .unsupportedHash(let cid): "the hash function of \(cid) is not known here"
        case .badIndex: "the index is damaged"
        case .unsupportedIndex(let codec): "an index of an unknown kind (\(codec.rawValue))"
        case .tooMany(let limit):
            "more than \(limit) blocks and no index: have one made, as by `car index`"
        }
    }
}
