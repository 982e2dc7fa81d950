import Base
import Glibc

import struct SystemPackage.Errno

/// Starts the daemon as a process of its own and waits until it is ready.
///
/// The program starts itself again, for a process with threads cannot fork without exec. The new
/// one leads a session of its own, has /dev/null for its standard streams until it opens its log,
/// and reports through a pipe: `ready`, or `failed STATUS MESSAGE`.
enum Daemonizer {
    /// - Parameter arguments: those of `mount` for the daemon.
    /// - Throws: what the daemon says, or that it said nothing.
    static func start(arguments: [String], stateDirectory: String) throws(Failure) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else {
            throw Failure("cannot make a pipe: \(Errno(rawValue: errno).reason)")
        }
        for end in ends { Descriptors.closeOnExec(end) }
        let output = OwnedDescriptor(ends[0])
        let pid: pid_t
        do throws(Errno) {
            pid = try spawn(OwnedDescriptor(ends[1]), arguments)
        } catch {
            throw Failure("cannot start the daemon: \(error.reason)")
        }
        let line = firstLine(output.raw)
        if line == "ready" { return }
        let status = (try? Processes.wait(for: pid)) ?? 255
        let words = (line ?? "").split(separator: " ", maxSplits: 2).map(String.init)
        if words.count == 3, words[0] == "failed" {
            throw Failure(words[2], exitCode: Int32(words[1]) ?? 1)
        }
        throw Failure(
            "the daemon ended with status \(status) before it was ready: "
                + "see \(RawText.shown(stateDirectory))/\(LogFile.name)")
    }

    private static func spawn(
        _ input: consuming OwnedDescriptor, _ arguments: [String]
    ) throws(Errno) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for descriptor in STDIN_FILENO...STDERR_FILENO {
            posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_RDWR, 0)
        }
        // Where both numbers are equal, posix_spawn clears the flag to close it.
        posix_spawn_file_actions_adddup2(&actions, input.raw, Readiness.pipeDescriptor)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        let posixSpawnSetSID: Int16 = 0x80
        posix_spawnattr_setflags(&attributes, posixSpawnSetSID)
        return try SecretEnvironment.lend { () throws(Errno) in
            try Processes.spawn(program(), ["registryfs"] + arguments, actions, attributes)
        }
    }

    /// This program's file, or the kernel's own way to it where it was replaced meanwhile.
    static func program() -> String {
        let link = "/proc/self/exe"
        guard let target = SystemFiles.linkTarget(Array(link.utf8)) else { return link }
        let path = RawText.text(of: target)
        return SystemFiles.withCPath(target) { access($0, X_OK) } == 0 ? path : link
    }

    private static func firstLine(_ descriptor: Int32) -> String? {
        var bytes: [UInt8] = []
        var byte: UInt8 = 0
        while bytes.count < 65_536 {
            let count = read(descriptor, &byte, 1)
            if count < 0 && errno == EINTR { continue }
            guard count == 1, byte != UInt8(ascii: "\n") else { break }
            bytes.append(byte)
        }
        return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
    }
}
