internal import Glibc

/// How a volume is mounted; the defaults of the FUSE layer live here.
public struct FuseConfiguration: Sendable, Equatable {
    /// Threads that serve requests, 1 to 256. A request that waits (fsync) holds one, so this
    /// bounds how many writers share one flush.
    public var threads = 32
    /// How many of them wait for requests at once; the others rest until these are busy. See
    /// `ReaderThrottle`.
    let waitingThreadsMax = 3
    /// Threads that may be started beside those while requests wait for a Kubo node. A wait for which there
    /// is none more fails at once.
    public var spareThreadsMax = 256
    /// How many beside the usual ones serve one of the kernel's queues where requests may wait for a
    /// Kubo node: its part of `ringSparesMax`, but not few, because all requests may come to one processor.
    func spareThreads(queueCount: Int) -> Int {
        min(spareThreadsMax, max(Self.queueSparesMin, Self.ringSparesMax / queueCount))
    }

    private static let ringSparesMax = 512
    private static let queueSparesMin = 32
    /// How many of `threads` serve one of the kernel's queues, where io_uring has one for each processor.
    func threads(queueCount: Int) -> Int {
        max(Self.queueThreadsMin, (threads + queueCount - 1) / queueCount)
    }

    /// One that waits for a flush leaves another.
    private static let queueThreadsMin = 2
    /// How many read the device where requests come by io_uring: what forgets inodes, and what
    /// interrupts requests, comes there still.
    let deviceThreadsBesideRings = 2
    /// Whether users other than the one who mounts may enter; the modes of the files decide the
    /// rest. On for root, as for any local filesystem.
    public var allowsOthers = geteuid() == 0
    /// Mount read-only (`ro`).
    public var isReadOnly = false
    /// Mount over a directory that has entries (`nonempty`).
    public var allowsNonEmptyMountPoint = false
    /// The source column of /proc/self/mountinfo.
    public var fsname = "registryfs"
    /// How long the kernel may keep a name, in seconds. The daemon is the only writer and the
    /// kernel sees every change, so long is right.
    public var entryTimeoutSeconds: UInt64 = 86_400
    /// How long the kernel may keep attributes, in seconds.
    public var attributeTimeoutSeconds: UInt64 = 86_400
    /// How long the kernel may remember that a name is not there, in seconds; 0 never. A create
    /// through the mount replaces the kernel's negative entry, and nobody else creates.
    public var negativeTimeoutSeconds: UInt64 = 86_400
    /// The largest read or write in one request, in bytes: what libfuse 3.14 can carry.
    public let requestBytesMax = 1 << 20
    /// Requests of the kernel's own (read-ahead, release) in flight at once, 1 to 65535.
    ///
    /// More than can wait for a Kubo node at once with up to thirty processors (`threads`, and
    /// `spareThreadsMax` or the spares of all queues), because those keep their places: with 64, the
    /// read-ahead of 100 files whose blocks did not come stopped that of all others (measured).
    public var backgroundRequestsMax: UInt32 = 1024
    /// The kernel's read-ahead for this mount, in KiB; set where sysfs can be written.
    public var readAheadKibibytes = 1024
    /// Whether the kernel may read and write open files itself where it can (`no_passthrough`).
    public var usesPassthrough = true
    /// Whether requests may come through io_uring where the kernel can (`no_io_uring`).
    public var usesRings = true
    /// Whether the kernel may look up by their file handles inodes that it has dropped
    /// (`file_handles`).
    ///
    /// Off, because overlayfs then looks up by its handle the lower file of one that was copied up, and
    /// Linux from 6.16 on takes what was found so for stale, which its users see as ESTALE
    /// (fuse_dentry_revalidate compares d_time, and only lookups by name set that).
    public var keepsFileHandles = false
    /// How long `stop` serves files that are still open after the mount has left the tree, in
    /// milliseconds, before it cuts them off.
    public var drainMilliseconds = 1000

    /// The MS_ flags for mount(2), `ro` left out. Set-id bits and device nodes take effect only
    /// where asked for, which is libfuse's default too.
    public private(set) var mountFlags: UInt = MountFlag.noSetID | MountFlag.noDevices

    public init() {}

    /// The flags for mount(2), `ro` among them.
    var effectiveMountFlags: UInt {
        isReadOnly ? mountFlags | MountFlag.readOnly : mountFlags & ~MountFlag.readOnly
    }

    /// Applies options as mount(8) passes them by `-o`: a list separated by commas.
    ///
    /// Known are the generic options of mount(8), FUSE's own (`allow_other`,
    /// `default_permissions`, `nonempty`, `fsname=`, `subtype=`), and `no_passthrough`, `no_io_uring`, `file_handles`, `threads=`,
    /// `entry_timeout=`, `attr_timeout=`, `negative_timeout=`, `max_background=`. Options for
    /// fstab and its readers (`auto`, `nofail`, `_netdev`, `x-…`) are accepted without effect.
    /// - Throws: `unknownOption` naming the first that is not known; `invalidOption`.
    public mutating func apply(options list: String) throws(FuseError) {
        for option in list.split(separator: ",") {
            try apply(option: String(option))
        }
    }

