import ArgumentParser
import Base
import FoundationEssentials
import Multiformats
import Volume

/// Which volume's snapshots a command is about.
struct SnapshotPlace: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The mount; may be left out where only one volume is mounted.", valueName: "mountpoint"),
        completion: .directory)
    var at: String?

    @Option(
        help: ArgumentHelp(
            "The volume's state directory in its place, mounted or not.", valueName: "dir"),
        completion: .directory)
    var stateDir: String?

    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        guard at == nil || stateDir == nil else {
            throw ValidationError("--at and --state-dir exclude each other")
        }
    }
}

/// A volume that is asked about its snapshots.
enum SnapshotAccess {
    /// By its daemon alone.
    case mount(MountEntry)
    /// By its daemon, or opened here where it is not mounted.
    case stateDirectory(String)

    init(_ place: SnapshotPlace) throws(Failure) {
        self =
            switch try VolumeChoice.find(mountpoint: place.at, stateDirectory: place.stateDir) {
            case .mounted(let mount): .mount(mount)
            case .directory(let directory): .stateDirectory(directory)
            case nil: .stateDirectory(VolumeAccess.defaultStateDirectory)
            }
    }

    private static func trusted(_ mount: MountEntry) throws(Failure) -> SnapshotAccess {
        guard mount.isTrusted else { throw Failure(mount.otherUser, kind: .foreign) }
        return .mount(mount)
    }

    /// Sends a request to the volume and waits for its end. On a terminal a line shows that it goes on.
    @discardableResult
    func ask(
        _ request: SnapshotRequest, _ label: String,
        data: (UnsafeRawBufferPointer) throws(Failure) -> Void = { _ in }
    ) throws(Failure) -> SnapshotResult {
        let access: VolumeAccess
        switch self {
        case .mount(let mount):
            access = .daemon(ControlClient(stateDirectory: mount.stateDirectory))
        case .stateDirectory(let directory):
            access = try VolumeAccess(
                stateDirectory: directory, seals: request.changes, sources: OfflineSources())
        }
        var control = ControlRequest(command: .snapshot)
        control.snapshot = request
        let result: ControlResult
        do throws(Failure) {
            var bar = ProgressBar(label)
            let start = MonotonicClock.milliseconds
            result = try access.ask(
                control,
                pulse: { _ in bar.update(seconds: (MonotonicClock.milliseconds - start) / 1000) },
                data: data)
        } catch {
            try? access.close()
            throw error
        }
        try access.close()
        guard let snapshots = result.snapshots else { throw Failure("the daemon tells nothing") }
        return snapshots
    }

    /// Sends a request whose answer is about one snapshot.
    func askForOne(_ request: SnapshotRequest, _ label: String) throws(Failure) -> SnapshotReport {
        guard let report = try ask(request, label).snapshot else {
            throw Failure("the daemon tells of no snapshot")
        }
        return report
    }

    /// Sends a request whose answer is about many, which come one after the other.
    func askForAll(
        _ request: SnapshotRequest, _ label: String,
        _ body: (SnapshotReport) throws(Failure) -> Void
    ) throws(Failure) -> SnapshotResult {
        var reader = RecordReader(end: UInt8(ascii: "\n"))
        return try ask(request, label) { (bytes) throws(Failure) in
            try reader.take(bytes) { (line) throws(Failure) in
                guard let report = ControlProtocol.decode(SnapshotReport.self, from: Array(line))
                else { throw Failure("the daemon tells of no snapshot") }
                try body(report)
            }
        }
    }

    /// Who is asked for the blocks of a snapshot's tree.
    var finder: VolumeFinder {
        switch self {
        case .mount(let mount): VolumeFinder(asking: mount)
        case .stateDirectory(let directory):
            VolumeFinder(stateDirectory: directory, seals: false)
        }
    }

    /// The volume and the names from its root down that a path leads to, which need not be there: below a mount
    /// point, or from the root of the volume on. Symlinks inside of the volume are not followed.
    static func located(
        _ path: String, _ place: SnapshotPlace
    ) throws(Failure) -> (SnapshotAccess, [Data]) {
        let bytes = RawText.bytes(of: path)
        guard !bytes.isEmpty else { throw Failure("a path cannot be empty", exitCode: 64) }
        var names = SystemFiles.components(bytes)
        let access: SnapshotAccess
        if bytes.first == UInt8(ascii: "/"), place.stateDir == nil {
            guard
                case .registry(let mount, let inside, _) = try PathWalk.place(
                    of: bytes, in: try MountTable.read())
            else {
                throw Failure(
                    "\(RawText.shown(path)) is not on a mount of registryfs: 'registryfs status' lists "
                        + "them; --state-dir DIR reaches a volume that is not mounted")
            }
            if let at = place.at, case .mounted(let other)? = try VolumeChoice.find(mountpoint: at),
                other.device != mount.device
            {
                throw Failure("\(RawText.shown(path)) is not on \(RawText.shown(at))")
            }
            access = try trusted(mount)
            names = inside.map(\.bytes).filter { $0 != Array(".".utf8) }
        } else {
            access = try SnapshotAccess(place)
            if case .mount(let mount) = access {
                names = SystemFiles.components(mount.root) + names
            }
        }
        guard !names.contains(Array("..".utf8)) else {
            throw Failure("\(RawText.shown(path)): give the path without '..'")
        }
        return (access, names.map { Data($0) })
    }
}

/// What stands for a snapshot on the command line.
enum SnapshotName {
    static func check(_ name: String) throws(Failure) {
        guard Snapshot.isName(name) else {
            throw Failure(
                "'\(RawText.shown(name))' cannot be a snapshot's name: it has 1 to \(Snapshot.nameLengthMax) letters, "
                    + "digits and . _ - : + @, and begins with neither . nor -",
                exitCode: 64)
        }
    }

    /// Refuses what stands for no tree: neither a name, nor `.`, nor a CID.
    static func check(tree: String) throws(Failure) {
        guard tree != ".", (try? CID(parsing: tree)) == nil else { return }
        try check(tree)
    }
}
