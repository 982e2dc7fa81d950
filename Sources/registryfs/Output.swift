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
struct AtomicFile: ~Copyable {
    private let path: String
    private let temporary: String
    private let descriptor: Int32
    private var isKept = false

    /// Makes a temporary file beside the path.
    init(path: [UInt8]) throws(Failure) {
        self.path = RawText.text(of: path)
        var name = (path + Array(".XXXXXX".utf8)).map { CChar(bitPattern: $0) } + [0]
        descriptor = mkstemp(&name)
        guard descriptor >= 0 else {
            throw Failure(
                "cannot make a file beside \(RawText.shown(path)): "
                    + Errno(rawValue: errno).reason)
        }
        temporary = RawText.text(of: name.dropLast().map { UInt8(bitPattern: $0) })
    }

    deinit {
        close(descriptor)
        if !isKept { _ = SystemFiles.withCPath(RawText.bytes(of: temporary)) { unlink($0) } }
    }

    borrowing func write(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
        do throws(Errno) {
            try SystemFiles.write(bytes, to: descriptor)
        } catch {
            throw Failure("cannot write \(RawText.shown(temporary)): \(error.reason)")
        }
    }

    /// Gives the file its name, in place of an older one, once it is on stable storage.
    consuming func keep() throws(Failure) {
        let mask = umask(0)
        umask(mask)
        fchmod(descriptor, 0o666 & ~mask)
        let isDone =
            fsync(descriptor) == 0
            && SystemFiles.withCPath(RawText.bytes(of: temporary)) { from in
                SystemFiles.withCPath(RawText.bytes(of: path)) { rename(from, $0) == 0 }
            }
        guard isDone else {
            throw Failure("cannot write \(RawText.shown(path)): \(Errno(rawValue: errno).reason)")
        }
        isKept = true
    }
}
