import FuseSession
import Logging
import MerkleDAG
import Remotes
import Volume

extension Daemon {
    /// Opens the volume that is mounted, with where its content comes from.
    static func openVolume(
        _ settings: MountSettings, _ log: Logger
    ) throws(Failure) -> (Volume, MountSources) {
        var options = VolumeOptions()
        options.profile = settings.profile.flatMap { ImportProfile(name: $0) }
        // Of what goes with a name, the kernel refuses changes.
        options.isReadOnly = settings.fuse.isReadOnly && !settings.sources.follows
        options.directoryCIDs = settings.directoryCIDs
        options.remote = try settings.kubo?.options(log: log)
        let sources = try MountSources(
            settings.sources, beside: options.remote?.store,
            takesAnnounced: settings.pullThrough.isOn)
        if let all = sources.all {
            options.remote?.addSources(all)
            if options.remote == nil { options.sources = FetchOptions(all) }
        }
        if var fetch = options.remote?.fetch ?? options.sources {
            try settings.fetch.apply(to: &fetch)
            options.remote?.fetch = fetch
            options.sources = options.remote == nil ? fetch : nil
        }
        options.origin = try sources.origin(
            node: settings.kubo, stateDirectory: settings.stateDirectory, log: log)
        options.domains = try sources.domains(
            settings.pullThrough, node: settings.kubo, stateDirectory: settings.stateDirectory,
            log: log)
        do throws(VolumeError) {
            let volume = try Volume.open(
                stateDirectory: settings.stateDirectory, options: options, log: log)
            if let domains = options.domains, let lookup = domains.directory as? DomainLookup {
                lookup.recall(
                    volume.graftReferences(), milliseconds: domains.lookupMilliseconds)
            }
            return (volume, sources)
        } catch {
            throw Failure(volume: error)
        }
    }
}
