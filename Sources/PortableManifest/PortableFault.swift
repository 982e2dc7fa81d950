internal import Base
package import MerkleDAG
package import Multiformats

/// What is wrong with a block of a portable manifest.
package enum PortableFault: Error, Hashable, Sendable {
    // MARK: Any block

    /// The CID is none that a manifest links to.
    case badCID
    /// The source gave other bytes than the CID asks for.
    case wrongBytes
    case tooLarge(byteCount: Int)
    case cbor(DAGCBORError)
    /// A map has another field than may stand there; nil for none, or for none more.
    case wrongField(found: String?, wanted: String?)
    /// A list has another number of values than it may.
    case wrongCount(of: String, count: Int)

    // MARK: Root

    /// The block is no root of a manifest.
    case notRoot
    /// The root is of a version that is not known here.
    case otherVersion(UInt64)
    /// The link to the tree is not one to a UnixFS directory.
    case badTree(CID)
    case badProfile
    /// The attributes of the tree's root.
    case badRootAttributes(PortableEntryFault)

    // MARK: Directories

    /// Attributes of `common` are out of range, or stand there twice.
    case badCommon(index: Int)
    /// Entries do not use all of `common`.
    case unusedCommon(count: Int)
    /// The name does not come behind the one before it, or is the same.
    case nameOutOfOrder([UInt8])
    case entry([UInt8], PortableEntryFault)
    /// A list of chunks has no such level, or not the one below that of the list that leads to it.
    case wrongLevel(UInt64)
    /// A chunk has nothing, or a list that is the directory has less than two.
    case tooFewChunks
    /// The chunk does not begin with the name that leads to it.
    case wrongFirstName([UInt8])
    case badChunkLink(CID)

    // MARK: Bounds

    case tooManyEntries(limit: Int)
    case tooManyBytes(limit: Int)
    case tooManyDirectories(limit: Int)
    case tooDeep
}

/// What is wrong with one entry.
package enum PortableEntryFault: Error, Hashable, Sendable {
    case badName
    case badMode(UInt64)
    case badOwner
    case badTime(nanoseconds: UInt64)
    /// There is no such element of `common`, or one before it is not used yet.
    case badIndex(UInt64)
    case missingField(String)
    /// Its kind has no such field.
    case misplacedField(String)
    case emptyRest
    case badLink(CID)
    case badDevice
    case badHardLinks
    case badAttributeName([UInt8])
    case attributeOutOfOrder([UInt8])
    case attributeTooLong([UInt8], byteCount: Int)
    /// No block has room for them.
    case attributesTooLong(byteCount: Int)
    /// They have to stand in the entry, or in a block of their own, and do not.
    case attributesMisplaced(byteCount: Int)
    case noAttributes
}

/// Why a manifest cannot be read.
package enum PortableReadError<Failure: Error>: Error {
    /// The source does not give this block.
    case unavailable(CID, Failure)
    /// This block is not what it has to be.
    case damaged(CID, PortableFault)
}

/// Why a manifest cannot be written.
package enum PortableWriteError<Failure: Error>: Error {
    /// What was given is nothing that a manifest can have.
    case refused(PortableFault)
    /// Whoever takes the blocks failed.
    case sink(Failure)
}

extension PortableReadError: CustomStringConvertible {
    /// One line that names the block.
    package var description: String {
        switch self {
        case .unavailable(let cid, let failure):
            "block \(cid) of the portable manifest is not to be had: \(failure)"
        case .damaged(let cid, let fault): "block \(cid) of the portable manifest \(fault)"
        }
    }
}

extension PortableWriteError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .refused(let fault): "the portable manifest cannot be written: it \(fault)"
        case .sink(let failure): "a block of the portable manifest was not taken: \(failure)"
        }
    }
}

/// A name of others, for a message.
private func quoted(_ name: [UInt8]) -> String {
    let most = PortableEntry.nameLengthMax
    return "\"" + oneLine(shown(Array(name.prefix(most))), lengthMax: 4 * most)
        + (name.count > most ? "…\"" : "\"")
}

