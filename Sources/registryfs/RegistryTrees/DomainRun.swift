import ArgumentParser
import Base
import Glibc
import Kubo
import Logging
import Multiformats
import Naming
import RegistryLayout

import struct SystemPackage.Errno

/// What `publish --domain` does once its arguments are read.
struct DomainRun {
    /// The most addresses of a node that are told in DNS.
    private static let addressesMax = 8

    private let domain: DomainSettings
    private let settings: PublishSettings
    private let node: KuboAccess
    /// Finds the mount. It may go and come back while it is watched, and nothing of it is held open meanwhile.
    private let find: () throws(Failure) -> RegistryMount
    private let known = KnownManifests()

    init(
        _ domain: DomainSettings, _ settings: PublishSettings, _ node: KuboAccess,
        find: @escaping () throws(Failure) -> RegistryMount
    ) {
        self.domain = domain
        self.settings = settings
        self.node = node
        self.find = find
    }

    /// - Parameter watchSeconds: how often the repositories are looked at; nil to publish once.
    func run(checks: Bool, watchSeconds: Double?) throws {
        let mount = try find()
        let keys = try KeyRun.open(mount.entry.stateDirectory)
        guard !checks else {
            let check = try DomainCheck(domain, root: try root(mount), key: try entry(keys))
            guard try check.run(json: settings.json) else { throw ExitCode(1) }
            return
        }
        let client = try PublishRun.client(node, target(mount), settings)
        let isPublishing = client != nil && node.kubo == nil
        guard let watchSeconds else {
            let made = try make(mount, keys)
            for fault in made.faults { Program.say(fault) }
            let value = try PublishRun.value(of: target(mount), isPublishing: isPublishing)
            return try publish(value, keys, client, made.changes)
        }
        var looked: [CID] = []
        var faults: [String] = []
        var changes = TreeChanges()
        let volume = mount.entry.stateDirectory
        try PublishRun.watch(settings, seconds: watchSeconds) { () throws(Failure) in
            let mount = try find()
            guard mount.entry.stateDirectory == volume else {
                throw Failure("another volume is mounted now than the one that is published")
            }
            let seen = try cids(mount, withBlobs: !faults.isEmpty)
            if seen != looked {
                let made = try make(mount, keys)
                if made.faults != faults { for fault in made.faults { Program.say(fault) } }
                (changes, faults) = (made.changes, made.faults)
                looked = seen
            }
            return try PublishRun.value(of: target(mount), isPublishing: isPublishing)
        } publish: { (value) throws(Failure) in
            try publish(value, keys, client, changes)
        }
    }

    /// Where these stay nothing is read: all repositories have one CID. A blob that was missing may come back without a change of theirs,
    /// for its link stays.
    private func cids(_ mount: RegistryMount, withBlobs: Bool) throws(Failure) -> [CID] {
        var cids = [try mount.cid(of: mount.directory + ["repositories"])]
        let blobs = mount.directory + ["blobs"]
        if withBlobs, try mount.has(blobs) { cids.append(try mount.cid(of: blobs)) }
        return cids
    }

    private func target(_ mount: RegistryMount) -> PublishTarget {
        .path(mount.path(of: domain.path), mount.entry, isRoot: false)
    }

    // MARK: The tree

    /// What is there and not wanted is removed, so a directory that was there before the first time has to be empty.
    private func openPlace(
        _ mount: RegistryMount, _ keys: KeyStore
    ) throws(Failure) -> OpenDirectory {
        let top = ["docker"]
        let place = OpenDirectory(try mount.place(domain.path, for: top))
        let there = try place.names(in: [])
        let shown = RawText.shown(mount.path(of: domain.path))
        if let other = there.first(where: { !top.contains($0) }) {
            throw Failure(
                "\(shown) has \(RawText.shown(other)), which would be published too: move it away")
        }
        let hasKey = try key(keys) != nil
        guard there.isEmpty || hasKey else {
            throw Failure(
                "\(shown) is there, and was not made for the key '\(settings.label)': move it away")
        }
        if !hasKey {
            try Failure.naming { () throws(NamingError) in
                try keys.add(PrivateKey(), label: settings.label)
            }
        }
        return place
    }