    private mutating func apply(option: String) throws(FuseError) {
        if let effect = MountFlag.effects[option] {
            mountFlags = (mountFlags | effect.set) & ~effect.clear
            if effect.clear & MountFlag.readOnly != 0 { isReadOnly = false }
            if effect.set & MountFlag.readOnly != 0 { isReadOnly = true }
            return
        }
        if MountFlag.ignored.contains(option) || option.hasPrefix("x-") || option.hasPrefix("X-") {
            return
        }
        switch option {
        case "allow_other": return allowsOthers = true
        case "no_passthrough": return usesPassthrough = false
        case "no_io_uring": return usesRings = false
        case "file_handles": return keepsFileHandles = true
        case "default_permissions": return  // Always on.
        case "nonempty": return allowsNonEmptyMountPoint = true
        default: break
        }
        let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { throw .unknownOption(option) }
        try apply(key: String(parts[0]), value: String(parts[1]))
    }

    private mutating func apply(key: String, value: String) throws(FuseError) {
        switch key {
        case "fsname":
            guard !value.isEmpty else {
                throw .invalidOption("fsname=\(value)", reason: "a name is needed")
            }
            fsname = value
        case "subtype":
            guard value == FuseConfiguration.subtype else {
                throw .invalidOption(
                    "subtype=\(value)", reason: "this filesystem is \(FuseConfiguration.subtype)")
            }
        case "user", "comment", "uhelper", "helper": return
        case "threads": threads = Int(try number(key, value, in: 1...256))
        case "entry_timeout": entryTimeoutSeconds = try number(key, value, in: timeouts)
        case "attr_timeout": attributeTimeoutSeconds = try number(key, value, in: timeouts)
        case "negative_timeout": negativeTimeoutSeconds = try number(key, value, in: timeouts)
        case "max_background":
            backgroundRequestsMax = UInt32(try number(key, value, in: 1...65535))
        default:
            throw .unknownOption(key)
        }
    }

    /// What follows `fuse.` in the type of the mount.
    static let subtype = "registryfs"

    /// Timeouts up to ten years; the kernel saturates beyond its own range.
    private var timeouts: ClosedRange<UInt64> { 0...315_360_000 }

    private func number(
        _ key: String, _ value: String, in range: ClosedRange<UInt64>
    ) throws(FuseError) -> UInt64 {
        guard let number = UInt64(value), range.contains(number) else {
            throw .invalidOption(
                "\(key)=\(value)",
                reason: "a whole number from \(range.lowerBound) to \(range.upperBound) is needed")
        }
        return number
    }
}

/// The mount options that are flags of mount(2); the values are those of <sys/mount.h>, which
/// declares them in an enum without a name.
enum MountFlag {
    static let readOnly: UInt = 1
    static let noSetID: UInt = 2
    static let noDevices: UInt = 4
    static let noExecution: UInt = 8
    static let synchronous: UInt = 16
    static let directorySynchronous: UInt = 128
    static let noSymlinkFollow: UInt = 256
    static let noAccessTimes: UInt = 1024
    static let noDirectoryAccessTimes: UInt = 2048
    static let silent: UInt = 32768
    static let relativeAccessTimes: UInt = 1 << 21
    static let strictAccessTimes: UInt = 1 << 24
    static let lazyTimes: UInt = 1 << 25

    typealias Effect = (set: UInt, clear: UInt)

    /// What each option sets and clears. `user` and its kin imply others, as mount(8) says;
    /// options after them in the list take that back.
    static let effects: [String: Effect] = [
        "ro": (readOnly, 0), "rw": (0, readOnly),
        "nosuid": (noSetID, 0), "suid": (0, noSetID),
        "nodev": (noDevices, 0), "dev": (0, noDevices),
        "noexec": (noExecution, 0), "exec": (0, noExecution),
        "sync": (synchronous, 0), "async": (0, synchronous),
        "dirsync": (directorySynchronous, 0),
        "nosymfollow": (noSymlinkFollow, 0), "symfollow": (0, noSymlinkFollow),
        "noatime": (noAccessTimes, 0), "atime": (0, noAccessTimes),
        "nodiratime": (noDirectoryAccessTimes, 0), "diratime": (0, noDirectoryAccessTimes),
        "relatime": (relativeAccessTimes, 0), "norelatime": (0, relativeAccessTimes),
        "strictatime": (strictAccessTimes, 0), "nostrictatime": (0, strictAccessTimes),
        "lazytime": (lazyTimes, 0), "nolazytime": (0, lazyTimes),
        "silent": (silent, 0), "loud": (0, silent),
        "user": (noExecution | noSetID | noDevices, 0),
        "users": (noExecution | noSetID | noDevices, 0),
        "owner": (noSetID | noDevices, 0), "group": (noSetID | noDevices, 0),
        "defaults": (0, 0),
    ]

    /// Options for mount(8), systemd and fstab alone.
    static let ignored: Set<String> = [
        "auto", "noauto", "nofail", "nouser", "nousers", "noowner", "nogroup", "_netdev",
    ]
}
