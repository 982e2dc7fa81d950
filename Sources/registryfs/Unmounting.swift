import Base
import Glibc

import struct SystemPackage.Errno

/// Takes mounts away.
enum Unmounting {
    /// Unmounts, by umount2(2) or, without the right to it, by fusermount3.
    ///
    /// - Parameter isLazy: detach at once, although something uses the mount (MNT_DETACH).
    /// - Throws: EBUSY where something uses it.
    static func unmount(_ point: [UInt8], isLazy: Bool) throws(Errno) {
        let mntDetach: Int32 = 2
        let umountNoFollow: Int32 = 8
        let flags = umountNoFollow | (isLazy ? mntDetach : 0)
        if SystemFiles.withCPath(point, { umount2($0, flags) }) == 0 { return }
        guard errno == EPERM else { throw Errno(rawValue: errno) }
        let options = ["-q", "-u"] + (isLazy ? ["-z"] : [])
        let status = try Processes.run("fusermount3", options + ["--", RawText.text(of: point)])
        guard status == 0 else { throw .resourceBusy }
    }

    /// Takes away the dead mounts of ours at a mount point.
    ///
    /// It is asked by statvfs(3): the attributes of a dead mount's root may still be cached.
    /// - Throws: where a mount of ours is alive there, or cannot be taken away.
    static func removeDeadMounts(at point: [UInt8]) throws(Failure) {
        for _ in 0..<deadMountsMax {
            guard let mount = try MountTable.read().mount(at: point), mount.isRegistry else {
                return
            }
            guard mount.isTrusted, isDead(point) else {
                throw Failure(
                    "a registryfs is mounted at \(RawText.shown(point)) already, "
                        + "from \(RawText.shown(mount.source))")
            }
            do throws(Errno) {
                try unmount(point, isLazy: true)
            } catch {
                throw Failure(
                    "the dead mount at \(RawText.shown(point)) cannot be taken away: \(error.reason)"
                )
            }
        }
    }

    private static let deadMountsMax = 16
    private static let probeSeconds = 2

    /// Whether a mount's daemon is gone: statvfs(3) says ENOTCONN. A stuck mount does not answer
    /// at all, so the question is asked by a thread that nobody has to wait for.
    static func isDead(_ point: [UInt8]) -> Bool {
        let answer = Monitor<Int32?>(nil)
        let thread: Void? = try? Threads.startDetached(name: "probe") {
            var status = statvfs()
            let code = SystemFiles.withCPath(point) { statvfs($0, &status) } == 0 ? 0 : errno
            answer.withLock { $0 = code }
            answer.wakeAll()
        }
        guard thread != nil else { return false }
        return answer.withLock { code in
            for _ in 0..<probeSeconds * 10 where code == nil {
                answer.wait(&code, milliseconds: 100)
            }
            return code.map { Errno(rawValue: $0).isOfDeadMount } ?? false
        }
    }

    /// The processes that use a mount, by their open files, directories, programs and mappings,
    /// as far as this user may see them. Reads /proc alone, so a stuck mount cannot hang it.
    static func users(of point: [UInt8]) -> [Int32] {
        let own = getpid()
        return Processes.all().filter { pid in
            pid != own && uses(pid, point)
        }
    }

    private static func uses(_ pid: Int32, _ point: [UInt8]) -> Bool {
        let directory = "/proc/\(pid)"
        var links = ["cwd", "root", "exe"]
        for place in ["fd", "map_files"] {
            let names = (try? Sys.names(in: AT_FDCWD, path: directory + "/" + place)) ?? []
            links += names.map { place + "/" + $0 }
        }
        return links.contains { link in
            guard let target = SystemFiles.linkTarget(Array((directory + "/" + link).utf8)) else {
                return false
            }
            return MountTable.isInside(target, point)
        }
    }

    /// The processes whose mount namespace, another than this one's, has a mount of the device
    /// that stays when ours, made in a peer group, is unmounted.
    static func namespaceUsers(of device: String, outside group: Int?) -> [Int32] {
        let own = SystemFiles.linkTarget(Array("/proc/self/ns/mnt".utf8))
        var checked: Set<[UInt8]> = []
        return Processes.all().filter { pid in
            guard let namespace = SystemFiles.linkTarget(Array("/proc/\(pid)/ns/mnt".utf8)),
                namespace != own, checked.insert(namespace).inserted,
                let table = try? MountTable.read(process: String(pid))
            else { return false }
            return !table.mounts(of: device, outside: group).isEmpty
        }
    }

    /// Processes for a person to read, at most a few of them.
    static func shown(_ pids: [Int32]) -> String {
        let some = pids.prefix(5).map { "\(Processes.name($0)) (pid \($0))" }
        let rest = pids.count - some.count
        return some.joined(separator: ", ") + (rest > 0 ? " and \(rest) more" : "")
    }
}

/// Other processes.
enum Processes {
    /// The ids of all processes that this one can see, in ascending order.
    static func all() -> [Int32] {
        ((try? Sys.names(in: AT_FDCWD, path: "/proc")) ?? []).compactMap { Int32($0) }.sorted()
    }

    /// The name of a process's program, at most 15 bytes.
    static func name(_ pid: Int32) -> String {
        let bytes = (try? SystemFiles.read("/proc/\(pid)/comm", byteCountMax: 64)) ?? []
        return bytes.isEmpty ? "?" : RawText.shown(Array(bytes.prefix { $0 != 10 }))
    }

    /// Whether a process has ended: then the kernel has closed its files and dropped its locks.
    static func hasEnded(_ pid: Int32) -> Bool {
        let bytes = (try? SystemFiles.read("/proc/\(pid)/stat", byteCountMax: 4096)) ?? []
        // proc(5): the state is the field after the name, whose parenthesis is the last one.
        guard let end = bytes.lastIndex(of: UInt8(ascii: ")")), end + 2 < bytes.count else {
            return true
        }
        return bytes[end + 2] == UInt8(ascii: "Z") || bytes[end + 2] == UInt8(ascii: "X")
    }

    /// Runs a program from PATH to its end, silent; returns its exit status, 255 after a signal.
    static func run(_ program: String, _ arguments: [String]) throws(Errno) -> Int32 {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for descriptor in STDIN_FILENO...STDERR_FILENO {
            posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_RDWR, 0)
        }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        return try wait(for: try spawn(program, [program] + arguments, actions, attributes))
    }

    /// Starts a program from PATH, or by its path.
    static func spawn(
        _ program: String, _ arguments: [String], _ actions: posix_spawn_file_actions_t,
        _ attributes: posix_spawnattr_t
    ) throws(Errno) -> pid_t {
        var (actions, attributes) = (actions, attributes)
        var pid: pid_t = 0
        let strings = arguments.map { text in
            SystemFiles.withCPath(RawText.bytes(of: text)) { strdup($0) }
        }
        defer { for string in strings { free(string) } }
        let code = posix_spawnp(&pid, program, &actions, &attributes, strings + [nil], environ)
        guard code == 0 else { throw Errno(rawValue: code) }
        return pid
    }

    /// Waits for a child's end; its exit status, 255 after a signal.
    static func wait(for pid: pid_t) throws(Errno) -> Int32 {
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 {
            guard errno == EINTR else { throw Errno(rawValue: errno) }
        }
        return status & 0x7f == 0 ? (status >> 8) & 0xff : 255
    }
}
