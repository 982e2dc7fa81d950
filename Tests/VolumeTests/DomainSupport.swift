import Base
import Foundation
import MerkleDAG
import Multiformats
import Remotes
import Synchronization
import Testing
import Volume

import struct SystemPackage.Errno

/// Who knows some domains; counts what it was asked for.
final class DomainTable: DomainDirectory {
    private struct State {
        var roots: [String: DomainRoot] = [:]
        var errors: [String: DomainError] = [:]
        var silent: Set<String> = []
        var asked: [String] = []
    }

    private let state = Monitor(State())

    func covers(_ domain: String) -> Bool { domain.hasSuffix(".example") }

    func resolve(
        _ domain: String, deadline: Int64, cancellation: Cancellation
    ) throws(DomainError) -> DomainRoot {
        state.withLock { $0.asked.append(domain) }
        while state.withLock({ $0.silent.contains(domain) }) {
            guard MonotonicClock.milliseconds < deadline, !cancellation.isCancelled else {
                throw DomainError(.failed, "the server of \(domain) never answers")
            }
            Threads.sleep(milliseconds: 5)
        }
        let (root, error) = state.withLock { ($0.roots[domain], $0.errors[domain]) }
        if let error { throw error }
        guard let root else { throw DomainError(.absent, "there is no \(domain)") }
        return root
    }

    func set(_ domain: String, _ cid: CID?, path: [[UInt8]] = [], lifetime: Double? = nil) {
        state.withLock { state in
            state.roots[domain] = cid.map {
                DomainRoot(cid: $0, path: path, lifetimeSeconds: lifetime, steps: ["TXT"])
            }
        }
    }

    func fail(_ domain: String, _ error: DomainError?) {
        state.withLock { $0.errors[domain] = error }
    }

    func silence(_ domain: String, _ isSilent: Bool) {
        state.withLock { state in
            if isSilent {
                state.silent.insert(domain)
            } else {
                state.silent.remove(domain)
            }
        }
    }

    func count(_ domain: String) -> Int {
        state.withLock { state in state.asked.count { $0 == domain } }
    }
}

/// Blocks of others, which are counted, and can go away.
final class CountedBlocks: RemoteBlocks {
    private struct State {
        var blocks: [CID: [UInt8]] = [:]
        var sources: [any RemoteBlocks] = []
        var asked: [CID] = []
        var isAway = false
    }

    /// Requests that are held back until no further one comes: those that did not wait for each other.
    private struct Rounds {
        var isCounting = false
        var count = 0
        var held = 0
        var latest: Int64 = 0
    }

    private let state = Monitor(State())
    private let rounds = Monitor(Rounds())
    /// How long no request comes at the end of a round, in milliseconds: one that does not wait for an answer of this
    /// round has come by then, on a busy machine too.
    private static let quietMilliseconds: Int64 = 500

    var address: String { "the blocks" }

    /// Runs a body, and counts how many requests one after the other it takes: of those that are on their way together, one.
    func rounds(of body: () throws -> Void) throws -> Int {
        rounds.withLock { $0 = Rounds(isCounting: true) }
        let thread = try Threads.start(name: "rounds") { [self] in
            var isCounting = true
            while isCounting {
                Threads.sleep(milliseconds: 20)
                isCounting = rounds.withLock { rounds in
                    let isQuiet =
                        MonotonicClock.milliseconds - rounds.latest > Self.quietMilliseconds
                    if rounds.held > 0, isQuiet {
                        rounds.count += 1
                        rounds.held = 0
                    }
                    return rounds.isCounting
                }
                rounds.wakeAll()
            }
        }
        defer {
            rounds.withLock { $0.isCounting = false }
            thread.join()
        }
        try body()
        return rounds.withLock { $0.count }
    }

    private func waitForRound() {
        rounds.withLock { rounds in
            guard rounds.isCounting else { return }
            let round = rounds.count
            rounds.held += 1
            rounds.latest = MonotonicClock.milliseconds
            while rounds.isCounting, rounds.count == round {
                self.rounds.wait(&rounds, milliseconds: 100)
            }
        }
    }

    func add(_ blocks: [CID: [UInt8]]) {
        state.withLock { $0.blocks.merge(blocks) { old, _ in old } }
    }

    func add(_ source: any RemoteBlocks) { state.withLock { $0.sources.append(source) } }

    func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
        waitForRound()
        let (known, sources) = state.withLock { state in
            state.asked.append(request.cid)
            return state.isAway ? (nil, []) : (state.blocks[request.cid], state.sources)
        }
        if let known { return known }
        for source in sources {
            if let found = try? source.block(request, memory: memory) { return found }
        }
        throw RemoteError(.notFound, "\(address): there is no block \(request.cid)")
    }

    func goAway(_ isAway: Bool = true) { state.withLock { $0.isAway = isAway } }

    /// What was asked for since the last call.
    func takeAsked() -> [CID] {
        state.withLock { state in
            defer { state.asked = [] }
            return state.asked
        }
    }
}

/// The SHA-256 of some bytes in hexadecimal digits.
func sha256Digits(_ bytes: [UInt8]) -> String {
    Multihash.sha256(of: bytes).digest.map { byte in
        let digits = String(byte, radix: 16)
        return digits.count == 1 ? "0" + digits : digits
    }.joined()
}

extension Volume {
    /// Makes directories down a path where they are missing.
    @discardableResult
    func makePath(_ path: String, from top: Inode = .root) throws -> Inode {
        try path.split(separator: "/").reduce(top) { inode, name in
            do throws(Errno) {
                let found = try lookup(FileName("\(name)"), in: inode)
                forget(found.inode, count: 1)
                return found.inode
            } catch {
                guard error == .noSuchFileOrDirectory else { throw error }
                return try makeDirectory(FileName("\(name)"), in: inode)
            }
        }
    }

