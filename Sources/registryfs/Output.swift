import Base
import Glibc

import struct SystemPackage.Errno

/// Standard output of a command.
enum Output {
    /// Prints one line.
    static func line(_ text: String) throws(Failure) {
        var text = text + "\n"
        var failure: Failure?
        text.withUTF8 { utf8 in
            do throws(Failure) {
                try bytes(UnsafeRawBufferPointer(utf8))
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }

    /// Writes raw bytes.
    static func bytes(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
        do throws(Errno) {
            try SystemFiles.write(bytes, to: STDOUT_FILENO)
        } catch {
            throw Failure("cannot write to standard output: \(error.reason)")
        }
    }
}

/// A file that is there under its name only once it is whole.
///
/// Until then it has no name at all (O_TMPFILE of open(2)), so that nothing is left of an
/// interrupted command; only where the filesystem cannot do that, it has a temporary one.
struct AtomicFile: ~Copyable {
    private let path: [UInt8]
    /// The temporary name; nil while the file has none.
    private var temporary: [UInt8]?
    private let descriptor: OwnedDescriptor

    /// Makes a file where `path` will be.
    init(path: [UInt8]) throws(Failure) {
        self.path = path
        let directory = Self.directory(of: path)
        let oTmpFile: Int32 = 0o20200000
        do throws(Errno) {
            descriptor = try Sys.open(
                RawText.text(of: directory), flags: oTmpFile | O_WRONLY, mode: 0o666)
            temporary = nil
        } catch {
            guard error == .notSupportedOnSocket || error == .isDirectory else {
                throw Self.failure(path, error)
            }
            var name = (path + Self.suffix).map { CChar(bitPattern: $0) } + [0]
            let raw = mkstemp(&name)
            guard raw >= 0 else { throw Self.failure(path, Errno(rawValue: errno)) }
            Descriptors.closeOnExec(raw)
            descriptor = OwnedDescriptor(raw)
            temporary = name.dropLast().map { UInt8(bitPattern: $0) }
        }
    }

    deinit {
        if let temporary { _ = SystemFiles.withCPath(temporary) { unlink($0) } }
    }

    borrowing func write(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
        do throws(Errno) {
            try SystemFiles.write(bytes, to: descriptor.raw)
        } catch {
            throw Self.failure(path, error)
        }
    }

    /// Gives the file its name, in place of an older one, once it is on stable storage.
    consuming func keep() throws(Failure) {
        do throws(Errno) {
            try Sys.synchronize(descriptor.raw)
        } catch {
            throw Self.failure(path, error)
        }
        if temporary == nil { try giveTemporaryName() }
        guard let temporary else { return }
        let isDone = SystemFiles.withCPath(temporary) { from in
            SystemFiles.withCPath(path) { rename(from, $0) == 0 }
        }
        guard isDone else { throw Self.failure(path, Errno(rawValue: errno)) }
        self.temporary = nil
    }

    /// linkat(2) does not replace a file, rename(2) does, and needs a name to begin with.
    private mutating func giveTemporaryName() throws(Failure) {
        let link = "/proc/self/fd/\(descriptor.raw)"
        for number in 0..<1000 {
            let name = path + Array(".\(getpid()).\(number)".utf8)
            let isLinked = SystemFiles.withCPath(name) {
                linkat(AT_FDCWD, link, AT_FDCWD, $0, AT_SYMLINK_FOLLOW) == 0
            }
            if isLinked {
                temporary = name
                return
            }
            guard errno == EEXIST else { break }
        }
        throw Self.failure(path, Errno(rawValue: errno))
    }

    private static let suffix = Array(".XXXXXX".utf8)

    private static func directory(of path: [UInt8]) -> [UInt8] {
        guard let slash = path.lastIndex(of: UInt8(ascii: "/")) else { return [UInt8(ascii: ".")] }
        return slash == 0 ? [UInt8(ascii: "/")] : Array(path[..<slash])
    }

    private static func failure(_ path: [UInt8], _ error: Errno) -> Failure {
        Failure("cannot write \(RawText.shown(path)): \(error.reason)")
    }
}
