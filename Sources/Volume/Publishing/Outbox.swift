internal import Base
internal import DequeModule
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats
internal import Remotes

internal import struct SystemPackage.Errno

// What is sealed and not published is the outbox; it stands in the rows themselves (Schema.swift).
// The objects of it that are known to be new are kept in memory as well, in the order in which they
// were sealed, so that nobody has to look for them.

/// Objects that wait to be sent to the node.
struct Outbox {
    /// In the order in which they were sealed.
    private var waiting = Deque<UInt64>()
    private var members: Set<UInt64> = []
    /// Objects that somebody is sending now.
    private(set) var underWay: Set<UInt64> = []
    /// Where the search for objects of earlier times goes on; nil once they are all in here.
    private(set) var searchedUpTo: UInt64? = 0

    /// The most that waits in memory.
    static let countMax = 65_536

    var hasWaiting: Bool { !waiting.isEmpty }

    mutating func add(_ ids: [UInt64]) {
        for id in ids {
            guard members.count < Self.countMax else {
                // They are in the manifest; the search comes to them later.
                searchedUpTo = 0
                return
            }
            if members.insert(id).inserted { waiting.append(id) }
        }
    }

    mutating func searchAgain() { searchedUpTo = 0 }

    mutating func noteSearched(upTo id: UInt64?) { searchedUpTo = id }

    /// Takes the next objects out, whose sending must be ended by `end`.
    mutating func take(_ countMax: Int) -> [UInt64] {
        var taken: [UInt64] = []
        while taken.count < countMax, let id = waiting.popFirst() {
            members.remove(id)
            if underWay.insert(id).inserted { taken.append(id) }
        }
        return taken
    }

    /// Claims one object; false where somebody is sending it.
    mutating func claim(_ id: UInt64) -> Bool { underWay.insert(id).inserted }

    func isUnderWay(_ id: UInt64) -> Bool { underWay.contains(id) }

    /// Ends what `take` or `claim` began.
    mutating func end(_ ids: some Sequence<UInt64>) { underWay.subtract(ids) }
}

extension Volume {
    func leafCID(_ multihash: [UInt8]) -> CID? {
        guard let multihash = try? Multihash(bytes: multihash) else { return nil }
        return profile.leafCID(multihash)
    }

    func nodeCID(_ multihash: [UInt8]) -> CID? {
        guard let multihash = try? Multihash(bytes: multihash) else { return nil }
        return CID.dagPB(multihash, version: profile.cidVersion)
    }

    /// Adds the objects to the outbox that were sealed since the last time, and those of earlier
    /// times where not all of them are in it.
    func fillOutbox(_ connection: RemoteConnection) throws(Errno) {
        let sealed = manifest.withLock { $0.sealed.takeSealed() }
        var search = connection.outbox.withLock { outbox in
            if let sealed { outbox.add(sealed) } else { outbox.searchAgain() }
            return outbox.hasWaiting ? nil : outbox.searchedUpTo
        }
        if search != nil { try manifest.checkpoint() }
        while let after = search {
            // What SQLite has not been told of yet is among those that were just sealed, or comes
            // next time.
            let ids = try reading { (state) throws(Errno) in
                try state.rows.unpublishedObjects(after: after, limit: Self.searchedAtOnce)
            }
            search = connection.outbox.withLock { outbox in
                outbox.noteSearched(upTo: ids.count < Self.searchedAtOnce ? nil : ids.last)
                outbox.add(ids)
                return ids.isEmpty ? outbox.searchedUpTo : nil
            }
        }
    }

    private static let searchedAtOnce = 4_096

    /// Sends objects of the outbox to the node. Blocks for the node.
    func upload(_ ids: [UInt64], to connection: RemoteConnection) throws(RemoteError) {
        let upload = Upload(self, connection)
        defer { upload.end() }
        try background.run { () throws(RemoteError) in
            for id in ids { try upload.add(object: id) }
            try upload.flush()
        }
    }
}
