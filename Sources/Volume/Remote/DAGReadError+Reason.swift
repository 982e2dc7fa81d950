internal import Base
internal import MerkleDAG
internal import Multiformats
internal import Remotes

extension DAGReadError {
    /// What went wrong, for people; names the block.
    var reason: String {
        switch self {
        case .unavailable(let error):
            if let cause = error.cause as? RemoteError { return "\(cause)" }
            if let cause = error.cause as? VolumeError { return "\(cause)" }
            if let cause = error.cause as? ExpansionLimit { return cause.reason }
            if let cause = error.cause as? StaticLayoutFault { return cause.reason }
            if let cause = error.cause as? NotHere { return "block \(error.cid): \(cause)" }
            return "block \(error.cid) is not to be had"
        case .wrongBytes(let cid): return "block \(cid): the bytes are not those of its hash"
        case .unsupportedHash(let cid): return "block \(cid): its hash function is not known here"
        case .unsupportedCodec(let cid):
            return "block \(cid) is no file, directory or symlink (codec \(cid.codec))"
        case .malformed(let cid, let error): return "block \(cid) is malformed: \(error)"
        case .tooDeep(let cid): return "block \(cid) lies deeper than any writer makes it"
        case .notFile(let cid): return "block \(cid) is no file"
        case .notDirectory(let cid): return "block \(cid) is no directory"
        case .duplicateName(let cid, let name):
            return "directory \(cid) has two entries \(shown(name))"
        case .noSuchEntry(let cid, let name):
            return "directory \(cid) has no entry \(shown(name))"
        case .tooMany(let limit): return "there are more than \(limit)"
        }
    }
}
