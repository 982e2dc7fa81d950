import ArgumentParser

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show what is mounted, how much it holds, and what is not sealed yet.",
        discussion: """
            Of all of this machine's mounts, or those named, or that of a state directory. Exits with 1 where \
            a daemon does not answer, or a named mount is not there.
            """)

    @Argument(help: "Mount points; all of this machine's where none is given.")
    var mountpoints: [String] = []

    @OptionGroup var volume: VolumeOption
    @OptionGroup var report: ReportOption

    @Flag(help: "Seal the tree, and show its root CID.")
    var root = false

    func run() throws {
        try StatusRun.run(
            mountpoints, stateDirectory: volume.stateDir, json: report.json, computesRoot: root)
    }
}

/// What `status` does once its arguments are read.
enum StatusRun {
    static func run(
        _ points: [String], stateDirectory: String?, json: Bool, computesRoot: Bool
    ) throws {
        var mounts = try mounts(points)
        if let stateDirectory {
            let path = RawText.bytes(of: stateDirectory) + Array("/.".utf8)
            if case .elsewhere(let wanted) = try PathWalk.place(of: path, in: MountTable.read()) {
                mounts.removeAll { $0.source != wanted || !$0.isTrusted }
            }
        }
        let answers = mounts.map { status($0, computesRoot: computesRoot) }
        if json {
            try Output.line(try ReportText.json(StatusReport(mounts: answers.map(\.status))))
        } else if answers.isEmpty {
            try Output.line("nothing is mounted")
        } else {
            try Output.line(answers.map(text).joined(separator: "\n\n"))
        }
        // Another user's mount is nobody's failure, unless it was asked for.
        let isAskedFor = !points.isEmpty || stateDirectory != nil
        let failures = answers.compactMap(\.failure).filter { isAskedFor || $0.kind != .foreign }
        guard failures.isEmpty else { throw ExitCode(1) }
    }

    /// What became of one mount.
    private struct Answer {
        var status: MountStatus
        var failure: Failure?
        /// What a person can do about the failure, where that is certain.
        var nextStep: String?
    }

    /// One mount for each volume, bind mounts left out, or those that the person named.
    private static func mounts(_ points: [String]) throws(Failure) -> [MountEntry] {
        let table = try MountTable.read()
        guard !points.isEmpty else {
            var devices: Set<String> = []
            return table.registryMounts.filter { devices.insert($0.device).inserted }
        }
        var mounts: [MountEntry] = []
        for point in points {
            guard let named = try PathWalk.mount(named: point, in: table) else {
                throw Failure("\(RawText.shown(point)) is not on a mount of registryfs")
            }
            mounts.append(named.mount)
        }
        return mounts
    }

    private static func status(_ mount: MountEntry, computesRoot: Bool) -> Answer {
        do throws(Failure) {
            guard mount.isTrusted else { throw Failure(mount.otherUser, kind: .foreign) }
            let client = ControlClient(stateDirectory: mount.stateDirectory)
            let request = ControlRequest(command: .status, computesRoot: computesRoot)
            guard var status = try client.ask(request).status else {
                throw Failure("the daemon tells no status")
            }
            status.user = mount.user
            return Answer(status: status)
        } catch {
            let status = MountStatus(
                mountpoint: RawText.shown(mount.point),
                stateDirectory: RawText.shown(mount.source), user: mount.user,
                error: error.message)
            return Answer(status: status, failure: error, nextStep: nextStep(error, mount))
        }
    }

    /// Only what is dead for certain is to be unmounted: a daemon may be alive that does not answer.
    private static func nextStep(_ failure: Failure, _ mount: MountEntry) -> String? {
        guard failure.kind == .unreachable else { return nil }
        return Unmounting.isDead(mount.point)
            ? "registryfs unmount \(RawText.shown(mount.point))"
            : "it still answers: see \(RawText.shown(mount.source))/\(LogFile.name)"
    }

