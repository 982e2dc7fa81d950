// The protocol between the commands and a daemon, over the unix socket `control.sock` in the
// state directory.
//
// The client sends one request, a line of JSON. The daemon answers with lines of JSON, each with
// one of these members:
//
//     {"working":true}   still at it; sent every second while nothing else is
//     {"progress":{…}}   how far `sync` or an import is
//     {"data":N}         N raw bytes follow the newline, at most `dataCountMax`
//     {"done":{…}}       the end: what was asked is done
//     {"failed":{…}}     the end: it is not, and why
//
// A connection carries one request. The daemon keeps the connection of `unmount` open until it
// has let go of the state directory. Whoever hears nothing for `silenceSecondsMax` gives up, and so
// does a client whose `ControlPatience` is at its end, whatever it hears.
//
// Trust: each side asks the kernel who the other is (SO_PEERCRED). A daemon serves root and its own
// user; a client believes root and its own user, and looks first whether the directory and the socket
// belong to them. What else comes is escaped before a person sees it, and blocks are verified.
//
// Validity: a line is at most `lineCountMax` bytes and its `version` must be this program's.

import FoundationEssentials

/// The bounds and the version of the protocol.
enum ControlProtocol {
    static let version = 1
    static let socketName = "control.sock"
    static let requestCountMax = 64 << 10
    static let lineCountMax = 4 << 20
    static let dataCountMax = 8 << 20
    static let heartbeatSeconds = 1
    static let silenceSecondsMax = 10
    /// How long the daemon waits for a client that does not take its answer.
    static let sendSecondsMax = 300
    static let connectionCountMax = 16

    static func encode(_ value: some Encodable) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // These types hold nothing that JSON cannot say.
        return ((try? encoder.encode(value)).map(Array.init) ?? []) + [UInt8(ascii: "\n")]
    }

    static func decode<Value: Decodable>(_ type: Value.Type, from line: [UInt8]) -> Value? {
        try? JSONDecoder().decode(type, from: Data(line))
    }
}

/// How long a client waits for the end of an answer that goes on and on.
struct ControlPatience {
    /// In all.
    var seconds: Int
    /// Without a piece of data, or a step of the progress that the daemon tells; nil where neither
    /// comes on the way.
    var stallSeconds: Int?
}

extension ControlRequest {
    /// What is answered from what the daemon knows takes a moment. What computes or sends has as long as
    /// that takes, within a day: a person can end it.
    var patience: ControlPatience {
        let day = 86_400
        switch command {
        case .status:
            return ControlPatience(seconds: computesRoot ? day : 20)
        case .inspect, .block:
            return ControlPatience(seconds: 60)
        case .exportCAR:
            return ControlPatience(seconds: 7 * day, stallSeconds: 300)
        case .sync:
            // The daemon gives up first.
            let stall = (stallMilliseconds ?? 60_000) / 1000
            return ControlPatience(seconds: 7 * day, stallSeconds: stall + 60)
        case .cid, .unmount:
            return ControlPatience(seconds: day)
        case .importTree:
            return ControlPatience(seconds: fetches ? 7 * day : 600)
        case .grafts:
            // Look-ups have a deadline of their own; a pin goes on while something comes.
            return grafts?.action == .pin
                ? ControlPatience(seconds: 7 * day, stallSeconds: 600)
                : ControlPatience(seconds: 1_200)
        case .snapshot:
            // What changes may be hashed first, and what is compared may be elsewhere.
            return ControlPatience(seconds: snapshot?.changes == true ? 7 * day : 60)
        }
    }
}

/// What a client asks for.
struct ControlRequest: Codable, Sendable {
    enum Command: String, Codable, Sendable {
        case status, cid, inspect, block, exportCAR, sync, unmount, importTree, snapshot, grafts
    }

    var version = ControlProtocol.version
    var command: Command
    /// `cid`, `inspect`: the names below the root of the volume.
    var names: [Data] = []
    /// How many of `names` belong to a bind mount and cannot be left by `..`.
    var fixedCount = 0
    /// `cid`, `inspect`: the path as the person wrote it, for messages; `unmount`: the mount point, as the
    /// client's mount table has it.
    var shownPath = ""
    /// `block`, `exportCAR`: the CID.
    var cid: String?
    /// `status`: seal the tree and tell its root.
    var computesRoot = false
    /// `unmount`: detach although something still uses the mount.
    var isLazy = false
    /// `sync`: how long nothing may move, in milliseconds.
    var stallMilliseconds: Int?
    /// `importTree`: the path from /ipfs/ or /ipns/ on, of any bytes. `names` are those of the new place.
    var reference: Data?
    /// `importTree`: the absolute path of a CAR file in place of `reference`.
    var archive: Data?
    /// `importTree`: fetch all of it.
    var fetches = false
    /// `snapshot`.
    var snapshot: SnapshotRequest?
    /// `grafts`.
    var grafts: GraftRequest?
}

/// One line of an answer.
struct ControlReply: Codable, Sendable {
    var working: Bool?
    var progress: ControlProgress?
    var data: Int?
    var done: ControlResult?
    var failed: ControlFailure?
}

/// How far `sync` or `importTree` is, in bytes.
struct ControlProgress: Codable, Sendable, Equatable {
    var done: UInt64
    var left: UInt64
}

/// The end of an answer that went well; which members are there depends on the command.
struct ControlResult: Codable, Sendable {
    var version = ControlProtocol.version
    var status: MountStatus?
    var cid: String?
    var report: PathReport?
    /// `cid`, `inspect`: the path led out of the volume by a symlink. Absolute, or relative to the
    /// mount point where it begins with `..`.
    var elsewhere: Data?
    /// `unmount --lazy`: files are still open, and the daemon stays until they are closed.
    var isLingering: Bool?
    /// `importTree`.
    var imported: ImportReport?
    /// `snapshot`.
    var snapshots: SnapshotResult?
    /// `grafts`; those that it is about come as data before it.
    var grafts: GraftResult?
}

/// The end of an answer that did not go well.
struct ControlFailure: Codable, Sendable {
    var version = ControlProtocol.version
    var kind: Failure.Kind
    var message: String

    init(_ failure: Failure) {
        kind = failure.kind
        message = failure.message
    }

    var failure: Failure { Failure(message, kind: kind) }
}
