import Base
import Glibc

import struct SystemPackage.Errno

/// Small helpers over files for the commands.
enum SystemFiles {
    /// Reads a whole file, at most `byteCountMax` bytes of it.
    static func read(_ path: String, byteCountMax: Int) throws(Errno) -> [UInt8] {
        let file = try Sys.open(path, flags: O_RDONLY)
        var content: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 65_536)
        while content.count < byteCountMax {
            let count = part.withUnsafeMutableBytes {
                Glibc.read(file.raw, $0.baseAddress, $0.count)
            }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw Errno(rawValue: errno) }
            if count == 0 { break }
            content.append(contentsOf: part.prefix(count))
        }
        return content
    }

    /// Writes all bytes to a descriptor, wherever it stands.
    static func write(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) throws(Errno) {
        var rest = bytes
        while let base = rest.baseAddress, rest.count > 0 {
            let count = Glibc.write(descriptor, base, rest.count)
            if count >= 0 {
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            } else if errno != EINTR {
                throw Errno(rawValue: errno)
            }
        }
    }

    /// Writes a text to a descriptor; a failure is nobody's to hear.
    static func say(_ text: String, to descriptor: Int32) {
        var line = text
        line.withUTF8 { try? write(UnsafeRawBufferPointer($0), to: descriptor) }
    }

    /// The target of a symlink; nil where the path is none, or is not there.
    static func linkTarget(_ path: [UInt8]) -> [UInt8]? {
        var target = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = withCPath(path) { path in
            target.withUnsafeMutableBytes { bytes in
                bytes.baseAddress.map { readlink(path, $0, bytes.count) } ?? -1
            }
        }
        return count > 0 ? Array(target.prefix(count)) : nil
    }

    /// Runs a body with a path as the system takes it.
    static func withCPath<Result>(
        _ path: [UInt8], _ body: (UnsafePointer<CChar>) -> Result
    ) -> Result {
        let terminated = path.map { CChar(bitPattern: $0) } + [0]
        return terminated.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else {
                preconditionFailure("a path has at least its terminator")
            }
            return body(base)
        }
    }

    /// The working directory; fails where it was removed or lies outside of the root directory.
    static func workingDirectory() throws(Failure) -> [UInt8] {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        guard getcwd(&buffer, buffer.count) != nil else {
            throw Failure("the working directory is gone (\(Errno(rawValue: errno).reason))")
        }
        let bytes = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        guard bytes.first == UInt8(ascii: "/") else {
            throw Failure("the working directory cannot be reached from /: give a full path")
        }
        return bytes
    }

    /// Makes a path absolute, its symlinks and dots as they are.
    static func absolute(_ path: [UInt8]) throws(Failure) -> [UInt8] {
        guard path.first != UInt8(ascii: "/") else { return path }
        return try workingDirectory() + [UInt8(ascii: "/")] + path
    }

    /// The parts of a path between its slashes, empty ones and `.` left out.
    static func components(_ path: [UInt8]) -> [[UInt8]] {
        path.split(separator: UInt8(ascii: "/")).map(Array.init).filter {
            $0 != [UInt8(ascii: ".")]
        }
    }

    /// Whether a path stands for a directory by its form, `NAME/` or `NAME/.`: then a symlink at its
    /// end is followed, path_resolution(7).
    static func namesDirectory(_ path: [UInt8]) -> Bool {
        let last = path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).last
        return last.map { $0.isEmpty || $0.elementsEqual(".".utf8) } ?? false
    }

    /// An absolute path of its parts.
    static func join(_ components: [[UInt8]]) -> [UInt8] {
        guard !components.isEmpty else { return [UInt8(ascii: "/")] }
        return components.flatMap { [UInt8(ascii: "/")] + $0 }
    }

    /// The path with every symlink resolved, as realpath(3) does it.
    static func canonical(_ path: [UInt8]) throws(Errno) -> [UInt8] {
        let found = withCPath(path) { realpath($0, nil) }
        guard let found else { throw Errno(rawValue: errno) }
        defer { free(found) }
        return Array(FileName(cString: found).bytes)
    }
}
