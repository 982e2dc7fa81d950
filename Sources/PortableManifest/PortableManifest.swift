// The portable manifest: what UnixFS cannot say of a tree, as DAG-CBOR blocks along its directories.
//
// Layout:   every block is DAG-CBOR, its CID version 1, dag-cbor, SHA-256. Links are such CIDs, but for `tree`.
//           root        {"tree": link, "xattrs"?: xattrs, "profile": text, "directory": link,
//                        "attributes": [mode, uid, gid, seconds, nanoseconds], "portable-manifest": 1}
//           directory   {"common": [[kind, mode, uid, gid]…], "entries": [entry…]}, or a list of chunks
//           entry       [name, index of `common`, seconds, nanoseconds, rest?]
//           rest        {"dir"?: link, "rdev"?: [major, minor], "links"?: [group, count], "xattrs"?: xattrs}
//           xattrs      [[name, value]…], or a link to a block that is such a list
//           chunks      {"level": 1 or more, "chunks": [[first name, link]…]}
// Validity: no other fields; names in byte order, none twice; every field in the range that
//           `PortableEntry.fault` asks for; `common` without repetition, in the order of first use; a set of
//           extended attributes in a block of its own where it is longer than `inlineAttributesMax`, and
//           only there; a chunk begins with the name that leads to it, has entries, and is one level lower.
//           Where a directory is cut into chunks is the writer's affair (ChunkBuffer.swift).
// Recovery: none: a block that is not so is an error that names it.
// Source:   docs/FORMATS.md "The portable manifest"

package import Multiformats

/// What holds for all blocks of a portable manifest.
package enum PortableManifest {
    /// The version that is written, and the only one that is read. Any field that this version does not
    /// have is refused: one that was passed over would be lost when the tree is written again, and may
    /// be one that keeps somebody out.
    package static let version: UInt64 = 1
    /// The largest block, in bytes. A writer's are below 608 KiB, but for extended attributes.
    package static let blockSizeMax = 1 << 20
    /// The largest root block, in bytes.
    package static let rootSizeMax = 64 << 10
    /// The longest set of extended attributes that stands in its entry, in encoded bytes.
    package static let inlineAttributesMax = 4_096
    /// The highest level of a list of chunks. Each has 100 chunks or so at least, but for the last.
    package static let levelMax = 8
    /// How many directories may stand in each other. A path of more names cannot be said in one call
    /// (PATH_MAX of linux/limits.h).
    package static let depthMax = 4_096

    /// The CID of a block.
    static func cid(of block: [UInt8]) -> CID {
        CID(codec: .dagCBOR, multihash: .sha256(of: block))
    }

    /// Whether a CID can be that of a block of a manifest. What it leads to may be another thing still.
    package static func canBe(_ cid: CID) -> Bool {
        cid.version == 1 && cid.codec == .dagCBOR && cid.multihash.isSHA256
    }
}

/// What it may take to read a directory, or a whole manifest. Whoever wrote it decides how large it is.
package struct PortableReadBounds: Hashable, Sendable {
    /// Entries of one directory.
    package var entryCountMax = 1 << 22
    /// Bytes of the blocks of one directory, extended attributes among them.
    package var byteCountMax = 256 << 20
    /// Directories of a manifest that are not the same; about 100 bytes of memory each.
    package var directoryCountMax = 1 << 22

    package init() {}
}

extension PortableManifest {
    /// What a manifest has.
    package struct Totals: Hashable, Sendable {
        /// Directories that are not the same, the root among them.
        package var directoryCount = 0
        /// Entries of those.
        package var entryCount = 0

        package init(directoryCount: Int = 0, entryCount: Int = 0) {
            self.directoryCount = directoryCount
            self.entryCount = entryCount
        }
    }

    /// Reads a manifest to its end, and checks that all of it is one.
    ///
    /// Looks at each directory once, however many links lead to it. Blocks for as long as `get` does.
    ///
    /// - Parameter get: gives a block; so it meets all of them, a block of extended attributes as often as
    ///   entries have it. The UnixFS tree is not asked for.
    /// - Throws: as `PortableDirectoryReader.next`; `tooDeep` where directories stand deeper in each other
    ///   than `depthMax`.
    package static func verify<Failure: Error>(
        _ cid: CID, bounds: PortableReadBounds = PortableReadBounds(),
        get: (CID) throws(Failure) -> [UInt8]
    ) throws(PortableReadError<Failure>) -> (root: PortableRoot, totals: Totals) {
        let root = try PortableRoot.read(cid, get: get)
        var totals = Totals()
        var seen: Set<CID> = [root.directory]
        var pending = [(cid: root.directory, depth: 1)]
        while let (directory, depth) = pending.popLast() {
            totals.directoryCount += 1
            var reader = PortableDirectoryReader(directory, bounds: bounds)
            while let entry = try reader.next(get) {
                totals.entryCount += 1
                guard let child = entry.directory, seen.insert(child).inserted else { continue }
                guard depth < depthMax else { throw .damaged(child, .tooDeep) }
                guard seen.count <= bounds.directoryCountMax else {
                    throw .damaged(cid, .tooManyDirectories(limit: bounds.directoryCountMax))
                }
                pending.append((child, depth + 1))
            }
        }
        return (root, totals)
    }
}
