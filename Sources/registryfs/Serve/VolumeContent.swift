internal import Base
package import Multiformats
package import Serving
package import Volume

/// A volume as what is served: its own tree, and its blocks in the form in which they lie.
package struct VolumeContent: ServedContent {
    private let volume: Volume

    package init(volume: Volume) {
        self.volume = volume
    }

    package var tree: any ServedTree { VolumeTree(volume: volume) }

    package func root() throws(ServeFault) -> CID {
        try Self.served { () throws(ServingFailure) in try volume.newestRoot() }
    }

    package func block(
        _ cid: CID, scope: BlockScope, reach: BlockReach
    ) throws(ServeFault) -> BytesPlace {
        BytesPlace(
            try Self.served(cid) { () throws(ServingFailure) in
                try volume.lendBlock(
                    cid, of: ContentScope(scope), asksRemote: reach == .everywhere)
            })
    }

    package func wholeFile(_ cid: CID, scope: BlockScope) throws(ServeFault) -> BytesPlace? {
        try Self.served(cid) { () throws(ServingFailure) in
            try volume.lendFile(cid, of: ContentScope(scope))
        }.map { BytesPlace($0) }
    }

    package func has(_ cid: CID, scope: BlockScope) throws(ServeFault) -> Bool {
        try Self.served(cid) { () throws(ServingFailure) in
            try volume.hasBlock(cid, of: ContentScope(scope))
        }
    }

    /// Does what a volume does for others.
    ///
    /// - Parameter cid: of what may be damaged.
    fileprivate static func served<Result>(
        _ cid: CID? = nil, _ body: () throws(ServingFailure) -> Result
    ) throws(ServeFault) -> Result {
        do throws(ServingFailure) {
            return try body()
        } catch {
            switch error {
            case .notFound: throw .notFound
            case .unavailable: throw .unavailable
            case .timedOut: throw .timedOut
            case .damaged(let reason):
                guard let cid else { throw .failed(reason: reason) }
                throw .damaged(cid)
            case .tooLarge(let reason): throw .tooLarge(reason: reason)
            case .failed(let reason): throw .failed(reason: reason)
            }
        }
    }
}

/// The names of a volume as they are now.
private struct VolumeTree: ServedTree {
    let volume: Volume

    func entry(at path: [[UInt8]]) throws(ServeFault) -> ServedEntry? {
        let found = try VolumeContent.served { () throws(ServingFailure) in
            try volume.liveEntry(at: path)
        }
        switch found {
        case nil: return nil
        case .file(let cid, let size): return .file(cid, size: size)
        case .directory: return .directory
        case .symlink(let target): return .symlink(target: target)
        }
    }

    func names(at path: [[UInt8]]) throws(ServeFault) -> [ServedName]? {
        try VolumeContent.served { () throws(ServingFailure) in
            try volume.liveNames(at: path, countMax: ServedNames.countMax)
        }?.map { ServedName(name: $0.name, mayBeDirectory: $0.isDirectory) }
    }
}

extension ContentScope {
    init(_ scope: BlockScope) {
        switch scope {
        case .tree: self = .tree
        case .any: self = .any
        }
    }
}

extension BytesPlace {
    init(_ lent: LentBytes) {
        switch lent {
        case .bytes(let bytes): self = .bytes(bytes)
        case .file(let file, let offset, let count):
            self = .file(
                FileRange(SharedFile(keeping: file, raw: file.raw), offset: offset, count: count))
        }
    }
}