private func quoted(_ field: String) -> String { "\"\(oneLine(field, lengthMax: 64))\"" }

extension PortableFault: CustomStringConvertible {
    /// What is the matter, as the end of a sentence that begins with the block.
    package var description: String {
        switch self {
        case .badCID: "is not named by a CID of DAG-CBOR and SHA-256"
        case .wrongBytes: "has other bytes than its CID asks for"
        case .tooLarge(let count): "is too large (\(count) bytes)"
        case .cbor(let error): "is not the DAG-CBOR that has to stand there (\(error))"
        case .wrongField(let found?, let wanted?):
            "has a field \(quoted(found)) where \(quoted(wanted)) has to stand"
        case .wrongField(let found?, nil):
            "has a field \(quoted(found)), which there is not in version \(PortableManifest.version)"
        case .wrongField(nil, let wanted): "has no field \(quoted(wanted ?? ""))"
        case .wrongCount(let what, let count): "has \(what) of \(count) values"
        case .notRoot: "is no root of a portable manifest"
        case .otherVersion(let version):
            "is of version \(version), and only \(PortableManifest.version) is known here"
        case .badTree(let cid): "names a tree \(cid), which is no UnixFS directory"
        case .badProfile: "has a profile with a name that no profile has"
        case .badRootAttributes(let fault): "has a root directory that \(fault)"
        case .badCommon(let index): "has a wrong or repeated element \(index) in \"common\""
        case .unusedCommon(let count): "has \(count) elements of \"common\" that no entry uses"
        case .nameOutOfOrder(let name): "has the name \(quoted(name)) out of order or twice"
        case .entry(let name, let fault): "has an entry \(quoted(name)) that \(fault)"
        case .wrongLevel(let level): "is a list of chunks at the wrong level \(level)"
        case .tooFewChunks: "is a chunk with nothing in it, or a list with only one chunk"
        case .wrongFirstName(let name): "is a chunk that does not begin with \(quoted(name))"
        case .badChunkLink(let cid): "links to \(cid) as to a chunk, which it cannot be"
        case .tooManyEntries(let limit): "is a directory of more than \(limit) entries"
        case .tooManyBytes(let limit): "is a directory of more than \(limit) bytes"
        case .tooManyDirectories(let limit): "leads to more than \(limit) directories"
        case .tooDeep: "is a directory more than \(PortableManifest.depthMax) levels deep"
        }
    }
}

extension PortableEntryFault: CustomStringConvertible {
    /// What is the matter, as the end of a sentence that begins with the entry.
    package var description: String {
        switch self {
        case .badName: "has a name that no file can have"
        case .badMode(let mode): "has a mode over 07777 (0\(String(mode, radix: 8)))"
        case .badOwner: "has an owner over 32 bits"
        case .badTime(let count): "has a time with \(count) nanoseconds"
        case .badIndex(let index): "refers to element \(index) of \"common\" out of turn"
        case .missingField(let field): "has no field \(quoted(field))"
        case .misplacedField(let field): "has a field \(quoted(field)), which its kind has not"
        case .emptyRest: "has an empty map"
        case .badLink(let cid): "links to \(cid), which is no DAG-CBOR block with a SHA-256"
        case .badDevice: "has a device number over 32 bits"
        case .badHardLinks: "has a group of hard links or a count of them that is out of range"
        case .badAttributeName(let name):
            "has an extended attribute \(quoted(name)), which is no name of one"
        case .attributeOutOfOrder(let name):
            "has the extended attribute \(quoted(name)) out of order or twice"
        case .attributeTooLong(let name, let count):
            "has an extended attribute \(quoted(name)) of \(count) bytes"
        case .attributesTooLong(let count): "has extended attributes of \(count) bytes together"
        case .attributesMisplaced(let count):
            "has \(count) bytes of extended attributes in the wrong place"
        case .noAttributes: "has a field \"xattrs\" with nothing in it"
        }
    }
}
