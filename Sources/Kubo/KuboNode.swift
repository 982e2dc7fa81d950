public import Base
internal import FoundationEssentials
public import Remotes

/// What a node says of its program.
public struct KuboVersion: Sendable, Hashable {
    /// As in `0.43.0`.
    public var version: String
    public var commit: String
}

/// What a node says of its repository.
public struct KuboRepositoryStatus: Sendable, Hashable {
    public var sizeBytes: UInt64
    /// What the node is configured to hold before it collects garbage.
    public var storageBytesMax: UInt64
    public var objectCount: UInt64
    /// The directory, on the node's machine.
    public var path: String
}

extension KuboClient {
    /// Asks for the program's version. Tried again.
    public func version(
        deadlineMilliseconds: Int? = nil, cancellation: Cancellation? = nil
    ) throws(KuboError) -> KuboVersion {
        var call = Call("version", .harmless)
        call.deadlineMilliseconds = deadlineMilliseconds
        call.cancellation = cancellation
        let reply = try call.decode(VersionReply.self, from: perform(call))
        return KuboVersion(
            version: KuboError.line(reply.Version), commit: KuboError.line(reply.Commit ?? ""))
    }

    /// Asks for the node's peer id. Tried again.
    public func identity(cancellation: Cancellation? = nil) throws(KuboError) -> String {
        var call = Call("id", .harmless)
        call.cancellation = cancellation
        return KuboError.line(
            try call.decode(IdentityReply.self, from: perform(call)).ID)
    }

    /// Asks at which addresses the node may be reached: multiaddrs with its peer id, `addressesMax` at most. Tried again.
    public func addresses(cancellation: Cancellation? = nil) throws(KuboError) -> [String] {
        var call = Call("id", .harmless)
        call.cancellation = cancellation
        let reply = try call.decode(IdentityReply.self, from: perform(call))
        return (reply.Addresses ?? []).prefix(Self.addressesMax).map(KuboError.line)
    }

    /// The most addresses of a node that are given.
    public static let addressesMax = 64

    /// Asks for the size of the node's repository; the node walks all of it. Tried again.
    public func repoStat(
        cancellation: Cancellation? = nil
    ) throws(KuboError) -> KuboRepositoryStatus {
        var call = Call("repo/stat", .harmless)
        call.isLongWork = true
        call.cancellation = cancellation
        let reply = try call.decode(RepositoryReply.self, from: perform(call))
        return KuboRepositoryStatus(
            sizeBytes: reply.RepoSize, storageBytesMax: reply.StorageMax,
            objectCount: reply.NumObjects, path: KuboError.line(reply.RepoPath))
    }

    /// Asks for one value of the node's configuration, as `Import.UnixFSChunker`; gives its JSON
    /// text. Tried again.
    ///
    /// - Throws: `notFound` for a key that is not set.
    public func config(
        _ key: String, cancellation: Cancellation? = nil
    ) throws(KuboError) -> String {
        var call = Call("config", .harmless, subject: key)
        call.add(argument: key)
        call.cancellation = cancellation
        let value = try call.decode(ConfigReply.self, from: perform(call)).Value
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return String(decoding: try encoder.encode(value), as: UTF8.self)
        } catch {
            throw call.error(
                .protocolViolation, "the reply is not the JSON that belongs to the call")
        }
    }

    /// Reads a file's content by its path (`/ipfs/CID…`), piece by piece. Not tried again once
    /// the first piece was given.
    ///
    /// - Parameters:
    ///   - length: the most bytes to read; nil for all.
    ///   - sink: takes the pieces, each valid during its call only; its time counts towards no
    ///     deadline.
    public func cat<Failure: Error>(
        _ path: MFSPath, offset: UInt64 = 0, length: UInt64? = nil,
        cancellation: Cancellation? = nil,
        _ sink: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(KuboStreamError<Failure>) {
        var call = Call("cat", .harmless, subject: "\(path)")
        call.add(argument: path)
        if offset > 0 { call.add("offset", offset) }
        if let length { call.add("length", length) }
        call.cancellation = cancellation
        try download(call, sink)
    }
}

private struct VersionReply: Decodable {
    var Version: String
    var Commit: String?
}

private struct IdentityReply: Decodable {
    var ID: String
    var Addresses: [String]?
}

private struct RepositoryReply: Decodable {
    var RepoSize: UInt64
    var StorageMax: UInt64
    var NumObjects: UInt64
    var RepoPath: String
}

private struct ConfigReply: Decodable {
    var Value: JSONValue
}
