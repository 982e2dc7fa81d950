import ArgumentParser
import Base
import Glibc
import MerkleDAG
import Multiformats

struct ExportCARCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export-car",
        abstract: "Write the DAG under a CID or a path as a CAR file.",
        discussion: """
            What is not here is fetched as it is written. What reads as a CID is taken as one: write ./NAME \
            for a file of such a name.
            """)

    @Argument(
        help:
            "A CID, or a path on a mount; the root where only one volume is mounted and it is left out.",
        completion: .file())
    var source: String?

    @Option(
        name: [.short, .long],
        help: ArgumentHelp(
            "The file to write; it appears when it is whole. - is standard output.",
            valueName: "file"),
        completion: .file())
    var output: String

    @OptionGroup var volume: VolumeOption
    @OptionGroup(title: "Sources of a volume that is not mounted")
    var offline: OfflineOptions
    @OptionGroup var report: ReportOption

    func validate() throws {
        guard output != "-" || !report.json else {
            throw ValidationError("--json: standard output is taken by the archive: write a file")
        }
    }

    func run() throws {
        let (source, stateDirectory) = try VolumeChoice.place(
            source, stateDirectory: volume.stateDir)
        let isCID = (try? CID(parsing: source)) != nil
        var finder = VolumeFinder(
            stateDirectory: stateDirectory, seals: !isCID, sources: try offline.sources())
        let cid = isCID ? source : try finder.cid(ofPath: source).description
        let report = try ExportCARRun.run(cid, output: output, &finder)
        try finder.close()
        if self.report.json { try Output.line(try ReportText.json(report)) }
    }
}

/// What `export-car --json` prints. The keys are part of the program's interface.
struct ExportReport: Codable, Sendable {
    /// The root of the archive.
    var cid: String
    /// The length of the archive.
    var bytes: UInt64
    /// Where it is.
    var file: String
}

/// What `export-car` does once its arguments are read.
enum ExportCARRun {
    static func run(
        _ cid: String, output: String, _ finder: inout VolumeFinder
    ) throws(Failure) -> ExportReport {
        var report = ExportReport(cid: cid, bytes: 0, file: RawText.shown(output))
        if output == "-" {
            report.bytes = try export(cid, &finder) { (bytes) throws(Failure) in
                try Output.bytes(bytes)
            }
        } else {
            let file = try AtomicFile(path: RawText.bytes(of: output))
            report.bytes = try export(cid, &finder) { (bytes) throws(Failure) in
                try file.write(bytes)
            }
            try file.keep()
        }
        return report
    }

    private static func export(
        _ cid: String, _ finder: inout VolumeFinder,
        _ sink: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) -> UInt64 {
        var bar = ProgressBar("exporting")
        let most = bar.isShown ? try treeSize(of: cid, &finder) : nil
        var count: UInt64 = 0
        try finder.export(cid) { (bytes) throws(Failure) in
            try sink(bytes)
            count += UInt64(bytes.count)
            if let most {
                bar.update(bytes: count, ofAtMost: most)
            } else {
                bar.update(bytes: count)
            }
        }
        return count
    }

    /// The bytes of all blocks as the root's links say, where repetitions count; nil where they say nothing.
    private static func treeSize(
        of cid: String, _ finder: inout VolumeFinder
    ) throws(Failure) -> UInt64? {
        let block = try finder.block(cid)
        guard try ContentID.parse(cid).codec == .dagPB, let node = try? DAGNode(decoding: block)
        else { return nil }
        return node.links.reduce(UInt64(block.count)) { (sum: UInt64, link) in
            let (next, isOverflow) = sum.addingReportingOverflow(link.treeSize)
            return isOverflow ? .max : next
        }
    }
}
