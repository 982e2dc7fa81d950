import Base
import Glibc
import Multiformats
import RegistryLayout

import struct SystemPackage.Errno

extension Failure {
    /// Runs what reads or makes trees of a registry.
    static func layout<Result: ~Copyable>(
        _ body: () throws(LayoutError) -> Result
    ) throws(Failure) -> Result {
        do throws(LayoutError) {
            return try body()
        } catch {
            throw Failure(error.description)
        }
    }

    /// Runs what reads an argument.
    static func ofUsage<Result>(
        _ body: () throws(LayoutError) -> Result
    ) throws(Failure) -> Result {
        do throws(LayoutError) {
            return try body()
        } catch {
            throw Failure(error.description, exitCode: 64)
        }
    }
}

/// A live mount with a stock registry's directory, in which trees of it are made by ordinary system calls.
struct RegistryMount {
    let entry: MountEntry
    /// The registry's directory below the mount point.
    let directory: [String]

    static let directoryDefault = ["docker", "registry", "v2"]

    /// Asks the daemon first, so that a mount whose daemon is stuck is not touched.
    ///
    /// - Parameter directory: where the registry is below the mount point; nil for where it is by default, or is the root itself.
    init(
        _ mountpoint: String?, stateDirectory: String?, directory: String? = nil
    ) throws(Failure) {
        entry = try Self.mount(mountpoint, stateDirectory)
        _ = try ControlClient(stateDirectory: entry.stateDirectory)
            .ask(ControlRequest(command: .status))
        if let directory {
            self.directory = try Self.names(of: directory, "--registry-dir")
        } else {
            let root = try Self.open(entry)
            self.directory =
                try root.has(Self.directoryDefault + ["repositories"]) ? Self.directoryDefault : []
        }
    }

    /// The root of the mount, which is in use while it is open.
    private static func open(_ entry: MountEntry) throws(Failure) -> OpenDirectory {
        do throws(Errno) {
            let root = try Sys.open(RawText.text(of: entry.point), flags: O_RDONLY | O_DIRECTORY)
            // It may have been unmounted meanwhile, and trees would be made below it.
            guard try Sys.filesystemType(of: root.raw) == fuseType else {
                throw Errno.socketNotConnected
            }
            return OpenDirectory(root)
        } catch {
            throw Failure("cannot open \(RawText.shown(entry.point)): \(error.reason)")
        }
    }

    /// FUSE_SUPER_MAGIC of statfs(2).
    private static let fuseType: UInt64 = 0x6573_5546

    private static func mount(
        _ mountpoint: String?, _ stateDirectory: String?
    ) throws(Failure) -> MountEntry {
        switch try VolumeChoice.find(mountpoint: mountpoint, stateDirectory: stateDirectory) {
        case .mounted(let mount): return mount
        case .directory(let directory):
            let path = try VolumeAccess.checked(directory)
            let mount = try MountTable.read().trustedRegistryMounts.first { mount in
                mount.stateDirectory == path && mount.root == [UInt8(ascii: "/")]
            }
            guard let mount else {
                throw Failure("\(RawText.shown(directory)) is not mounted: mount it first")
            }
            return mount
        case nil:
            throw Failure("nothing is mounted: 'registryfs mount' does that")
        }
    }

    /// The names of a path below a mount point, that a person gave.
    static func names(of path: String, _ option: String) throws(Failure) -> [String] {
        let names = path.split(separator: "/").map(String.init).filter { $0 != "." }
        guard !names.contains(".."), !RawText.carriesBytes(path),
            names.allSatisfy({ $0.utf8.count <= 255 })
        else {
            throw Failure(
                "\(option) \(RawText.shown(path)): a path below the mount point, without '..'",
                exitCode: 64)
        }
        return names
    }

