import ArgumentParser

struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Show what the volume knows of a file or directory.")

    @Argument(
        help: "A path on a mount; the root where only one volume is mounted and it is left out.",
        completion: .file())
    var path: String?

    @OptionGroup var volume: VolumeOption
    @OptionGroup(title: "Sources of a volume that is not mounted")
    var offline: OfflineOptions
    @OptionGroup var report: ReportOption

    func run() throws {
        let (path, stateDirectory) = try VolumeChoice.place(
            path, stateDirectory: volume.stateDir)
        let finder = VolumeFinder(
            stateDirectory: stateDirectory, seals: false, sources: try offline.sources())
        try InspectRun.run(path, json: report.json, finder)
    }
}

/// What `inspect` does once its arguments are read.
enum InspectRun {
    static func run(_ path: String, json: Bool, _ finder: VolumeFinder) throws(Failure) {
        var finder = finder
        guard let report = try finder.ask(.inspect, path: path).report else {
            throw Failure("\(RawText.shown(path)): the daemon tells nothing")
        }
        try finder.close()
        try Output.line(json ? try ReportText.json(report) : text(report, path))
    }

    private static func text(_ report: PathReport, _ path: String) -> String {
        var table = Table(title: RawText.shown(path))
        table.add("name", report.name)
        table.add("CID", report.cid ?? "not sealed yet (registryfs cid does it)")
        table.add("kind", report.kind)
        table.add("size", "\(Figures.count(report.size)) bytes (\(Figures.bytes(report.size)))")
        if let children = report.children { table.add("children", Figures.count(children)) }
        if let target = report.target { table.add("target", target) }
        table.add("created", report.created)
        table.add("updated", report.updated)
        let links = Figures.count(UInt64(report.links), "link")
        table.add("mode", "\(report.mode), uid \(report.uid), gid \(report.gid), \(links)")
        if let leaves = report.leafCount { table.add("leaves", Figures.count(leaves)) }
        if let sharers = report.sharedBy, sharers > 1 {
            table.add("shared by", Figures.count(UInt64(sharers), "file"))
        }
        if let graft = report.graft { table.add("graft", graft) }
        for copy in report.copies {
            let words = [copy.place, copy.state] + [copy.detail].compactMap { $0 }
            table.add("copy", words.joined(separator: ", "))
        }
        return table.text
    }
}
