import Base
import Glibc

import struct SystemPackage.Errno

/// The user that serves: one that owns nothing.
struct ServeUser {
    let name: String
    let user: uid_t
    let group: gid_t

    /// Whom root's process becomes where nobody says: Debian's user for what must own nothing.
    static let defaultName = "nobody"

    /// Looks a user up.
    init(named name: String) throws(Failure) {
        let found = getpwnam(name).map { ($0.pointee.pw_uid, $0.pointee.pw_gid) }
        guard let (user, group) = found else {
            throw Failure("there is no user '\(RawText.shown(name))': give another by --user")
        }
        guard user != 0 else {
            throw Failure("--user \(RawText.shown(name)): root is not for serving", exitCode: 64)
        }
        self.name = name
        self.user = user
        self.group = group
    }

    /// Lets go of root's rights, for good: groups first, then the user, in this order because each needs the
    /// right that the last one takes away (setuid(2), which for root sets all three ids). All threads of the process at once, as glibc does it.
    func become() throws(Failure) {
        guard setgroups(0, nil) == 0, setgid(group) == 0,
            setuid(user) == 0
        else {
            throw Failure(
                "cannot become user \(RawText.shown(name)): \(Errno(rawValue: errno).reason)")
        }
        // What would come back by the saved id must not.
        guard setuid(0) != 0, geteuid() == user, getuid() == user else {
            throw Failure("the rights of root did not go: not serving")
        }
    }
}

/// What makes a process that reads requests from the network worth less to whoever takes it over.
enum ServeConfinement {
    /// No program that it starts gets rights by set-id bits, and no other process of the user reads its memory.
    static func apply() {
        Confinement.refuseNewPrivileges()
        Confinement.hideMemory()
        _ = chdir("/")
        umask(0o077)
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    /// Has the kernel end this process with the one that started it, which may have ended already: then somebody else is the parent.
    ///
    /// - Parameter parent: as it says itself, because a process that asks may ask too late.
    static func endWithParent(_ parent: pid_t) throws(Failure) {
        Confinement.endWithParent()
        guard getppid() == parent else {
            throw Failure("whoever started this server is gone already")
        }
    }
}
