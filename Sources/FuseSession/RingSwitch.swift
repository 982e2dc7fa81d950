internal import Base
internal import Glibc

internal import struct SystemPackage.Errno

/// The kernel's switch for FUSE over io_uring, off unless somebody turns it on
/// (/sys/module/fuse/parameters/enable_uring, Linux 6.14 and later).
///
/// It matters while a mount is being made; a connection that has it keeps it. So root turns it on
/// for that long, and the last of several mounts that are being made puts it back. Who they are, a
/// lock on the switch tells (flock(2)): those for whom it was turned on hold it shared. To look and
/// to change it by that is one step, under a lock on its directory, because flock(2) lets others in
/// between where a lock changes its kind.
final class RingSwitch: Sendable {
    /// Locked shared as long as the switch has to stay on.
    private let file: OwnedDescriptor

    private static let directory = "/sys/module/fuse/parameters"
    private static let path = directory + "/enable_uring"
    /// How often, a hundredth of a second apart, the lock of the directory is tried.
    private static let triesMax = 100

    /// Makes the kernel offer FUSE over io_uring to the next mount; nil where it does so anyway.
    static func turnOn() throws(RingsUnavailable) -> RingSwitch? {
        do throws(Errno) {
            let file = try Sys.open(path, flags: O_RDONLY)
            let turn = try takeTurn()
            defer { close(turn) }
            let isOn = try byte(of: file.raw) == UInt8(ascii: "Y")
            let isAlone = try Sys.lockExclusively(file.raw)
            if isOn && isAlone { return nil }
            if !isOn { try write("Y") }
            guard try Sys.lockShared(file.raw) else { throw .resourceBusy }
            return RingSwitch(file: file)
        } catch {
            switch error {
            case .noSuchFileOrDirectory:
                throw RingsUnavailable(
                    reason: "the kernel does not have it; Linux 6.14 and later may")
            case .permissionDenied, .readOnlyFileSystem, .notPermitted:
                throw RingsUnavailable(
                    reason: "it is turned off; root turns it on by writing Y to \(path)")
            case .resourceBusy:
                throw RingsUnavailable(reason: "another process holds a lock on \(path)")
            default:
                throw RingsUnavailable(reason: "\(path): \(error)")
            }
        }
    }

    /// A descriptor with the lock that whoever looks at the switch and changes it holds for that
    /// long.
    private static func takeTurn() throws(Errno) -> Int32 {
        let turn = try Sys.open(directory, flags: O_RDONLY | O_DIRECTORY)
        for _ in 0..<triesMax {
            if try Sys.lockExclusively(turn.raw) { return turn.take() }
            Threads.sleep(milliseconds: 10)
        }
        throw .resourceBusy
    }

    private init(file: consuming OwnedDescriptor) {
        self.file = file
    }

    /// Puts the switch back, unless other mounts still need it.
    func putBack() {
        let turn = try? Self.takeTurn()
        if (try? Sys.lockExclusively(file.raw)) == true { try? Self.write("N") }
        if let turn { close(turn) }
    }

    private static func byte(of descriptor: Int32) throws(Errno) -> UInt8? {
        let bytes = OwnedBuffer(byteCount: 8)
        return try Sys.read(descriptor, at: 0, into: bytes.bytes) > 0 ? bytes.bytes[0] : nil
    }

    private static func write(_ text: String) throws(Errno) {
        let file = try Sys.open(path, flags: O_WRONLY)
        try Array(text.utf8).withBytes { (bytes) throws(Errno) in
            try Sys.write(file.raw, at: 0, bytes)
        }
    }
}

/// The switch as a session holds it from before its mount until INIT is answered.
final class HeldRingSwitch: Sendable {
    private let held = Guarded<RingSwitch?>(nil)

    func turnOn() throws(RingsUnavailable) {
        let new = try RingSwitch.turnOn()
        held.withLock { $0 = new }
    }

    /// Puts the switch back where this has turned it on; harmless otherwise.
    func putBack() {
        held.withLock { $0.take() }?.putBack()
    }
}

/// Why a mount has no io_uring, for `status` and the log.
package struct RingsUnavailable: Error {
    let reason: String
}

/// What a mount by FUSE over io_uring needs of the machine.
package enum RingSupport {
    private static let possiblePath = "/sys/devices/system/cpu/possible"
    /// One thread at least is for each; more would be a waste.
    private static let queueCountMax = 512

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
