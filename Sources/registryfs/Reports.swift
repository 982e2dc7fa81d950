import Base
import FoundationEssentials
import FuseSession
import Multiformats
import Remotes
import Volume

/// What `status --json` prints. The keys are part of the program's interface.
struct StatusReport: Codable, Sendable {
    var mounts: [MountStatus]
}

/// One mount in `status`.
struct MountStatus: Codable, Sendable {
    var mountpoint: String
    var stateDirectory: String
    /// The user that mounted it, as the kernel tells; what another user's mount says of itself is not
    /// believed.
    var user: UInt32?
    /// The daemon; nil where none answers.
    var pid: Int32?
    var version: String?
    var profile: String?
    var readOnly: Bool?
    /// Whether the kernel reads and writes open files itself.
    var passthrough: Bool?
    /// Why it does not.
    var passthroughOff: String?
    /// Whether requests come through io_uring.
    var ioUring: Bool?
    /// Why they do not.
    var ioUringOff: String?
    /// The CID of the whole tree where it is known without sealing anything.
    var rootCID: String?
    var files: UInt64?
    var directories: UInt64?
    /// The sizes of all files, each inode once.
    var bytes: UInt64?
    var unsealedFiles: UInt64?
    var unsealedBytes: UInt64?
    /// What identical content would take if it were stored more than once.
    var dedupSavedBytes: UInt64?
    var objects: UInt64?
    /// What the objects hold that are here, each once.
    var objectBytes: UInt64?
    /// Those whose bytes are at the Kubo node.
    var remoteObjects: UInt64?
    /// Why changes cannot be made durable at the moment.
    var commitFailure: String?
    /// The Kubo node that the volume publishes to; nil without one.
    var kubo: KuboReport?
    /// Where content comes from that is not here; nil for a Kubo node alone, or for nobody.
    var sources: [SourceReport]?
    /// What the tree began with; nil for one that began empty.
    var origin: OriginReport?
    var snapshots: SnapshotsStatus?
    /// The domains that are looked up; nil where none are.
    var domains: DomainsStatus?
    /// The requests that were served since the mount, by operation.
    var operations: [String: OperationFigures]?
    /// Why no daemon answers.
    var error: String?
}

/// The requests of one operation.
struct OperationFigures: Codable, Sendable {
    var count: UInt64
    /// Errors that were answered, by their names; nil for none.
    var errors: [String: UInt64]?
    /// The time of all of them.
    var microseconds: UInt64
    /// Requests below 1 µs, below 2, below 4, and so on.
    var histogram: [UInt64]

    init(_ report: OperationReport) {
        count = report.count
        errors = report.errors.isEmpty ? nil : report.errors
        microseconds = report.microseconds
        histogram = report.histogram
    }
}

/// What `status` says of the Kubo node.
struct KuboReport: Codable, Sendable {
    var address: String
    var reachable: Bool
    var version: String?
    var peer: String?
    var mfsPath: String
    /// The root that was published last.
    var publishedRoot: String?
    /// When that was, as RFC 3339 in UTC.
    var publishedAt: String?
    var outboxFiles: UInt64
    var outboxBytes: UInt64
    var sentBytes: UInt64
    var fetchedBytes: UInt64
    /// Bytes a second over the last ten seconds.
    var sendRate: UInt64
    var fetchRate: UInt64
    /// Bytes of content here that the Kubo node has, too.
    var cachedBytes: UInt64
    /// The bound of these; nil for none.
    var cacheSize: UInt64?
    var lastError: String?
    var lastErrorAt: String?

    init(_ status: RemoteStatus) {
        func time(_ seconds: Double?) -> String? { seconds.map { Figures.time(seconds: $0) } }
        address = status.address
        reachable = status.isReachable
        version = status.version
        peer = status.peer
        mfsPath = status.path
        publishedRoot = status.root?.description
        publishedAt = time(status.publishedAt)
        outboxFiles = status.waitingFiles
        outboxBytes = status.waitingBytes
        sentBytes = status.sentBytes
        fetchedBytes = status.fetchedBytes
        sendRate = UInt64(status.sendRate)
        fetchRate = UInt64(status.fetchRate)
        cachedBytes = status.cachedBytes
        cacheSize = status.cacheSizeMax
        lastError = status.lastError
        lastErrorAt = time(status.lastErrorAt)
    }
}