    /// The registry.
    ///
    /// - Parameter known: what was read before.
    func registry(
        _ known: KnownManifests = KnownManifests()
    ) throws(Failure) -> StockRegistry {
        let root = try Self.open(entry)
        let shown = "\(RawText.shown(entry.point))/\(directory.joined(separator: "/"))"
        guard try root.has(directory + ["repositories"]), let base = try root.open(directory) else {
            throw Failure(
                "no registry in \(shown): push to it first, or say where it is by --registry-dir")
        }
        return StockRegistry(base: base, known: known)
    }

    /// A directory to make a tree in, which is made where it is missing.
    ///
    /// - Throws: where it is the registry's own, or has that in it or is in it.
    func place(_ path: [String], for topNames: [String]) throws(Failure) -> OwnedDescriptor {
        let shown = RawText.shown(self.path(of: path))
        guard !entry.isReadOnly else {
            throw Failure(
                "\(RawText.shown(entry.point)) is read-only: a tree can be made elsewhere, by "
                    + "'registryfs export-static --dir DIR'")
        }
        for name in topNames {
            let tree = path + [name]
            for own in [directory + ["repositories"], directory + ["blobs"]]
            where tree.starts(with: own) || own.starts(with: tree) {
                throw Failure("\(shown)/\(name) is the registry's own: choose another place")
            }
        }
        let root = try Self.open(entry)
        do throws(Errno) {
            return try root.make(path)
        } catch {
            throw Failure("cannot make \(shown): \(error.reason)")
        }
    }

    /// The path of names below the mount point.
    func path(of names: [String]) -> String {
        let point = RawText.text(of: entry.point)
        return ([point == "/" ? "" : point] + names).joined(separator: "/")
    }

    /// The CID of a directory, sealed where it is not yet.
    func cid(of names: [String]) throws(Failure) -> CID {
        var finder = VolumeFinder(stateDirectory: nil, seals: true)
        let cid = try finder.cid(ofPath: path(of: names))
        try finder.close()
        return cid
    }

    func has(_ names: [String]) throws(Failure) -> Bool { try Self.open(entry).has(names) }
}

/// An open directory, and what is below it; no symlink is followed.
final class OpenDirectory {
    let descriptor: OwnedDescriptor

    init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }

    /// Opens a directory below; nil where there is none.
    func open(
        _ names: [String], flags: Int32 = O_RDONLY | O_DIRECTORY
    ) throws(Failure) -> OwnedDescriptor? {
        let path = names.isEmpty ? "." : names.joined(separator: "/")
        do throws(Errno) {
            return try Sys.open(beneath: descriptor.raw, path, flags: flags)
        } catch .noSuchFileOrDirectory, .notDirectory {
            return nil
        } catch {
            throw Failure("cannot open \(RawText.shown(path)): \(error.reason)")
        }
    }

    func has(_ names: [String]) throws(Failure) -> Bool {
        try open(names, flags: Sys.pathOnly) != nil
    }

    /// Opens a directory below, and makes what is missing of it.
    func make(_ names: [String]) throws(Errno) -> OwnedDescriptor {
        let flags = O_RDONLY | O_DIRECTORY
        // Each is made in an open one: of a longer path mkdir(2) would follow symlinks.
        var directory = try Sys.open(beneath: descriptor.raw, ".", flags: flags)
        for name in names {
            do throws(Errno) {
                directory = try Sys.open(beneath: directory.raw, name, flags: flags)
            } catch .noSuchFileOrDirectory {
                _ = try Sys.makeDirectory(name, in: directory.raw, mode: 0o755)
                directory = try Sys.open(beneath: directory.raw, name, flags: flags)
            } catch {
                throw error
            }
        }
        return directory
    }

    /// The names in a directory below; none where it is not there.
    func names(in names: [String]) throws(Failure) -> [String] {
        guard let directory = try open(names) else { return [] }
        do throws(Errno) {
            return try Sys.entries(in: directory.raw, countMax: 1_000_000)
                .map { RawText.text(of: $0.name) }
        } catch {
            throw Failure("cannot list \(names.joined(separator: "/")): \(error.reason)")
        }
    }
}