    private static func text(_ answer: Answer) -> String {
        let status = answer.status
        var table = Table(title: status.mountpoint)
        table.add("state directory", status.stateDirectory)
        if let failure = answer.failure {
            table.add("daemon", (failure.kind == .unreachable ? "none: " : "") + failure.message)
            if let step = answer.nextStep { table.add("next step", step) }
            return table.text
        }
        let files = Figures.count(status.files ?? 0, "file")
        let directories = Figures.count(status.directories ?? 0, "directory", "directories")
        let unsealed = Figures.count(status.unsealedFiles ?? 0, "file")
        let objects = Figures.count(status.objects ?? 0, "object")
        let saved = Figures.bytes(status.dedupSavedBytes ?? 0)
        table.add("daemon", "pid \(status.pid ?? 0), registryfs \(status.version ?? "?")")
        table.add(
            "profile", (status.profile ?? "?") + (status.readOnly == true ? ", read-only" : ""))
        table.add("root CID", status.rootCID ?? "not computed (status --root does it)")
        table.add("holds", "\(Figures.bytes(status.bytes ?? 0)) in \(files) and \(directories)")
        table.add(
            "passthrough",
            status.passthrough == true ? "on" : "off: \(status.passthroughOff ?? "unknown")")
        table.add(
            "io_uring", status.ioUring == true ? "on" : "off: \(status.ioUringOff ?? "unknown")")
        table.add("unsealed", "\(Figures.bytes(status.unsealedBytes ?? 0)) in \(unsealed)")
        table.add(
            "stored",
            "\(Figures.bytes(status.objectBytes ?? 0)) in \(objects), \(saved) saved by sharing")
        if let origin = status.origin { add(origin, to: &table) }
        status.snapshots?.add(to: &table)
        status.domains?.add(to: &table)
        for source in status.sources ?? [] { add(source, to: &table) }
        if let kubo = status.kubo { add(kubo, to: &table) }
        if let failure = status.commitFailure {
            table.add("trouble", "changes cannot be made durable: \(failure)")
        }
        return table.text
    }
}

extension StatusRun {
    private static func add(_ origin: OriginReport, to table: inout Table) {
        table.add("from", "\(origin.reference), \(origin.root) since \(origin.rootAt)")
        if origin.followed {
            table.add("next look", origin.nextLookAt ?? "not known yet")
            if let error = origin.lastError { table.add("last look", error) }
        }
    }

    private static func add(_ source: SourceReport, to table: inout Table) {
        let blocks = Figures.count(source.blocks, "block")
        table.add(
            source.kind,
            "\(source.address), \(source.state): \(Figures.bytes(source.bytes)) in \(blocks)"
                + (source.wrongAnswers > 0 ? ", \(source.wrongAnswers) wrong" : "")
                + (source.reason.map { " (\($0))" } ?? ""))
    }

    private static func add(_ kubo: KuboReport, to table: inout Table) {
        let version = kubo.version.map { "Kubo \($0)" } ?? "not reached yet"
        table.add("node", "\(kubo.address), \(version)\(kubo.reachable ? "" : ", away")")
        table.add("MFS", kubo.mfsPath)
        table.add(
            "published",
            kubo.publishedRoot.map { "\($0), \(kubo.publishedAt ?? "?")" } ?? "nothing yet")
        let files = Figures.count(kubo.outboxFiles, "file")
        table.add("outbox", "\(Figures.bytes(kubo.outboxBytes)) in \(files)")
        table.add(
            "rates",
            "\(Figures.bytes(kubo.sendRate))/s sent, \(Figures.bytes(kubo.fetchRate))/s fetched")
        table.add(
            "cache",
            Figures.bytes(kubo.cachedBytes)
                + (kubo.cacheSize.map { " of \(Figures.bytes($0))" } ?? ", no limit"))
        if let error = kubo.lastError {
            table.add("last error", "\(error), \(kubo.lastErrorAt ?? "?")")
        }
    }
}

/// Names and values in two columns, what may be others' text for a person to read.
struct Table {
    let title: String
    private var rows: [(name: String, value: String)] = []

    init(title: String) {
        self.title = RawText.shown(title)
    }

    mutating func add(_ name: String, _ value: String) {
        rows.append((name, RawText.shown(value)))
    }

    var text: String {
        let width = rows.map(\.name.count).max() ?? 0
        let lines = rows.map { name, value in
            "  " + name + String(repeating: " ", count: width - name.count + 2) + value
        }
        return ([title] + lines).joined(separator: "\n")
    }
}
