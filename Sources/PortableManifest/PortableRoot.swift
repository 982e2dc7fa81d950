internal import MerkleDAG
package import Multiformats

/// The block that a manifest is named by: it links to the UnixFS tree and to what that cannot say, so that
/// a pin of it keeps both.
///
/// Nothing in it tells when or where it was made: the same tree has the same CID.
package struct PortableRoot: Hashable, Sendable {
    /// The UnixFS tree, a directory.
    package var tree: CID
    /// The name of the import profile that the tree was made with, as `ImportProfile.name` gives it: 1 to 64 of
    /// a-z, 0-9 and "-". Whether it is a known one is not looked at here.
    package var profile: String
    /// The block of the root directory's entries.
    package var directory: CID
    /// Those of the root directory itself.
    package var attributes: PortableAttributes
    /// As of an entry.
    package var extendedAttributes: [PortableExtendedAttribute]

    package init(
        tree: CID, profile: String, directory: CID, attributes: PortableAttributes,
        extendedAttributes: [PortableExtendedAttribute] = []
    ) {
        self.tree = tree
        self.profile = profile
        self.directory = directory
        self.attributes = attributes
        self.extendedAttributes = extendedAttributes
    }

    private static let marker = "portable-manifest"

    /// Whether a DAG-CBOR block says that it is the root of a manifest, of whatever version.
    package static func isRoot(_ block: [UInt8]) -> Bool { version(of: block) != nil }

    private static func version(of block: [UInt8]) -> UInt64? {
        guard block.count <= PortableManifest.rootSizeMax,
            case .unsigned(let version)? = (try? DAGCBOR(decoding: block))?[marker]
        else { return nil }
        return version
    }

    // MARK: Writing

    /// Writes the root.
    ///
    /// - Parameter emit: gets the block of large extended attributes, and then the root's.
    /// - Returns: the CID of the manifest.
    /// - Throws: `refused` for what a manifest cannot have.
    package func write<Failure: Error>(
        emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(PortableWriteError<Failure>) -> CID {
        let encodedAttributes: EncodedAttributes
        do throws(PortableEntryFault) {
            encodedAttributes = try EncodedAttributes(extendedAttributes)
        } catch {
            throw .refused(.badRootAttributes(error))
        }
        if let fault { throw .refused(fault) }
        let block = encoded(encodedAttributes)
        let cid = PortableManifest.cid(of: block)
        do throws(Failure) {
            if case .apart(let cid, let block) = encodedAttributes { try emit(cid, block) }
            try emit(cid, block)
        } catch {
            throw .sink(error)
        }
        return cid
    }

    private func encoded(_ encodedAttributes: EncodedAttributes) -> [UInt8] {
        var writer = DAGCBORWriter()
        writer.appendMapHead(count: encodedAttributes.isNone ? 5 : 6)
        writer.append(text: "tree")
        writer.append(tree)
        if !encodedAttributes.isNone {
            writer.append(text: "xattrs")
            writer.append(encodedAttributes)
        }
        writer.append(text: "profile")
        writer.append(text: profile)
        writer.append(text: "directory")
        writer.append(directory)
        writer.append(text: "attributes")
        writer.appendListHead(count: 5)
        writer.append(UInt64(attributes.mode))
        writer.append(UInt64(attributes.uid))
        writer.append(UInt64(attributes.gid))
        writer.append(attributes.seconds)
        writer.append(UInt64(attributes.nanoseconds))
        writer.append(text: Self.marker)
        writer.append(PortableManifest.version)
        return writer.bytes
    }

    // MARK: Reading

    /// Reads a root. Asks for its block, and for that of large extended attributes.
    ///
    /// - Throws: `damaged` with `notRoot` or `otherVersion`, among others.
    package static func read<Failure: Error>(
        _ cid: CID, get: (CID) throws(Failure) -> [UInt8]
    ) throws(PortableReadError<Failure>) -> PortableRoot {
        let bytes = try verifiedBlock(cid, sizeMax: PortableManifest.rootSizeMax, get)
        var root: PortableRoot
        let attributes: ExtendedAttributeSet
        do throws(PortableFault) {
            guard let version = version(of: bytes) else { throw .notRoot }
            guard version == PortableManifest.version else { throw .otherVersion(version) }
            (root, attributes) = try bytes.withRawBytes { (raw) throws(PortableFault) in
                try decoded(raw)
            }
        } catch {
            throw .damaged(cid, error)
        }
        switch attributes {
        case .inline(let values): root.extendedAttributes = values
        case .apart(let link):
            let block = try verifiedBlock(link, sizeMax: PortableManifest.blockSizeMax, get)
            do throws(PortableFault) {
                root.extendedAttributes = try ExtendedAttributeSet.decoded(block) {
                    .badRootAttributes($0)
                }
            } catch {
                throw .damaged(link, error)
            }
        }
        return root
    }

    private static func decoded(
        _ raw: UnsafeRawBufferPointer
    ) throws(PortableFault) -> (PortableRoot, ExtendedAttributeSet) {
        var reader = FieldReader(raw)
        var keys = try reader.map()
        try reader.key(&keys, wanted: "tree")
        let tree = try reader.link()
        var attributeSet = ExtendedAttributeSet.none
        // With them there are six fields.
        if keys.left > 4 {
            try reader.key(&keys, wanted: "xattrs")
            attributeSet = try ExtendedAttributeSet(&reader) { .badRootAttributes($0) }
        }
        try reader.key(&keys, wanted: "profile")
        let profile = try reader.text()
        try reader.key(&keys, wanted: "directory")
        let directory = try reader.link()
        try reader.key(&keys, wanted: "attributes")
        let attributes = try readAttributes(&reader)
        try reader.key(&keys, wanted: marker)
        _ = try reader.unsigned()
        try reader.key(&keys, wanted: nil)
        try reader.finish()
        let root = PortableRoot(
            tree: tree, profile: profile, directory: directory, attributes: attributes)
        if let fault = root.fault { throw fault }
        return (root, attributeSet)
    }

    private static func readAttributes(
        _ reader: inout FieldReader
    ) throws(PortableFault) -> PortableAttributes {
        _ = try reader.list(of: "attributes", count: 5...5)
        let mode = try reader.unsigned()
        let uid = try reader.unsigned()
        let gid = try reader.unsigned()
        let seconds = try reader.integer()
        let nanoseconds = try reader.unsigned()
        guard let shortMode = UInt32(exactly: mode) else {
            throw .badRootAttributes(.badMode(mode))
        }
        guard let uid = UInt32(exactly: uid), let gid = UInt32(exactly: gid) else {
            throw .badRootAttributes(.badOwner)
        }
        guard let shortTime = UInt32(exactly: nanoseconds) else {
            throw .badRootAttributes(.badTime(nanoseconds: nanoseconds))
        }
        return PortableAttributes(
            mode: shortMode, uid: uid, gid: gid, seconds: seconds, nanoseconds: shortTime)
    }

    /// What may not be so. Looked at when the root is written, and again when it was read.
    private var fault: PortableFault? {
        guard tree.codec == .dagPB else { return .badTree(tree) }
        guard PortableManifest.canBe(directory) else {
            return .badRootAttributes(.badLink(directory))
        }
        let isProfile =
            (1...64).contains(profile.utf8.count)
            && profile.utf8.allSatisfy { byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                    || byte == UInt8(ascii: "-")
            }
        guard isProfile else { return .badProfile }
        return attributes.fault.map { .badRootAttributes($0) }
    }
}