    /// Writes a file as the stock registry does: a new one in place of one that is there.
    func putFile(_ path: String, _ bytes: [UInt8]) throws {
        let names = path.split(separator: "/")
        let parent = try makePath(names.dropLast().joined(separator: "/"))
        let name = FileName("\(names[names.count - 1])")
        let old = try entries(of: parent).contains { $0.name == name }
        if old { try unlink(name, in: parent) }
        try makeFile(name, in: parent, bytes)
    }

    /// Removes a directory with all that is in it.
    func removeAll(_ name: FileName, in parent: Inode) throws {
        let top = try lookup(name, in: parent).inode
        forget(top, count: 1)
        for entry in try entries(of: top) {
            if entry.kind == .directory {
                try removeAll(entry.name, in: top)
            } else {
                try unlink(entry.name, in: top)
            }
        }
        try removeDirectory(name, in: parent)
    }

    /// Puts a manifest with a layer into a repository, as a push does.
    func push(
        _ repository: String, _ tag: String, manifest: [UInt8], layer: [UInt8] = [],
        at top: String = "docker/registry/v2"
    ) throws {
        for blob in [manifest, layer] {
            let digits = sha256Digits(blob)
            try putFile("\(top)/blobs/sha256/\(digits.prefix(2))/\(digits)/data", blob)
        }
        let here = "\(top)/repositories/\(repository)"
        let digits = sha256Digits(manifest)
        let link = Array("sha256:\(digits)".utf8)
        try putFile(
            "\(here)/_layers/sha256/\(sha256Digits(layer))/link",
            Array("sha256:\(sha256Digits(layer))".utf8))
        try putFile("\(here)/_manifests/revisions/sha256/\(digits)/link", link)
        try putFile("\(here)/_manifests/tags/\(tag)/index/sha256/\(digits)/link", link)
        try putFile("\(here)/_manifests/tags/\(tag)/current/link", link)
    }

    /// The inode of a path, found as the kernel does, a name after the other.
    func walk(_ path: String) throws(Errno) -> Inode {
        var inode = Inode.root
        for name in path.split(separator: "/") {
            let next = try lookup(FileName("\(name)"), in: inode).inode
            forget(next, count: 1)
            inode = next
        }
        return inode
    }

    /// The manifest of a tag, found as the stock registry does.
    func pulled(_ repository: String, _ tag: String) throws -> [UInt8] {
        let link = try contents(
            of: walk(
                "docker/registry/v2/repositories/\(repository)/_manifests/tags/\(tag)/current/link")
        )
        let digits = String(decoding: link, as: UTF8.self).dropFirst("sha256:".count)
        return try blob("\(digits)")
    }

    func blob(_ digits: String) throws(Errno) -> [UInt8] {
        try contents(
            of: walk("docker/registry/v2/blobs/sha256/\(digits.prefix(2))/\(digits)/data"))
    }
}

/// A registry's volume that others pull from, and one that pulls.
final class DomainStand {
    let table = DomainTable()
    let blocks = CountedBlocks()
    let directory = ScratchDirectory()
    var options = VolumeOptions()
    private(set) var volume: Volume

    init(_ change: (inout DomainOptions) -> Void = { _ in }) throws {
        var domains = DomainOptions(table)
        domains.lookupMilliseconds = 60_000
        domains.lifetimeSeconds = 3_600...3_600
        change(&domains)
        options.sealDelayMilliseconds = 10
        options.commitIntervalMilliseconds = 50
        options.domains = domains
        options.sources = FetchOptions(blocks)
        volume = try openVolume(directory, options)
    }

    deinit { try? volume.close() }

    func reopen(_ change: (inout VolumeOptions) -> Void = { _ in }) throws {
        try volume.close()
        var options = options
        change(&options)
        volume = try openVolume(directory, options)
    }

    /// Has a domain lead to the tree of a registry as it is now, whose blocks the registry keeps.
    func publish(_ domain: String, _ registry: OtherVolume) throws {
        let name = "published-\(registry.volume.snapshots().count)"
        table.set(domain, try registry.volume.createSnapshot(named: name).root)
    }

    func registry(_ fill: (Volume) throws -> Void = { _ in }) throws -> OtherVolume {
        let made = try OtherVolume(fill)
        blocks.add(made)
        return made
    }

    /// Directories and raw files from a list of paths; its root.
    func tree(_ files: [String: CID], sizes: [CID: UInt64] = [:]) throws -> CID {
        var made: [CID: [UInt8]] = [:]
        let root = try Self.build(files, sizes) { made[$0] = $1 }
        blocks.add(made)
        return root.cid
    }

    private static func build(
        _ files: [String: CID], _ sizes: [CID: UInt64], _ emit: (CID, [UInt8]) -> Void
    ) throws -> (cid: CID, treeSize: UInt64) {
        var builder = DirectoryBuilder(profile: .unixfsV1_2025)
        var below: [String: [String: CID]] = [:]
        for (path, cid) in files {
            let parts = path.split(separator: "/", maxSplits: 1)
            if parts.count == 1 {
                builder.add(name: Array(path.utf8), cid: cid, treeSize: sizes[cid] ?? 1)
            } else {
                below["\(parts[0])", default: [:]]["\(parts[1])"] = cid
            }
        }
        for (name, files) in below {
            let (cid, size) = try build(files, sizes, emit)
            builder.add(name: Array(name.utf8), cid: cid, treeSize: size)
        }
        let root = try builder.finish { cid, block in emit(cid, block) }
        return (root.cid, root.treeSize)
    }
}
