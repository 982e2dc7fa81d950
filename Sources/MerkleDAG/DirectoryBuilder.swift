// Directories from the list of their entries.
//
// A directory is one DAG node with a link for each entry, or, beyond a threshold, sharded (HAMT.swift).
// The threshold and the history of a directory are not stored in the DAG; deciding anew from the
// whole list ("estimated size > threshold") makes the CID a function of the entries alone.

public import Multiformats

/// Why a directory cannot be built.
public enum DirectoryBuildError<SinkFailure: Error>: Error {
    /// An entry has no name.
    case emptyName
    /// Two entries have this name.
    case duplicateName([UInt8])
    /// The names do not fit the address space of the builder (4 GiB together).
    case namesTooLong
    /// The block would be larger than `DAGNode.blockSizeMax`; only without a threshold, or with
    /// names of more than a kilobyte.
    case blockTooLarge(byteCount: Int)
    /// The hashes of two names are equal in all 64 bits, so no shard tells them apart.
    case hashCollision([UInt8], [UInt8])
    /// Whoever takes the blocks failed.
    case sink(SinkFailure)
}

/// Builds a directory from its entries, which come in any order.
///
/// Keeps about 64 bytes and the name of each entry in memory until `finish`.
public struct DirectoryBuilder: Sendable {
    private struct Entry {
        var cid: CID
        var treeSize: UInt64
        var nameOffset: UInt32
        var nameLength: UInt32

        var nameRange: Range<Int> { Int(nameOffset)..<Int(nameOffset) + Int(nameLength) }
    }

    private let profile: ImportProfile
    private let metadata: UnixFSMetadata
    private var entries: ContiguousArray<Entry> = []
    private var names: [UInt8] = []
    /// By the profile's way of estimating.
    private var estimatedSize: Int
    private var areNamesTooLong = false

    /// Begins a directory.
    ///
    /// - Parameters:
    ///   - metadata: attributes for the root DAG node.
    ///   - entryCountHint: how many entries to expect; saves copying while they come in.
    public init(
        profile: ImportProfile, metadata: UnixFSMetadata = .none, entryCountHint: Int = 0
    ) {
        self.profile = profile
        self.metadata = metadata
        entries.reserveCapacity(entryCountHint)
        switch profile.directoryEstimation {
        case .block:
            // The DAG node without a link: its data field with `08 01` and the attributes.
            estimatedSize = bytesFieldLength(2 + metadata.encodedLength)
        case .links, .disabled:
            estimatedSize = 0
        }
    }

    /// The entries so far.
    public var count: Int { entries.count }

    /// Adds an entry.
    ///
    /// Any bytes are a name here, except none at all; what a file system allows is for the caller
    /// to check. Errors are reported by `finish`.
    ///
    /// - Parameter treeSize: the Tsize of what the entry leads to.
    public mutating func add(name: UnsafeRawBufferPointer, cid: CID, treeSize: UInt64) {
        guard let offset = UInt32(exactly: names.count), let length = UInt32(exactly: name.count),
            !areNamesTooLong
        else {
            areNamesTooLong = true
            return
        }
        names.append(contentsOf: name)
        entries.append(
            Entry(cid: cid, treeSize: treeSize, nameOffset: offset, nameLength: length))
        switch profile.directoryEstimation {
        case .links:
            estimatedSize += name.count + cid.byteCount
        case .block:
            estimatedSize += DAGLink.encodedLength(
                cidLength: cid.byteCount, nameLength: name.count, treeSize: treeSize)
        case .disabled:
            break
        }
    }

    /// Adds an entry.
    public mutating func add(name: [UInt8], cid: CID, treeSize: UInt64) {
        name.withUnsafeBytes { add(name: $0, cid: cid, treeSize: treeSize) }
    }

    /// Whether the entries so far are more than one DAG node may hold by the profile.
    public var isSharded: Bool {
        guard !entries.isEmpty else { return false }
        if profile.directoryLinksMax > 0, entries.count > profile.directoryLinksMax { return true }
        return profile.directoryEstimation != .disabled
            && estimatedSize > profile.directoryThreshold
    }