/// What `status` says of one source of content.
struct SourceReport: Codable, Sendable {
    var address: String
    /// `archive`, `kubo`, `gateway`, or `announced` for a gateway that a domain named.
    var kind: String
    /// `ok`, `resting` or `excluded`.
    var state: String
    /// Why it is not `ok`.
    var reason: String?
    var blocks: UInt64
    var bytes: UInt64
    var absences: UInt64
    var failures: UInt64
    var wrongAnswers: UInt64
    var latencyMilliseconds: Double?
    var lastError: String?
    var lastErrorAt: String?

    init(_ status: SourceStatus) {
        address = status.address
        kind = status.kind.rawValue
        switch status.state {
        case .ok: state = "ok"
        case .backingOff(let milliseconds, let cause):
            (state, reason) = ("resting", "for \(milliseconds) ms: \(cause)")
        case .excluded(let cause): (state, reason) = ("excluded", cause)
        }
        blocks = status.blocks
        bytes = status.bytes
        absences = status.absences
        failures = status.failures
        wrongAnswers = status.wrongAnswers
        latencyMilliseconds = status.latencyMilliseconds
        lastError = status.problem
        lastErrorAt = status.problemTime.map { Figures.time($0, digits: 3) }
    }
}

/// What `status` says of where the tree came from.
struct OriginReport: Codable, Sendable {
    var reference: String
    var root: String
    /// When that root was taken, as RFC 3339 in UTC.
    var rootAt: String
    var followed: Bool
    var nextLookAt: String?
    var lastError: String?

    init(_ status: OriginStatus) {
        reference = status.reference
        root = "\(status.root)"
        rootAt = Figures.time(seconds: status.rootAt)
        followed = status.isFollowed
        nextLookAt = status.nextLookAt.map { Figures.time(seconds: $0) }
        lastError = status.lastError
    }
}

extension Figures {
    /// A time in seconds since the epoch, as RFC 3339 in UTC with milliseconds.
    static func time(seconds: Double) -> String {
        time(
            Timestamp(nanoseconds: Int64(exactly: (seconds * 1e9).rounded()) ?? .max), digits: 3)
    }
}

extension MountStatus {
    /// The figures of a volume; who serves it and where is the daemon's to add.
    init(_ status: VolumeStatus) {
        self.init(mountpoint: "", stateDirectory: "", profile: status.profileName)
        rootCID = status.rootCID?.description
        files = status.files
        directories = status.directories
        bytes = status.bytes
        unsealedFiles = status.unsealedFiles
        unsealedBytes = status.unsealedBytes
        dedupSavedBytes = status.sharedBytes
        objects = status.objects
        objectBytes = status.objectBytes
        remoteObjects = status.remoteObjects
        commitFailure = status.commitFailure?.reason
    }
}

/// What `inspect --json` prints. The keys are part of the program's interface.
struct PathReport: Codable, Sendable {
    /// One copy of the content.
    struct Copy: Codable, Sendable {
        var place: String
        var state: String
        var detail: String?
    }

    /// One leaf of a file.
    struct Leaf: Codable, Sendable {
        var cid: String
        var offset: UInt64
        var length: UInt64
    }

    var name: String
    var inode: UInt64
    var kind: String
    /// Nil while the content is newer than any CID.
    var cid: String?
    var size: UInt64
    /// The size of the DAG with all its nodes, as a link to it says.
    var treeSize: UInt64?
    /// Entries of a directory; nil for all else.
    var children: UInt64?
    /// The target of a symlink.
    var target: String?
    var created: String
    var updated: String
    var mode: String
    var uid: UInt32
    var gid: UInt32
    var links: UInt32
    /// The leaves of a sealed file.
    var leafCount: UInt64?
    /// The first leaves, at most `leavesMax`.
    var leaves: [Leaf]?
    /// How many files share the bytes, this one among them.
    var sharedBy: UInt32?
    /// The graft that it came from: a domain, or what was given to `grafts add`.
    var graft: String?
    var copies: [Copy]

