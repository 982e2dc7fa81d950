internal import Glibc
public import Multiformats

/// A moment of the tree that was given a name, as CIDs: it stays as it is until it is deleted.
public struct Snapshot: Sendable, Equatable {
    /// Its number: those that were made later have higher ones, and none is given twice.
    public let number: UInt64
    /// What `Snapshot.isName` allows; no two have the same.
    public let name: String
    /// The tree of that moment, under the volume's profile.
    public let root: CID
    /// Bytes of the tree's DAG as UnixFS counts them (Tsize): a block counts as often as it is linked.
    public let treeSize: UInt64
    /// When it was made, in nanoseconds since the epoch.
    public let createdAt: Int64
    /// What somebody wrote to it; empty for nothing.
    public let message: String
    /// `--snapshot-every` made it.
    public let isAutomatic: Bool
    /// The portable manifest that was made with it; nil for none.
    public let manifest: CID?

    public init(
        number: UInt64, name: String, root: CID, treeSize: UInt64, createdAt: Int64,
        message: String = "", isAutomatic: Bool = false, manifest: CID? = nil
    ) {
        self.number = number
        self.name = name
        self.root = root
        self.treeSize = treeSize
        self.createdAt = createdAt
        self.message = message
        self.isAutomatic = isAutomatic
        self.manifest = manifest
    }

    /// Bytes of the longest name.
    public static let nameLengthMax = 128
    /// Bytes of the longest message.
    public static let messageLengthMax = 4096

    /// Whether a snapshot can have the name: 1 to 128 ASCII letters, digits and `.`, `_`, `-`, `:`, `+`, `@`; not
    /// beginning with `.` or `-`.
    public static func isName(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard (1...nameLengthMax).contains(bytes.count), bytes[0] != 0x2e, bytes[0] != 0x2d else {
            return false
        }
        return bytes.allSatisfy { byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
            case 0x2e, 0x5f, 0x2d, 0x3a, 0x2b, 0x40: true
            default: false
            }
        }
    }
}

extension Snapshot {
    /// The name of one that was made at a time, in nanoseconds since the epoch: the time in UTC, to the second.
    public static func name(at time: Int64) -> String {
        var seconds = time_t(time / 1_000_000_000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func digits(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let day = "\(parts.tm_year + 1900)-\(digits(parts.tm_mon + 1))-\(digits(parts.tm_mday))"
        let clock = "\(digits(parts.tm_hour))-\(digits(parts.tm_min))-\(digits(parts.tm_sec))"
        return "\(day)T\(clock)Z"
    }
}

/// What `restore` did, in names.
public struct RestoredTree: Sendable, Equatable {
    public var added = 0
    public var changed = 0
    public var removed = 0

    public init() {}
}

/// A name that two trees have differently.
public struct TreeDifference: Sendable, Equatable {
    public enum Kind: String, Sendable {
        /// Only the second has it.
        case added
        /// Only the first has it.
        case removed
        /// Both have it, with other content; or another kind.
        case changed
    }

    public let kind: Kind
    /// Names from the trees' root down.
    public let path: [[UInt8]]
    /// It is a directory in the tree that has it, or in both; all that is below one that was added or removed follows it.
    public let isDirectory: Bool

    public init(kind: Kind, path: [[UInt8]], isDirectory: Bool) {
        self.kind = kind
        self.path = path
        self.isDirectory = isDirectory
    }
}

/// A tree to compare: of a snapshot, as it is now, or of any CID.
public enum ComparedTree: Sendable, Equatable {
    case snapshot(String)
    /// The tree as it is when it is asked for.
    case live
    case root(CID)
}
