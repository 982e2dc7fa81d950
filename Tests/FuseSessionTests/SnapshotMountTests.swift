import Base
import Foundation
import FuseSession
import Logging
import Synchronization
import Testing
import Volume

/// The view of snapshots as programs see it, by the kernel with its caches.
@Suite struct SnapshotMountTests {
    private let mount: SnapshotMount

    init() throws {
        mount = try SnapshotMount()
    }

    /// Each line of the output of a shell's commands, at the mount; what they tell as errors is among them.
    private func run(_ commands: String) throws -> [String] {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", "cd \"$0\" && exec 2>&1; \(commands)", mount.path]
        process.environment = ["LC_ALL": "C", "PATH": "/usr/bin:/bin"]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let bytes = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    private static let view = ".registryfs/snapshots"

    @Test(arguments: [false, true])
    func whatSnapshotsThereAreIsSeenAtOnce(_ isTold: Bool) throws {
        defer { try? mount.end() }
        let view = Self.view
        #expect(try run("echo one > file; ls -A; ls -A \(view); cat \(view)/a/file").count == 2)
        // Listings and lookups, of what is there and of what is not, are in the kernel's caches by now.
        for round in 0..<3 {
            try mount.add("a", isTold: isTold)
            #expect(
                try run("ls -A \(view); ls -A \(view); cat \(view)/a/file") == ["a", "a", "one"])
            try mount.add("b", isTold: isTold)
            #expect(try run("ls -A \(view); stat -c %F \(view)/b") == ["a", "b", "directory"])
            mount.remove("a", isTold: isTold)
            #expect(try run("ls -A \(view); test -e \(view)/a || echo gone") == ["b", "gone"])
            mount.remove("b", isTold: isTold)
            let left = try run("find .registryfs -mindepth 1; ls -l \(view)")
            #expect(left == [view, "total 0"], "round \(round)")
        }
    }

    @Test func whatWalksTheTreeDoesNotMeetTheView() throws {
        defer { try? mount.end() }
        #expect(try run("mkdir d; echo x > d/file; ls -A; find . | sort").count == 4)
        try mount.add("a", isTold: true)
        #expect(try run("ls -A; find . | sort") == ["d", ".", "./d", "./d/file"])
        #expect(
            try run("find . -delete; rm -rf -- .[!.]* *; ls -A").contains { $0 == "d" } == false)
        #expect(try run("ls -A; ls \(Self.view)") == ["a"])
    }

    @Test func contentIsReadAndCopiedByAnyWay() throws {
        defer { try? mount.end() }
        let view = Self.view
        _ = try run("head -c 3000000 /dev/urandom > large; echo text > small; ln -s small link")
        let sums = try run(
            "cat large | md5sum; cat small | md5sum; dd if=large skip=7 bs=1001 status=none | md5sum"
        )
        try mount.add("a", isTold: true)
        #expect(
            try run(
                """
                cd \(view)/a; cat large | md5sum; cat link | md5sum
                dd if=large skip=7 bs=1001 status=none | md5sum
                """) == sums)
        // By copy_file_range(2), and whole trees.
        #expect(
            try run(
                """
                cp \(view)/a/large copy && cmp copy large
                cp --sparse=never \(view)/a/large copy && cmp copy large
                cp -a \(view)/a whole && ls whole && cmp whole/large large && readlink whole/link
                """) == ["large", "link", "small", "small"])
    }

    @Test func whatWouldChangeItIsRefused() throws {
        defer { try? mount.end() }
        let view = Self.view
        _ = try run("echo text > file; mkdir empty")
        try mount.add("a", isTold: true)
        for command in [
            "touch \(view)/a/new", "mkdir \(view)/new", "rm \(view)/a/file",
            "rmdir \(view)/a/empty",
            "mv \(view)/a/file .", "mv file \(view)/a/new", "ln file \(view)/a/new",
            "ln \(view)/a/file new", "chmod 600 \(view)/a/file", "truncate -s 0 \(view)/a/file",
            "sh -c 'echo x >> \(view)/a/file'", "rmdir .registryfs", "mv .registryfs moved",
            "ln -s x \(view)/a/new", "mknod \(view)/a/new p", "rm -r \(view)/a",
        ] {
            let told = try run("\(command) && echo done")
            #expect(
                !told.isEmpty && told.allSatisfy { $0.contains("Read-only file system") },
                "\(command): \(told)")
        }
        for command in ["mkdir .registryfs", "ln -sT x .registryfs"] {
            #expect(try run(command).first?.contains("File exists") ?? false, "\(command)")
        }
        #expect(try run("ls -A; ls -A \(view)/a; cat \(view)/a/file").count == 5)
        #expect(
            try run("stat -c '%a %u' .registryfs; stat -c %a \(view)/a \(view)/a/file")
                == ["700 \(geteuid())", "755", "644"])
    }
}

/// A volume that is mounted, and shows snapshots as a test wants them.
final class SnapshotMount: Sendable {
    let path: String
    private let directory: String
    private let volume: Volume
    private let session: FuseSession
    private let server: JoinableThread
    private let shown = Monitor<[Snapshot]>([])
    private let count = Atomic<UInt64>(0)

    struct Refused: Error {}

    init() throws {
        directory =
            FileManager.default.temporaryDirectory.path + "/snapshots-" + UUID().uuidString
        path = directory + "/mount"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        let log = Logger(label: "snapshots") { _ in SwiftLogNoOpLogHandler() }
        volume = try Volume.open(
            stateDirectory: directory + "/state", options: VolumeOptions(), log: log)
        let session = try FuseSession(volume: volume, configuration: FuseConfiguration(), log: log)
        self.session = session
        server = try RingSwitch.whileOn { [path] in
            try session.mount(at: path)
            let server = try Threads.start(name: "mount") {
                do {
                    try session.run()
                } catch {
                    Issue.record(error)
                }
            }
            guard session.waitUntilReady() else { throw Refused() }
            return server
        }
        volume.showSnapshots { [weak self] in self?.shown.withLock { $0.map { $0 } } ?? [] }
    }

    /// Shows the tree as it is under a name.
    func add(_ name: String, isTold: Bool) throws {
        let number = count.add(1, ordering: .relaxed).newValue
        let snapshot = Snapshot(
            number: number, name: name, root: try volume.cid(of: .root), treeSize: 100,
            createdAt: Int64(number) * 1_000_000_000)
        shown.withLock { $0.append(snapshot) }
        if isTold { volume.snapshotsChanged(name) }
    }

    func remove(_ name: String, isTold: Bool) {
        shown.withLock { $0.removeAll { $0.name == name } }
        if isTold { volume.snapshotsChanged(name) }
    }

    func end() throws {
        session.stop()
        server.join()
        try volume.close()
        try FileManager.default.removeItem(atPath: directory)
    }
}
