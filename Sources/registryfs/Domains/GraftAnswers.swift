import Base
import FoundationEssentials
import FuseSession
import Multiformats
import Naming
import Volume

extension Daemon {
    /// Answers a request about the grafts of the mount. Blocks for the network.
    func answerGrafts(_ request: ControlRequest, _ answer: ControlAnswer) throws(Failure) {
        guard let asked = request.grafts else { throw Failure("it is not said what is asked") }
        guard asked.action == .list || !settings.fuse.isReadOnly else {
            throw Failure("the mount is read-only: mount it without --read-only")
        }
        var result = GraftResult()
        switch asked.action {
        case .list:
            for graft in volume.grafts() { try Self.tell(graft, answer) }
        case .add:
            try Self.tell(try add(asked), answer)
        case .remove:
            let name = try Self.name(asked)
            try naming { () throws(VolumeError) in try volume.removeGraft(name) }
        case .refresh:
            let name = try Self.name(asked)
            let found = try naming { () throws(VolumeError) in
                try volume.refreshGraft(name, cancellation: Cancellation())
            }
            try Self.tell(found, answer)
        case .pin:
            let name = try Self.name(asked)
            let fetched = try naming { () throws(VolumeError) in
                try volume.pinGraft(name) { found in
                    answer.progress(ControlProgress(done: found.bytes, left: 0))
                }
            }
            (result.files, result.bytes) = (fetched.files, fetched.bytes)
        }
        answer.done(ControlResult(grafts: result))
    }

    private func add(_ asked: GraftRequest) throws(Failure) -> GraftStatus {
        if let domain = asked.name {
            return try naming { () throws(VolumeError) in
                try volume.addGraft(domain: domain, cancellation: Cancellation())
            }
        }
        let path = try Failure.naming { () throws(NamingError) in
            try ContentPath(Array(asked.reference ?? Data()))
        }
        let found = try sources.root(
            of: path, node: settings.kubo, stateDirectory: settings.stateDirectory, log: log)
        let root = DomainRoot(
            cid: found.cid, path: found.path, lifetimeSeconds: found.lifetimeSeconds, steps: [])
        return try naming { () throws(VolumeError) in
            try volume.addGraft(
                reference: path.description, root: root, cancellation: Cancellation())
        }
    }

    private static func name(_ asked: GraftRequest) throws(Failure) -> String {
        guard let name = asked.name else { throw Failure("the name of the graft is missing") }
        return name
    }

    private static func tell(
        _ graft: GraftStatus, _ answer: ControlAnswer
    ) throws(Failure) {
        try ControlProtocol.encode(GraftReport(graft)).withBytes { (bytes) throws(Failure) in
            try answer.data(bytes)
        }
    }

    private func naming<Result>(_ body: () throws(VolumeError) -> Result) throws(Failure) -> Result
    {
        do throws(VolumeError) {
            return try body()
        } catch {
            throw Failure(volume: error)
        }
    }
}
