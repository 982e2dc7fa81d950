import ArgumentParser
import Base

struct BlockCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "block",
        abstract: "Write the raw bytes of one block to standard output, verified.",
        discussion: "For a CID with SHA-256, 'registryfs block CID | sha256sum' shows its digest.")

    @Argument(help: "The block's CID.")
    var cid: String

    @OptionGroup var volume: VolumeOption
    @OptionGroup(title: "Sources of a volume that is not mounted")
    var offline: OfflineOptions

    func run() throws {
        try BlockRun.run(cid, stateDirectory: volume.stateDir, try offline.sources())
    }
}

/// What `block` does once its arguments are read.
enum BlockRun {
    static func run(
        _ cid: String, stateDirectory: String?, _ sources: OfflineSources
    ) throws(Failure) {
        var finder = VolumeFinder(
            stateDirectory: stateDirectory, seals: false, sources: sources)
        try finder.block(cid).withBytes { (bytes) throws(Failure) in try Output.bytes(bytes) }
        try finder.close()
    }
}
