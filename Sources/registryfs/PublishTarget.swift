import Base
import Multiformats
import Naming

/// What a name is to lead to.
enum PublishTarget {
    case content(ContentPath)
    /// A path as it was written, and the mount that it lies on.
    case path(String, MountEntry, isRoot: Bool)
    /// The root of a volume that is not mounted.
    case unmounted(stateDirectory: String)

    /// - Parameter stateDirectory: whose root is meant where there is no text.
    init(_ text: String?, stateDirectory: String?) throws(Failure) {
        guard let text else {
            self = try Self.root(stateDirectory)
            return
        }
        let bytes = RawText.bytes(of: text)
        if let cid = try? CID(parsing: text) {
            self = .content(
                try Failure.ofUsage { () throws(NamingError) in
                    try ContentPath(Array("/ipfs/\(cid)".utf8))
                })
            return
        }
        if text.hasPrefix("/ipfs/") || text.hasPrefix("/ipns/"),
            let path = try? ContentPath(bytes)
        {
            self = .content(path)
            return
        }
        let place = try PathWalk.place(of: bytes, in: try MountTable.read())
        guard case .registry(let mount, let names, _) = place else {
            throw Failure(
                "\(RawText.shown(text)) is neither a CID nor on a mount of registryfs: "
                    + "'registryfs status' lists them")
        }
        let isRoot = names.allSatisfy { $0.bytes.elementsEqual(".".utf8) }
        self = .path(text, mount, isRoot: isRoot)
    }

    private static func root(_ stateDirectory: String?) throws(Failure) -> PublishTarget {
        switch try VolumeChoice.find(stateDirectory: stateDirectory) {
        case .mounted(let mount):
            return .path(RawText.text(of: mount.point), mount, isRoot: true)
        case .directory(let directory):
            let path = try VolumeAccess.checked(directory)
            let root = [UInt8(ascii: "/")]
            let mount = try MountTable.read().trustedRegistryMounts.first { mount in
                mount.stateDirectory == path && mount.root == root
            }
            guard let mount else { return .unmounted(stateDirectory: path) }
            return .path(RawText.text(of: mount.point), mount, isRoot: true)
        case nil:
            throw Failure(
                "nothing is mounted: say what is to be published, or whose root by --state-dir",
                exitCode: 64)
        }
    }

    /// What stands for a volume's root now, and all that UnixFS cannot say of it: the manifest of a snapshot that is made
    /// for this, and stays until somebody deletes it.
    func withManifest(key: String) throws(Failure) -> PublishTarget {
        let access: SnapshotAccess
        switch self {
        case .path(_, let mount, isRoot: true): access = .mount(mount)
        case .unmounted(let stateDirectory): access = .stateDirectory(stateDirectory)
        case .content, .path:
            throw Failure("--with-manifest is for a mount point: give one", exitCode: 64)
        }
        var request = SnapshotRequest(.create)
        request.withManifest = true
        request.message = "published by the key \(key)"
        guard let manifest = try access.askForOne(request, "writing").manifest else {
            throw Failure("the daemon tells of no manifest")
        }
        return .content(
            try Failure.ofUsage { () throws(NamingError) in
                try ContentPath(Array("/ipfs/\(manifest)".utf8))
            })
    }

    /// The state directory of the volume; nil for content.
    var stateDirectory: String? {
        switch self {
        case .content: nil
        case .path(_, let mount, _): mount.stateDirectory
        case .unmounted(let stateDirectory): stateDirectory
        }
    }
}