    /// Ends the directory and gives its root. The builder is used up.
    ///
    /// - Parameter emit: gets each block, children first.
    public mutating func finish<Failure: Error>(
        emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(DirectoryBuildError<Failure>) -> DAGRoot {
        guard !areNamesTooLong else { throw .namesTooLong }
        guard entries.allSatisfy({ $0.nameLength > 0 }) else { throw .emptyName }
        let isSharded = isSharded
        // Taken out of self, so that sorting does not copy them.
        var entries = entries
        let names = names
        self.entries = []
        self.names = []
        return isSharded
            ? try finishSharded(entries, names: names, emit: emit)
            : try finishBasic(&entries, names: names, emit: emit)
    }

    // MARK: One DAG node

    private func finishBasic<Failure: Error>(
        _ entries: inout ContiguousArray<Entry>, names: [UInt8],
        emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(DirectoryBuildError<Failure>) -> DAGRoot {
        entries.sort { left, right in
            names[left.nameRange].lexicographicallyPrecedes(names[right.nameRange])
        }
        for (left, right) in zip(entries, entries.dropFirst())
        where names[left.nameRange] == names[right.nameRange] {
            throw .duplicateName(Array(names[left.nameRange]))
        }
        var writer = DAGNodeWriter()
        for entry in entries {
            writer.appendLink(
                entry.cid, nameCount: Int(entry.nameLength), treeSize: entry.treeSize
            ) { $0.append(contentsOf: names[entry.nameRange]) }
        }
        let message = UnixFSData(kind: .directory, metadata: metadata).encoded()
        return try Self.emitNode(&writer, message, profile: profile, emit: emit)
    }

    private static func emitNode<Failure: Error>(
        _ writer: inout DAGNodeWriter, _ message: [UInt8], profile: ImportProfile,
        emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(DirectoryBuildError<Failure>) -> DAGRoot {
        let block = writer.finish(data: message)
        guard block.count <= DAGNode.blockSizeMax else {
            throw .blockTooLarge(byteCount: block.count)
        }
        let cid = profile.nodeCID(.sha256(of: block))
        do throws(Failure) {
            try emit(cid, block)
        } catch {
            throw .sink(error)
        }
        return DAGRoot(cid: cid, fileSize: 0, treeSize: writer.treeSize(of: block))
    }

    // MARK: Shards

    /// An entry's hash, and where the entry is.
    private struct Hashed {
        var hash: UInt64
        var index: Int32
    }

    private func finishSharded<Failure: Error>(
        _ entries: ContiguousArray<Entry>, names: [UInt8],
        emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(DirectoryBuildError<Failure>) -> DAGRoot {
        // Sorted by hash, every shard is a range of the entries.
        var order = ContiguousArray<Hashed>()
        order.reserveCapacity(entries.count)
        names.withUnsafeBytes { names in
            for (index, entry) in entries.enumerated() {
                let name = UnsafeRawBufferPointer(rebasing: names[entry.nameRange])
                order.append(Hashed(hash: Murmur3.hash64(name), index: Int32(index)))
            }
        }
        order.sort { $0.hash < $1.hash }
        for (left, right) in zip(order, order.dropFirst()) where left.hash == right.hash {
            let name = names[entries[Int(left.index)].nameRange]
            let other = names[entries[Int(right.index)].nameRange]
            throw name == other
                ? .duplicateName(Array(name)) : .hashCollision(Array(name), Array(other))
        }
        let source = ShardSource(entries: entries, names: names, order: order)
        return try emitShard(
            source, range: 0..<order.count, depth: 0, shape: HAMTShape(fanout: profile.hamtFanout),
            emit: emit)
    }

    private struct ShardSource {
        let entries: ContiguousArray<Entry>
        let names: [UInt8]
        let order: ContiguousArray<Hashed>
    }

    /// Emits the shard that holds a range of the ordered entries, which all have the same bits
    /// above `depth`.
    private func emitShard<Failure: Error>(
        _ source: ShardSource, range: Range<Int>, depth: Int, shape: HAMTShape,
        emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(DirectoryBuildError<Failure>) -> DAGRoot {
        guard depth < shape.depthMax else {
            // All whole levels are used up: the hashes differ only in bits that no level takes.
            let first = source.entries[Int(source.order[range.lowerBound].index)]
            let second = source.entries[Int(source.order[range.lowerBound + 1].index)]
            throw .hashCollision(
                Array(source.names[first.nameRange]), Array(source.names[second.nameRange]))
        }
        var writer = DAGNodeWriter()
        var bitfield = HAMTBitfield(fanout: shape.fanout)
        var start = range.lowerBound
        while start < range.upperBound {
            let bucket = shape.bucket(of: source.order[start].hash, depth: depth)
            var end = start + 1
            while end < range.upperBound,
                shape.bucket(of: source.order[end].hash, depth: depth) == bucket
            {
                end += 1
            }
            bitfield.insert(bucket)
            if end - start == 1 {
                let entry = source.entries[Int(source.order[start].index)]
                writer.appendLink(
                    entry.cid, nameCount: shape.prefixLength + Int(entry.nameLength),
                    treeSize: entry.treeSize
                ) {
                    shape.appendPrefix(of: bucket, to: &$0)
                    $0.append(contentsOf: source.names[entry.nameRange])
                }
            } else {
                let child = try emitShard(
                    source, range: start..<end, depth: depth + 1, shape: shape, emit: emit)
                writer.appendLink(
                    child.cid, nameCount: shape.prefixLength, treeSize: child.treeSize
                ) { shape.appendPrefix(of: bucket, to: &$0) }
            }
            start = end
        }
        let message = UnixFSData(
            kind: .hamtShard, data: bitfield.bytes,
            hashType: Multicodec.murmur3X64_64.rawValue, fanout: UInt64(shape.fanout),
            metadata: depth == 0 ? metadata : .none)
        return try Self.emitNode(&writer, message.encoded(), profile: profile, emit: emit)
    }
}
