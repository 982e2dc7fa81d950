/// The remote objects of which some bytes are here, or were asked for, and who has them open.
final class RemoteFiles {
    /// By object.
    var files: [UInt64: RemoteFile] = [:]
    /// How many open files have read a remote object, by object.
    private var users: [UInt64: Int] = [:]
    /// Remote objects that nobody has open.
    var closed = ClosedRemotes()

    /// Notes that an open file reads a remote object.
    func noteUse(_ object: UInt64, of file: OpenFileState) {
        guard file.remoteObject != object else { return }
        endUse(of: file)
        file.remoteObject = object
        users[object, default: 0] += 1
        closed.remove(object)
        files[object]?.note(isOpen: true)
    }

    /// Ends the use of the remote object that a file has read.
    func endUse(of file: OpenFileState) {
        guard let object = file.remoteObject else { return }
        file.remoteObject = nil
        let left = users[object, default: 1] - 1
        users[object] = left == 0 ? nil : left
        guard left == 0, let remote = files[object] else { return }
        remote.note(isOpen: false)
        closed.add(object, extentCount: remote.extentCount)
    }

    func isOpen(_ object: UInt64) -> Bool { users[object] != nil }
}
