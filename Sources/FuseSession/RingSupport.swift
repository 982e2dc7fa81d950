internal import Base
internal import Glibc

internal import struct SystemPackage.Errno

/// Why a mount has no io_uring, for `status` and the log.
package struct RingsUnavailable: Error {
    let reason: String
}

/// What a mount by FUSE over io_uring needs of the machine.
package enum RingSupport {
    /// The kernel's switch for FUSE over io_uring, off unless the machine's administrator has turned
    /// it on (Linux 6.14 and later). It is for all mounts of the machine, so it is only looked at.
    static let switchPath = "/sys/module/fuse/parameters/enable_uring"

    private static let possiblePath = "/sys/devices/system/cpu/possible"
    /// One thread at least is for each; more would be a waste.
    private static let queueCountMax = 512

    /// Checks that the kernel offers FUSE over io_uring to the next mount.
    static func checkSwitch() throws(RingsUnavailable) {
        let isOn: Bool
        do throws(Errno) {
            let file = try Sys.open(switchPath, flags: O_RDONLY)
            let bytes = OwnedBuffer(byteCount: 8)
            let count = try Sys.read(file.raw, at: 0, into: bytes.bytes)
            isOn = count > 0 && bytes.bytes[0] == UInt8(ascii: "Y")
        } catch {
            throw RingsUnavailable(
                reason: error == .noSuchFileOrDirectory
                    ? "the kernel does not have it; Linux 6.14 and later may"
                    : "\(switchPath): \(error)")
        }
        guard isOn else { throw RingsUnavailable(reason: howToTurnOn) }
    }

    private static let howToTurnOn =
        "it is off on this machine: 'options fuse enable_uring=1' in a file of /etc/modprobe.d turns "
        + "it on at each boot, 'echo Y >\(switchPath)' as root for the mounts that are made from now on"

    /// How many queues the kernel has: one for each processor that could ever be there.
    static func queueCount() throws(RingsUnavailable) -> Int {
        let count: Int?
        do throws(Errno) {
            let file = try Sys.open(possiblePath, flags: O_RDONLY)
            let buffer = OwnedBuffer(byteCount: 4096)
            let length = try Sys.read(file.raw, at: 0, into: buffer.bytes)
            count = processorCount(
                in: String(decoding: buffer.bytes[..<length], as: UTF8.self))
        } catch {
            throw RingsUnavailable(reason: "\(possiblePath): \(error)")
        }
        guard let count, count <= queueCountMax else {
            throw RingsUnavailable(
                reason: "\(possiblePath) has no count of processors up to \(queueCountMax)")
        }
        return count
    }

    /// Checks that this process may make rings: seccomp and kernel.io_uring_disabled forbid it.
    static func checkRings() throws(RingsUnavailable) {
        do throws(Errno) {
            try RequestRing.check()
        } catch {
            throw RingsUnavailable(reason: "the system refuses io_uring: \(error)")
        }
    }

    /// Checks that so many rings leave as many descriptors for the files of the volume.
    static func checkDescriptors(rings: Int) throws(RingsUnavailable) {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        guard limit.rlim_cur / 2 >= rlim_t(rings) else {
            throw RingsUnavailable(
                reason: "this process may have \(limit.rlim_cur) open files, too few for "
                    + "\(rings) rings")
        }
    }

    /// How many numbers a list like `0-3,8-11` has; nil for what is no such list.
    package static func processorCount(in list: String) -> Int? {
        let line = list.split(separator: "\n").first ?? ""
        var count = 0
        for part in line.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false)
            guard ends.count <= 2, let first = UInt16(ends[0]),
                let last = UInt16(ends[ends.count - 1]), last >= first
            else { return nil }
            count += Int(last - first) + 1
        }
        return count > 0 ? count : nil
    }
}

/// Whether requests come through io_uring.
public enum Rings: Sendable, Equatable {
    case on
    case off(reason: String)
}
