import Base
import FuseSession
import Glibc
import MerkleDAG
import Multiformats
import Remotes
import Volume

import struct SystemPackage.Errno

extension Daemon {
    private func volumeStatus() throws(Failure) -> MountStatus {
        do throws(Errno) {
            var status = MountStatus(try volume.status())
            status.kubo = try volume.remoteStatus().map { KuboReport($0) }
            status.sources = sources.status?.map { SourceReport($0) }
            status.origin = volume.originStatus().map { OriginReport($0) }
            if settings.pullThrough.isOn {
                status.domains = DomainsStatus(settings.pullThrough, volume.grafts())
            }
            status.snapshots = SnapshotsStatus(volume.snapshots(), schedule)
            return status
        } catch {
            throw Failure("the volume's figures: \(error.reason)")
        }
    }

    func status(_ request: ControlRequest) throws(Failure) -> MountStatus {
        var rootCID: String?
        if request.computesRoot {
            do throws(Errno) {
                rootCID = try volume.cid(of: .root).description
            } catch {
                throw Failure("the root's CID: \(error.reason)")
            }
        }
        var status = try volumeStatus()
        status.mountpoint = RawText.shown(mountPoint)
        status.stateDirectory = settings.stateDirectory
        status.pid = getpid()
        switch session.passthrough {
        case .on: status.passthrough = true
        case .off(let reason): (status.passthrough, status.passthroughOff) = (false, reason)
        }
        switch session.rings {
        case .on: status.ioUring = true
        case .off(let reason): (status.ioUring, status.ioUringOff) = (false, reason)
        }
        status.operations = Dictionary(
            session.operations.map { ($0.name, OperationFigures($0)) }, uniquingKeysWith: { $1 })
        status.version = Version.text
        status.profile = volume.profile.name
        status.readOnly = settings.fuse.isReadOnly
        status.rootCID = rootCID ?? status.rootCID
        return status
    }
}
