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
        let node = try settings.kubo?.options(log: log)
        // To hold a root whole, a node would have to fetch all of the domains whose names are in the tree.
        options.remote = settings.pullThrough.isOn ? nil : node
        let sources = try MountSources(
            settings.sources, beside: node?.store, takesAnnounced: settings.pullThrough.isOn)
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
        let volume: Volume
        do throws(VolumeError) {
            volume = try Volume.open(
                stateDirectory: settings.stateDirectory, options: options, log: log)
        } catch {
            throw Failure(volume: error)
        }
        if options.remote != nil, let name = volume.graftNames().first {
            try? volume.close()
            throw Failure(
                "the volume has repositories of others (\(RawText.shown(name))), of which a Kubo node would fetch all: mount it "
                    + "with --pull-through; or without --kubo, and remove them by 'registryfs grafts remove'"
            )
        }
        if node != nil, settings.pullThrough.isOn {
            log.notice(
                "nothing is published to the Kubo node: with --pull-through it is a source alone")
        }
        if let domains = options.domains, let lookup = domains.directory as? DomainLookup {
            lookup.recall(volume.graftReferences(), milliseconds: domains.lookupMilliseconds)
        }
        return (volume, sources)
    }
}
