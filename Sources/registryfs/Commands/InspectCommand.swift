import ArgumentParser

struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Show what the volume knows of a file or directory.")

    @Argument(help: "A path on a mount.", completion: .file())
    var path: String

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var volume: VolumeOption

    func run() throws {
        try InspectRun.run(path, json: json, stateDirectory: volume.stateDir)
    }
}

/// What `inspect` does once its arguments are read.
enum InspectRun {
    static func run(_ path: String, json: Bool, stateDirectory: String?) throws(Failure) {
        var finder = VolumeFinder(stateDirectory: stateDirectory, seals: false)
        guard let report = try finder.ask(.inspect, path: path).report else {
            throw Failure("\(RawText.shown(path)): the daemon tells nothing")
        }
        try finder.close()
        try Output.line(json ? try ReportText.json(report) : text(report, path))
    }

    private static func text(_ report: PathReport, _ path: String) -> String {
        var rows: [(String, String)] = [
            ("name", report.name),
            ("CID", report.cid ?? "not sealed yet (registryfs cid does it)"),
            ("kind", report.kind),
            ("size", "\(Figures.count(report.size)) bytes (\(Figures.bytes(report.size)))"),
        ]
        if let children = report.children {
            rows.append(("children", Figures.count(children)))
        }
        rows += [
            ("created", report.created), ("updated", report.updated),
            ("mode", "\(report.mode), uid \(report.uid), gid \(report.gid), "
                + Figures.count(UInt64(report.links), "link")),
        ]
        if let target = report.target { rows.append(("target", target)) }
        if let leaves = report.leafCount { rows.append(("leaves", Figures.count(leaves))) }
        if let sharers = report.sharedBy, sharers > 1 {
            rows.append(("shared by", Figures.count(UInt64(sharers), "file")))
        }
        for copy in report.copies {
            rows.append(("copy", ([copy.place, copy.state] + [copy.detail].compactMap { $0 })
                .joined(separator: ", ")))
        }
        return Rows.text(title: RawText.shown(path), rows)
    }
}