    /// - Returns: what was done, and what is missing.
    private func make(
        _ mount: RegistryMount, _ keys: KeyStore
    ) throws(Failure) -> (changes: TreeChanges, faults: [String]) {
        let registry = try mount.registry(known)
        let names = try Failure.layout { () throws(LayoutError) in
            try registry.repositories(matching: domain.repositories)
        }
        guard !names.isEmpty else {
            let patterns = domain.repositories.map(\.description).joined(separator: ", ")
            throw Failure(
                "no repository is \(RawText.shown(patterns)): push to \(domain.name)/NAME of your registry, "
                    + "or say which are meant by --repo", kind: .absent)
        }
        var repositories: [RepositoryContents] = []
        for name in names {
            let found = try Failure.layout { () throws(LayoutError) in
                try registry.wholeContents(of: name)
            }
            repositories.append(found)
        }
        let place = try openPlace(mount, keys)
        let changes = try Failure.layout { [repositories] () throws(LayoutError) in
            let tree = try WantedTree.ofDomain(repositories, in: registry)
            let sync = try TreeSync(
                root: place.copy(), from: registry, .links, topNames: ["docker"],
                rank: WantedTree.rankInDomain)
            return try sync.run(tree)
        }
        return (changes, repositories.flatMap(\.faults))
    }

    /// Of the tree as it is; nil for none.
    private func root(_ mount: RegistryMount) throws(Failure) -> CID? {
        try mount.has(domain.path) ? try mount.cid(of: domain.path) : nil
    }

    // MARK: Records

    private func key(_ keys: KeyStore) throws(Failure) -> PrivateKey? {
        try Failure.naming { () throws(NamingError) in try keys.key(labelled: settings.label) }
    }

    /// The domain's key, and what it leads to; nil where there is none.
    private func entry(_ keys: KeyStore) throws(Failure) -> KeyStore.Entry? {
        try Failure.naming { () throws(NamingError) in
            try keys.entries().first { $0.label == settings.label }
        }
    }

    private func publish(
        _ value: ContentPath, _ keys: KeyStore, _ client: KuboClient?, _ changes: TreeChanges
    ) throws(Failure) {
        let (record, failure) = try PublishRun.sign(value, keys, client, settings)
        // A node that does not answer has been told of already.
        let nodes = failure == nil ? client.map(Self.addresses) ?? [] : []
        let report = DomainReport(domain, record, value, nodes: nodes, changes)
        if settings.json {
            try Output.line(try ReportText.json(report))
        } else {
            try Output.line(
                ([report.root, "/ipns/\(report.name)"] + report.dnsRecords).joined(separator: "\n"))
        }
        if let failure { throw failure }
    }

    /// The addresses at which others may reach a node: public ones alone, where it has any, and none of this machine alone. None where the
    /// node does not tell: what was published is published.
    private static func addresses(of client: KuboClient) -> [String] {
        do throws(KuboError) {
            let addresses = try client.addresses().filter { address in
                !["/ip4/127.", "/ip6/::1/", "/ip6/fe80"].contains { address.hasPrefix($0) }
            }
            let publicOnes = addresses.filter { NodeAddress.isAsked($0, isInsecure: false) }
            return Array((publicOnes.isEmpty ? addresses : publicOnes).prefix(addressesMax))
        } catch {
            Program.say("the node does not tell its addresses: \(error)")
            return []
        }
    }
}

/// What `publish --domain --json` prints. The keys are part of the program's interface.
struct DomainReport: Codable, Sendable {
    var domain: String
    /// The CID of the domain's tree.
    var root: String
    /// The IPNS name.
    var name: String
    var sequence: UInt64
    var validUntil: String
    /// The node that took the record; nil for none.
    var kubo: String?
    /// The lines for the zone's file.
    var dnsRecords: [String]
    /// Of the tree's files: those that were made, took the place of others, were removed, and were there already.
    var made: Int
    var replaced: Int
    var removed: Int
    var kept: Int

    init(
        _ domain: DomainSettings, _ record: PublishReport, _ value: ContentPath, nodes: [String],
        _ changes: TreeChanges
    ) {
        self.domain = "\(domain.name)"
        root = value.description.split(separator: "/").last.map(String.init) ?? ""
        name = record.name
        sequence = record.sequence
        validUntil = record.validUntil
        kubo = record.kubo
        let owner = "_dnslink.\(domain.name)"
        let leads = domain.isByKey ? "/ipns/\(record.name)" : value.description
        dnsRecords =
            [ZoneText.record(owner, "dnslink=\(leads)")]
            + nodes.map { ZoneText.record(owner, "ipfsnode=\($0)") }
            + domain.gateways.map { ZoneText.record(owner, "gateway=\($0)") }
        made = changes.made
        replaced = changes.replaced
        removed = changes.removed
        kept = changes.kept
    }
}
