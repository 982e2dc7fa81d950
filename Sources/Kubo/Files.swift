public import Base
public import Multiformats
public import Remotes

/// One entry of a directory in a node's MFS.
public struct MFSEntry: Sendable, Hashable {
    /// The name. The node gives U+FFFD for bytes that are not UTF-8, so a name that has that
    /// character may not be the true one; the directory's own block has it.
    public var name: String
    public var kind: MFSStatus.Kind
    public var size: UInt64
    public var cid: CID

    public init(name: String, kind: MFSStatus.Kind, size: UInt64, cid: CID) {
        self.name = name
        self.kind = kind
        self.size = size
        self.cid = cid
    }
}

extension KuboClient {
    /// Says what stands at an MFS path, or at `/ipfs/CID…`; nil for nothing. Tried again.
    public func filesStat(
        _ path: MFSPath, cancellation: Cancellation? = nil
    ) throws(KuboError) -> MFSStatus? {
        var call = Call("files/stat", .harmless, subject: "\(path)")
        call.add(argument: path)
        call.cancellation = cancellation
        do throws(KuboError) {
            let reply = try call.decode(StatReply.self, from: perform(call))
            guard let kind = MFSStatus.Kind(rawValue: reply.Kind) else {
                throw call.error(.protocolViolation, "the reply has an unknown type")
            }
            return MFSStatus(
                cid: try call.cid(reply.Hash), kind: kind, size: reply.Size,
                cumulativeSize: reply.CumulativeSize)
        } catch {
            guard error.kind == .notFound else { throw error }
            return nil
        }
    }

    /// Makes a directory. Tried again if `parents`, for then a directory that is there
    /// already is as good.
    ///
    /// - Parameter flush: as for all calls that change MFS: whether the change and those before
    ///   it are on the node's disk when the call returns. A node takes 256 changes without that.
    /// - Throws: `conflict` for a name that exists, `notFound` without its parent.
    public func filesMakeDirectory(
        _ path: MFSPath, parents: Bool = false, flush: Bool = true,
        cancellation: Cancellation? = nil
    ) throws(KuboError) {
        var call = Call(
            "files/mkdir", parents ? .harmless : .onlyUnsent, subject: "\(path)")
        call.add(argument: path)
        if parents { call.add("parents", true) }
        try change(&call, flush, cancellation)
    }

    /// Puts a DAG, or what stands at another path, to an MFS path; only its root block is read.
    /// Not tried again.
    ///
    /// - Parameters:
    ///   - source: `/ipfs/CID` or an MFS path.
    ///   - force: a file at the destination is replaced; a directory never is.
    /// - Throws: `conflict` for a name that exists, `notFound` without the source or the parent.
    public func filesCopy(
        from source: MFSPath, to destination: MFSPath, parents: Bool = false,
        force: Bool = false, flush: Bool = true, isOffline: Bool = false,
        cancellation: Cancellation? = nil
    ) throws(KuboError) {
        var call = Call("files/cp", .onlyUnsent, subject: "\(destination)")
        call.add(argument: source)
        call.add(argument: destination)
        if parents { call.add("parents", true) }
        if force { call.add("force", true) }
        if isOffline { call.add("offline", true) }
        try change(&call, flush, cancellation)
    }

    /// Removes what stands at a path, and flushes. Not tried again.
    ///
    /// - Parameters:
    ///   - isRecursive: directories too.
    ///   - force: nothing there is no error; takes directories too, as the node does.
    /// - Throws: `notFound` for nothing there, `conflict` for a directory.
    public func filesRemove(
        _ path: MFSPath, isRecursive: Bool = false, force: Bool = false,
        cancellation: Cancellation? = nil
    ) throws(KuboError) {
        var call = Call("files/rm", .onlyUnsent, subject: "\(path)")
        call.add(argument: path)
        if isRecursive { call.add("recursive", true) }
        if force { call.add("force", true) }
        call.isLongWork = true
        call.cancellation = cancellation
        _ = try perform(call)
    }

    /// Moves what stands at one path to another. Not tried again.
    ///
    /// The node replaces a file at the destination and moves into a directory there. It is known to
    /// leave the source in place where both parents have the same name: look afterwards.
    public func filesMove(
        from source: MFSPath, to destination: MFSPath, flush: Bool = true,
        cancellation: Cancellation? = nil
    ) throws(KuboError) {
        var call = Call("files/mv", .onlyUnsent, subject: "\(source)")
        call.add(argument: source)
        call.add(argument: destination)
        try change(&call, flush, cancellation)
    }

    /// Writes the changes at and above a path to the node's disk; gives the CID at the path. Tried
    /// again.
    @discardableResult
    public func filesFlush(
        _ path: MFSPath = "/", cancellation: Cancellation? = nil
    ) throws(KuboError) -> CID {
        var call = Call("files/flush", .harmless, subject: "\(path)")
        call.add(argument: path)
        call.isLongWork = true
        call.cancellation = cancellation
        return try call.cid(call.decode(FlushReply.self, from: perform(call)).Cid)
    }

    /// Lists a directory, in no order; for a file, the file itself. Tried again.
    ///
    /// - Throws: `protocolViolation` for a reply above 64 MiB.
    public func filesList(
        _ path: MFSPath, cancellation: Cancellation? = nil
    ) throws(KuboError) -> [MFSEntry] {
        var call = Call("files/ls", .harmless, subject: "\(path)")
        call.add(argument: path)
        call.add("long", true)
        call.add("U", true)
        call.isLongWork = true
        call.replyBytesMax = Call.listingBytesMax
        call.cancellation = cancellation
        var entries: [MFSEntry] = []
        for entry in try call.decode(ListReply.self, from: perform(call)).Entries ?? [] {
            guard entry.Kind == 0 || entry.Kind == 1 else {
                throw call.error(.protocolViolation, "the reply has an unknown type")
            }
            entries.append(
                MFSEntry(
                    name: entry.Name, kind: entry.Kind == 1 ? .directory : .file, size: entry.Size,
                    cid: try call.cid(entry.Hash)))
        }
        return entries
    }

    private func change(
        _ call: inout Call, _ flush: Bool, _ cancellation: Cancellation?
    ) throws(KuboError) {
        if !flush { call.add("flush", false) }
        call.isLongWork = true
        call.cancellation = cancellation
        _ = try perform(call)
    }
}

private struct StatReply: Decodable {
    var Hash: String
    var Size: UInt64
    var CumulativeSize: UInt64
    var Kind: String

    private enum CodingKeys: String, CodingKey {
        case Hash, Size, CumulativeSize
        case Kind = "Type"
    }
}

private struct FlushReply: Decodable {
    var Cid: String
}

private struct ListReply: Decodable {
    struct Entry: Decodable {
        var Name: String
        var Kind: Int
        var Size: UInt64
        var Hash: String

        private enum CodingKeys: String, CodingKey {
            case Name, Size, Hash
            case Kind = "Type"
        }
    }

    var Entries: [Entry]?
}
