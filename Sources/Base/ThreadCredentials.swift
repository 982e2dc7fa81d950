internal import Glibc

internal import struct SystemPackage.Errno

/// The credentials of a thread of any process, as /proc shows them (proc_pid_status(5)).
public struct ThreadCredentials: Sendable {
    /// Whose files it makes: the filesystem user id.
    public let uid: UInt32
    /// The supplementary groups.
    public let groups: [UInt32]
    /// The effective capabilities, bit by number; none where they hold in a user namespace alone.
    private let capabilities: UInt64

    /// The capabilities that matter here, by their numbers (linux/capability.h).
    public enum Capability: UInt64, Sendable {
        /// CAP_FOWNER.
        case changeFilesOfOthers = 3
        /// CAP_FSETID.
        case keepSetIDBits = 4
        /// CAP_SYS_ADMIN.
        case administrate = 21
    }

    /// Reads the credentials. Blocks for no disk.
    ///
    /// - Parameter thread: its number, as gettid(2) tells it, in the namespace of this process.
    /// - Returns: nil where there is no such thread, or /proc does not show it.
    public init?(thread: Int32) {
        guard thread > 0, let status = Self.text(of: "/proc/\(thread)/status") else { return nil }
        var fields: [Substring: Substring] = [:]
        for line in status.split(separator: "\n") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            fields[line[..<colon]] = line[line.index(after: colon)...]
        }
        func words(_ name: Substring) -> [Substring] {
            fields[name]?.split { $0 == " " || $0 == "\t" } ?? []
        }
        // Real, effective, saved, and that of the filesystem.
        guard let uid = words("Uid").dropFirst(3).first.flatMap({ UInt32($0) }),
            let effective = words("CapEff").first.flatMap({ UInt64($0, radix: 16) })
        else { return nil }
        self.uid = uid
        groups = words("Groups").compactMap { UInt32($0) }
        capabilities = Self.isInInitialNamespace(thread) ? effective : 0
    }

    /// Whether the thread has a capability for all of the machine.
    public func has(_ capability: Capability) -> Bool {
        capabilities & 1 << capability.rawValue != 0
    }

    /// In a namespace of their own, users have all capabilities, and none outside of it
    /// (user_namespaces(7)).
    private static func isInInitialNamespace(_ thread: Int32) -> Bool {
        var target = [UInt8](repeating: 0, count: 64)
        let count = target.withUnsafeMutableBytes { bytes in
            bytes.withMemoryRebound(to: CChar.self) { text in
                text.baseAddress.map { readlink("/proc/\(thread)/ns/user", $0, text.count) } ?? -1
            }
        }
        guard count > 0 else { return false }
        return target[..<count].elementsEqual("user:[\(initialNamespaceNumber)]".utf8)
    }

    /// PROC_USER_INIT_INO of the kernel's linux/proc_ns.h.
    private static let initialNamespaceNumber: UInt32 = 0xefff_fffd

    /// 65,536 groups of eleven bytes, and the rest.
    private static let statusByteCountMax = 1 << 20

    private static func text(of path: String) -> String? {
        guard let file = try? Sys.open(path, flags: O_RDONLY) else { return nil }
        var bytes: [UInt8] = []
        var portion = [UInt8](repeating: 0, count: 4096)
        while bytes.count < statusByteCountMax {
            let count = portion.withUnsafeMutableBytes { buffer in
                Glibc.read(file.raw, buffer.baseAddress, buffer.count)
            }
            guard count >= 0 else { return nil }
            guard count > 0 else { break }
            bytes += portion[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
