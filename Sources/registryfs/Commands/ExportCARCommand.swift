import ArgumentParser
import Multiformats

struct ExportCARCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export-car",
        abstract: "Write the DAG under a CID or a path as a CAR file.",
        discussion: "What reads as a CID is taken as one: write ./NAME for a file of such a name.")

    @Argument(help: "A CID, or a path on a mount.", completion: .file())
    var source: String

    @Option(
        name: [.short, .long],
        help: ArgumentHelp(
            "The file to write; it appears when it is whole. - is standard output.",
            valueName: "file"),
        completion: .file())
    var output: String

    @OptionGroup var volume: VolumeOption

    func run() throws {
        try ExportCARRun.run(source, output: output, stateDirectory: volume.stateDir)
    }
}

/// What `export-car` does once its arguments are read.
enum ExportCARRun {
    static func run(
        _ source: String, output: String, stateDirectory: String?
    ) throws(Failure) {
        let isCID = (try? CID(parsing: source)) != nil
        var finder = VolumeFinder(stateDirectory: stateDirectory, seals: !isCID)
        let cid = isCID ? source : try finder.cid(ofPath: source).description
        try write(cid, to: output, &finder)
        try finder.close()
    }

    /// Writes the DAG under a CID to a file, or to standard output.
    static func write(
        _ cid: String, to output: String, _ finder: inout VolumeFinder
    ) throws(Failure) {
        if output == "-" {
            try export(cid, &finder) { (bytes) throws(Failure) in try Output.bytes(bytes) }
        } else {
            let file = try AtomicFile(path: RawText.bytes(of: output))
            try export(cid, &finder) { (bytes) throws(Failure) in try file.write(bytes) }
            try file.keep()
        }
    }

    private static func export(
        _ cid: String, _ finder: inout VolumeFinder,
        _ sink: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        var bar = ProgressBar("exporting")
        var count: UInt64 = 0
        try finder.export(cid) { (bytes) throws(Failure) in
            try sink(bytes)
            count += UInt64(bytes.count)
            bar.update(bytes: count)
        }
    }
}
