public import Base
public import Multiformats
public import Remotes

/// A Kubo node as a remote: its blocks and pins, and its MFS. Every request is one call, or a few.
public struct KuboRemote: RemoteStore, MutableFileSystem {
    public let client: KuboClient

    public init(_ client: KuboClient) {
        self.client = client
    }

    public var address: String { "\(client.configuration.address)" }

    // MARK: Blocks

    public func block(
        _ request: BlockRequest, memory: ReplyMemory?
    ) throws(RemoteError) -> [UInt8] {
        try reporting { () throws(KuboError) in
            try client.block(
                request.cid, isOffline: !request.asksPeers,
                deadlineMilliseconds: request.deadlineMilliseconds,
                cancellation: request.cancellation, memory: memory, user: request.user)
        }
    }

    // MARK: The store

    public func identity(cancellation: Cancellation?) throws(RemoteError) -> RemoteIdentity {
        try reporting { () throws(KuboError) in
            let version = try client.version(cancellation: cancellation).version
            return RemoteIdentity(
                id: try client.identity(cancellation: cancellation), version: version)
        }
    }

    public func has(_ cid: CID, cancellation: Cancellation?) throws(RemoteError) -> Bool {
        try reporting { () throws(KuboError) in
            try client.hasBlock(cid, cancellation: cancellation)
        }
    }

    public func importBlocks<Failure: Error>(
        cancellation: Cancellation?, _ next: () throws(Failure) -> (cid: CID, bytes: [UInt8])?
    ) throws(RemoteStreamError<Failure>) {
        do throws(KuboStreamError<Failure>) {
            try client.importBlocks(cancellation: cancellation, next)
        } catch {
            switch error {
            case .kubo(let error): throw .remote(RemoteError(error))
            case .source(let error): throw .source(error)
            }
        }
    }

    public func pin(_ request: PinRequest) throws(RemoteError) {
        try reporting { () throws(KuboError) in
            if let old = request.replacing, old != request.root,
                try client.pin(of: old, kind: .recursive, cancellation: request.cancellation) != nil
            {
                try replacePin(old, request)
            }
            let pin = try client.pin(
                of: request.root, kind: .recursive, cancellation: request.cancellation)
            if pin?.name != request.name { try addPin(request) }
        }
    }

    private func replacePin(_ old: CID, _ request: PinRequest) throws(KuboError) {
        do throws(KuboError) {
            try client.pinUpdate(
                from: old, to: request.root, isOffline: !request.asksPeers,
                deadlineMilliseconds: request.stallMilliseconds,
                cancellation: request.cancellation)
        } catch {
            switch error.kind {
            // Both are pinned: by somebody else, or since an attempt of which no answer came.
            case .conflict: break
            // Blocks are missing, or so much is new that the node needs longer. It does not say of this
            // call how far it has come; of the other one it does.
            case .timeout: try addPin(request)
            default: throw error
            }
            try client.pinRemove(old, cancellation: request.cancellation)
        }
    }

    private func addPin(_ request: PinRequest) throws(KuboError) {
        try client.pinAdd(
            request.root, name: request.name, isOffline: !request.asksPeers,
            stallMilliseconds: request.stallMilliseconds, cancellation: request.cancellation)
    }

    public func pinName(
        of root: CID, cancellation: Cancellation?
    ) throws(RemoteError) -> String? {
        try reporting { () throws(KuboError) in
            try client.pin(of: root, kind: .recursive, cancellation: cancellation)
                .map { $0.name ?? "" }
        }
    }

    public func pins(
        namePrefix: String, cancellation: Cancellation?
    ) throws(RemoteError) -> [RemotePin] {
        try reporting { () throws(KuboError) in
            try client.pins(namesWith: namePrefix, cancellation: cancellation).compactMap { pin in
                guard let name = pin.name, name.hasPrefix(namePrefix) else { return nil }
                return RemotePin(root: pin.cid, name: name)
            }
        }
    }

    public func unpin(_ root: CID, cancellation: Cancellation?) throws(RemoteError) {
        try reporting { () throws(KuboError) in
            try client.pinRemove(root, cancellation: cancellation)
        }
    }

    // MARK: MFS

    public func status(
        of path: MFSPath, cancellation: Cancellation?
    ) throws(RemoteError) -> MFSStatus? {
        try reporting { () throws(KuboError) in
            try client.filesStat(path, cancellation: cancellation)
        }
    }

    public func put(
        _ root: CID, at path: MFSPath, _ options: MFSPutOptions, cancellation: Cancellation?
    ) throws(RemoteError) {
        try reporting { () throws(KuboError) in
            try client.filesCopy(
                from: MFSPath("/ipfs/\(root)"), to: path,
                parents: options.contains(.makesParents), force: options.contains(.replacesFile),
                flush: options.contains(.flushes), isOffline: true, cancellation: cancellation)
        }
    }

    public func remove(_ path: MFSPath, cancellation: Cancellation?) throws(RemoteError) {
        try reporting { () throws(KuboError) in
            try client.filesRemove(
                path, isRecursive: true, force: true, cancellation: cancellation)
        }
    }

    public func move(
        _ source: MFSPath, to destination: MFSPath, cancellation: Cancellation?
    ) throws(RemoteError) {
        try reporting { () throws(KuboError) in
            try client.filesMove(from: source, to: destination, cancellation: cancellation)
        }
    }

    public func flush(_ path: MFSPath, cancellation: Cancellation?) throws(RemoteError) {
        try reporting { () throws(KuboError) in
            _ = try client.filesFlush(path, cancellation: cancellation)
        }
    }

    private func reporting<Result>(
        _ body: () throws(KuboError) -> Result
    ) throws(RemoteError) -> Result {
        do throws(KuboError) { return try body() } catch { throw RemoteError(error) }
    }
}

extension RemoteError {
    /// What a Kubo node's error is to those who know of remotes alone; in its own words.
    init(_ error: KuboError) {
        let kind: Kind =
            switch error.kind {
            case .notFound: .notFound
            case .offline: .unreachable
            case .timeout: .timeout
            case .refused, .authorization: .refused
            case .conflict: .conflict
            case .busy: .busy
            case .protocolViolation: .wrongBytes
            case .full: .full
            case .cancelled: .cancelled
            case .failed: .failed
            }
        self.init(kind, error.description)
    }
}