    static let leavesMax = 10_000
}

extension PathReport {
    /// What a volume knows of an inode, under the name that led there.
    init(_ report: InodeReport, name: FileName?) {
        let attributes = report.attributes
        let isFile = attributes.kind == .regular
        self.init(
            name: name.map { RawText.shown($0.bytes) } ?? "/",
            inode: attributes.inode.number,
            kind: Self.word(attributes.kind),
            cid: report.cid?.description,
            size: attributes.size,
            treeSize: report.treeSize,
            children: report.childCount,
            target: report.target.map { RawText.shown($0) },
            created: Figures.time(attributes.created),
            updated: Figures.time(attributes.modified),
            mode: Self.octal(attributes.mode),
            uid: attributes.uid, gid: attributes.gid, links: attributes.linkCount,
            leafCount: isFile && report.isSealed ? report.leafCount : nil,
            leaves: isFile && report.isSealed
                ? report.leaves.map {
                    Leaf(cid: $0.cid.description, offset: $0.offset, length: $0.length)
                } : nil,
            sharedBy: isFile ? report.sharers : nil,
            copies: Self.copies(report))
    }

    private static func copies(_ report: InodeReport) -> [Copy] {
        var copies: [Copy] = []
        if case .remote(let bytes) = report.placement {
            copies.append(
                Copy(
                    place: "local", state: bytes == 0 ? "evicted" : "partial",
                    detail: "\(bytes) bytes in the cache"))
        } else {
            copies.append(
                Copy(
                    place: "local", state: report.isSealed ? "sealed" : "unsealed",
                    detail: place(report)))
        }
        if let isPublished = report.isPublished {
            copies.append(Copy(place: "kubo", state: isPublished ? "stored" : "waiting"))
        }
        return copies
    }

    private static func place(_ report: InodeReport) -> String {
        switch report.placement {
        case .none: "manifest"
        case .inline: "manifest, inline"
        case .object(let number): "object \(number)"
        case .remote: "node"
        }
    }

    private static func octal(_ mode: UInt32) -> String {
        let digits = String(mode, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }

    private static func word(_ kind: FileKind) -> String {
        switch kind {
        case .regular: "file"
        case .directory: "directory"
        case .symlink: "symlink"
        case .fifo: "fifo"
        case .socket: "socket"
        case .characterDevice: "character device"
        case .blockDevice: "block device"
        }
    }
}

/// JSON as the commands print it: keys sorted, indented, and with nothing in it that a terminal obeys.
enum ReportText {
    static func json(_ value: some Encodable) throws(Failure) -> String {
        try json(value, [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
    }

    /// On one line, for values of which there are many.
    static func line(_ value: some Encodable) throws(Failure) -> String {
        try json(value, [.sortedKeys, .withoutEscapingSlashes])
    }

    private static func json(
        _ value: some Encodable, _ formatting: JSONEncoder.OutputFormatting
    ) throws(Failure) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = formatting
        do {
            return escaped(String(decoding: try encoder.encode(value), as: UTF8.self))
        } catch {
            throw Failure("cannot write JSON: \(error)")
        }
    }

    /// The encoder escapes what JSON wants escaped; DEL, the C1 controls and the like stand for
    /// themselves then, in strings alone.
    private static func escaped(_ json: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in json.unicodeScalars {
            guard scalar != "\n", RawText.isDeceptive(scalar) else {
                result.append(scalar)
                continue
            }
            let digits = String(scalar.value, radix: 16)
            let zeros = String(repeating: "0", count: 4 - digits.count)
            result.append(contentsOf: "\\u\(zeros)\(digits)".unicodeScalars)
        }
        return String(result)
    }
}
