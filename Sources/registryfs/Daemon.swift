import Base
import FuseSession
import Glibc
import Logging
import MerkleDAG
import Multiformats
import ReadSocket
import Volume

import struct SystemPackage.Errno

/// The process that serves one mount, from its start to its end.
///
/// Start: block the signals, before any thread is there → open the log → open the volume, which
/// locks the state directory and mends what a crash left → listen at the control socket → mount →
/// say that it is ready. End, whoever asks for it: make everything durable → take the mount away
/// → the kernel ends the session → close the volume → tell who waits → exit.
final class Daemon: Sendable {
    let settings: MountSettings
    let volume: Volume
    let sources: MountSources
    let session: FuseSession
    let log: Logger
    private let leaving = Leaving()
    let schedule: SnapshotSchedule?
    private let server: ServeSupervisor

    /// The mount point, as the kernel lists it now.
    var mountPoint: String { session.mountPath ?? settings.mountPoint }

    private init(
        settings: MountSettings, volume: Volume, sources: MountSources, session: FuseSession,
        log: Logger
    ) {
        self.sources = sources
        self.settings = settings
        self.volume = volume
        self.session = session
        self.log = log
        schedule = SnapshotSchedule(settings.snapshots, volume, log: log)
        server = ServeSupervisor(
            settings.serve, stateDirectory: settings.stateDirectory, log: log)
    }

    // MARK: Start

    /// Serves the mount until it is gone; blocks until then.
    ///
    /// - Parameter pipe: where a background daemon reports; nil in the foreground.
    static func run(_ settings: MountSettings, pipe: Int32?) throws(Failure) {
        if let pipe { DaemonProcess.closeInherited(above: pipe) }
        let signals = DaemonProcess.blockSignals()
        let readiness = Readiness(pipe: pipe)
        do throws(Failure) {
            try serve(settings, readiness, signals, inBackground: pipe != nil)
        } catch {
            readiness.failed(error)
            throw error
        }
    }

    private static func serve(
        _ settings: MountSettings, _ readiness: Readiness, _ signals: sigset_t, inBackground: Bool
    ) throws(Failure) {
        try checkMountPoint(settings)
        let log = try openLog(settings, inBackground: inBackground)
        DaemonProcess.prepare()
        let (volume, sources) = try openVolume(settings, log)
        let outcome: Failure?
        do throws(Failure) {
            let session = try makeSession(settings, volume, log)
            let daemon = Daemon(
                settings: settings, volume: volume, sources: sources, session: session, log: log)
            outcome = try daemon.serve(readiness, signals)
        } catch {
            try? ControlSocket.remove(stateDirectory: settings.stateDirectory)
            do throws(VolumeError) {
                try volume.close()
            } catch {
                log.error("the volume could not be closed: \(error)")
            }
            // In the foreground the command itself says it, on the same standard error.
            if inBackground { log.error("\(error.message)") }
            throw error
        }
        guard let outcome else { return }
        if inBackground { log.error("\(outcome.message)") }
        throw outcome
    }

    private static func openLog(
        _ settings: MountSettings, inBackground: Bool
    ) throws(Failure) -> Logger {
        let file: LogFile
        if inBackground {
            file = try logFile(settings.stateDirectory)
        } else {
            file = LogFile()
        }
        let level = settings.logLevel
        return Logger(label: "registryfs") { _ in LineLogHandler(file: file, level: level) }
    }

    private static func logFile(_ stateDirectory: String) throws(Failure) -> LogFile {
        let directory: OwnedDescriptor
        do throws(VolumeError) {
            directory = try Volume.openStateDirectory(stateDirectory)
        } catch {
            throw Failure(volume: error)
        }
        let path = RawText.shown(stateDirectory + "/" + LogFile.name)
        let distrust = try? Sys.distrust(
            of: LogFile.name, in: directory.raw, expecting: .regular)
        if let distrust { throw Failure("\(path) \(distrust)") }
        do throws(Errno) {
            return try LogFile(stateDirectory: directory)
        } catch {
            throw Failure("\(path) cannot be written: \(error.reason)")
        }
    }

    /// Says what is wrong with the mount point before anything is opened or made.
    private static func checkMountPoint(_ settings: MountSettings) throws(Failure) {
        do throws(FuseError) {
            _ = try MountPoint.prepare(
                settings.mountPoint, allowsNonEmpty: settings.fuse.allowsNonEmptyMountPoint)
        } catch {
            throw Failure(error.description)
        }
    }

    private static func makeSession(
        _ settings: MountSettings, _ volume: Volume, _ log: Logger
    ) throws(Failure) -> FuseSession {
        var configuration = settings.fuse
        // By this `status` and the others find the daemon of a mount.
        configuration.fsname = settings.stateDirectory
        do throws(FuseError) {
            return try FuseSession(volume: volume, configuration: configuration, log: log)
        } catch {
            throw Failure(error.description)
        }
    }

    /// Mounts and serves; returns what went wrong later, with the volume closed.
    ///
    /// - Throws: why it could not be mounted; the volume is still open then.
    private func serve(
        _ readiness: Readiness, _ signals: sigset_t
    ) throws(Failure) -> Failure? {
        let control = try ControlServer(stateDirectory: settings.stateDirectory, log: log) {
            [self] request, answer in
            handle(request, answer)
        }
        try control.start()
        let reads = try startReads()
        do throws(Failure) {
            try startSignalThread(signals)
            do throws(FuseError) {
                try session.mount(at: settings.mountPoint)
            } catch {
                throw Failure(error.description)
            }
        } catch {
            reads.stop()
            throw error
        }
        var outcome: Failure? = Failure(
            "the mount at \(RawText.shown(settings.mountPoint)) ended before it was ready")
        do throws(FuseError) {
            try session.run {
                outcome = nil
                log.info(
                    "mounted",
                    metadata: [
                        "at": "\(settings.mountPoint)", "state-dir": "\(settings.stateDirectory)",
                        "profile": "\(volume.profile.name)", "pid": "\(getpid())",
                        "version": "\(Version.text)",
                    ])
                schedule?.start()
                startServing()
                guard !readiness.ready() else { return }
                log.warning("whoever asked for the mount is gone: unmounting")
                startLeaving()
            }
        } catch {
            outcome = Failure("\(RawText.shown(settings.mountPoint)): \(error.description)")
        }
        readiness.stopping()
        return end(control, reads, outcome)
    }

    private func startServing() {
        do throws(Failure) {
            try server.start()
        } catch {
            log.error("\(error.message)")
        }
    }

    /// Answers who serves the volume to others; what they have may be looked at from now on.
    private func startReads() throws(Failure) -> ReadServer {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        var bounds = ReadServerBounds()
        bounds.leaveDescriptors(of: UInt64(limit.rlim_cur))
        do throws(Errno) {
            let reads = try ReadServer(
                content: VolumeContent(volume: volume), stateDirectory: settings.stateDirectory,
                log: log, bounds: bounds)
            try reads.start()
            return reads
        } catch {
            throw Failure(
                "cannot listen for readers in \(RawText.shown(settings.stateDirectory)): "
                    + error.reason)
        }
    }

    // MARK: End

    /// Closes the volume and tells everyone who waits for it.
    private func end(
        _ control: ControlServer, _ reads: ReadServer, _ outcome: Failure?
    ) -> Failure? {
        var outcome = outcome
        leaving.noteSessionIsOver()
        // The session has ended its own; what commands and sealing wait for would hold up the end.
        volume.interruptWaits()
        control.stop()
        server.stop()
        reads.stop()
        schedule?.stop()
        do throws(VolumeError) {
            try volume.close()
        } catch {
            outcome = outcome ?? Failure(volume: error)
        }
        let waiting = leaving.takeAll()
        log.info("unmounted", metadata: ["at": "\(settings.mountPoint)"])
        for answer in waiting {
            if let outcome { answer.failed(outcome) } else { answer.done() }
        }
        return outcome
    }

    /// Waits for signals on a thread of its own; each of them ends the mount.
    private func startSignalThread(_ signals: sigset_t) throws(Failure) {
        do throws(Errno) {
            try Threads.startDetached(name: "signals") { [self] in
                while true {
                    let signal = DaemonProcess.waitForSignal(signals)
                    log.info("unmounting: a signal asked for it", metadata: ["signal": "\(signal)"])
                    startLeaving()
                }
            }
        } catch {
            throw Failure("cannot start a thread: \(error.reason)")
        }
    }

    /// Ends the mount, in use or not; what uses it still gets ENOTCONN.
    private func startLeaving() {
        let thread: Void? = try? Threads.startDetached(name: "leave") { [self] in
            do throws(Failure) {
                try synchronize()
            } catch {
                log.error("\(error.message)")
            }
            session.stop()
        }
        if thread == nil { log.error("cannot start a thread to unmount: ask again") }
    }

    private func synchronize() throws(Failure) {
        do throws(Errno) {
            try volume.synchronizeAll()
        } catch {
            throw Failure(
                "\(RawText.shown(settings.mountPoint)): not everything can be made durable "
                    + "(\(error.reason)), see \(LogFile.name) in the state directory: "
                    + "copy what matters elsewhere; 'registryfs unmount --lazy' leaves without it")
        }
    }

    private func takeMountAway(isLazy: Bool) throws(Failure) {
        let point = mountPoint
        do throws(Errno) {
            try Unmounting.unmount(RawText.bytes(of: point), isLazy: isLazy)
        } catch {
            let kind: Failure.Kind = error == .resourceBusy ? .busy : .failed
            throw Failure(
                "\(RawText.shown(point)): cannot unmount: \(error.reason)", kind: kind)
        }
    }

    /// Refuses where the person named another mount of the same filesystem, which is not this daemon's to
    /// take away. A client in another mount namespace names what is not known here.
    private func checkIsOwnMount(_ request: ControlRequest) throws(Failure) {
        let asked = RawText.bytes(of: request.shownPath)
        let point = RawText.bytes(of: mountPoint)
        let table = try MountTable.read()
        guard asked != point, let other = table.mount(at: asked), let own = table.mount(at: point),
            other.device == own.device
        else { return }
        throw Failure(
            "\(RawText.shown(asked)) is a bind mount of \(RawText.shown(point)): use umount(8)")
    }

    // MARK: Requests

    private func handle(_ request: ControlRequest, _ answer: ControlAnswer) {
        do throws(Failure) {
            switch request.command {
            case .status:
                answer.done(ControlResult(status: try status(request)))
            case .sync:
                try publish(request, answer)
            case .unmount:
                try unmount(request, answer)
            case .importTree:
                try importTree(request, answer)
            case .snapshot:
                try answerSnapshots(request, answer)
            case .grafts:
                try answerGrafts(request, answer)
            case .cid, .inspect, .block, .exportCAR:
                let result = try volume.answer(request) { (bytes) throws(Failure) in
                    try answer.data(bytes)
                }
                answer.done(result)
            }
        } catch {
            answer.failed(error)
        }
    }

    private func publish(
        _ request: ControlRequest, _ answer: ControlAnswer
    ) throws(Failure) {
        do throws(PublishWaitError) {
            let root = try volume.waitUntilPublished(
                stallMilliseconds: request.stallMilliseconds ?? Self.stallMilliseconds
            ) { progress in
                answer.progress(
                    ControlProgress(done: progress.sentBytes, left: progress.waitingBytes))
            }
            answer.done(ControlResult(cid: root?.description))
        } catch {
            throw Failure("\(RawText.shown(settings.mountPoint)): not published: \(error.reason)")
        }
    }

    private static let stallMilliseconds = 60_000

    private func unmount(_ request: ControlRequest, _ answer: ControlAnswer) throws(Failure) {
        try checkIsOwnMount(request)
        log.info("unmounting: a command asked for it", metadata: ["lazy": "\(request.isLazy)"])
        do throws(Failure) {
            try synchronize()
        } catch {
            // The way out where the disk goes on failing.
            guard request.isLazy else { throw error }
            log.error("\(error.message)")
        }
        if !request.isLazy { try checkNamespaces() }
        // Noted before, as the process may end as soon as the mount is gone.
        leaving.add(answer)
        do throws(Failure) {
            try takeMountAway(isLazy: request.isLazy)
        } catch {
            guard leaving.remove(answer) else { return }
            throw error
        }
        waitForEnd(answer, isLazy: request.isLazy)
    }

    /// The kernel ends the session with the last use of the filesystem, which is now unless
    /// something holds it: files that stay open after a lazy unmount, or a mount elsewhere.
    private func waitForEnd(_ answer: ControlAnswer, isLazy: Bool) {
        // Where it is over, whoever closes the volume ends the answer.
        guard !leaving.waitForEnd(), leaving.remove(answer) else { return }
        if isLazy {
            answer.done(ControlResult(isLingering: true))
        } else {
            answer.failed(
                Failure(
                    "\(RawText.shown(settings.mountPoint)) is unmounted, but something still "
                        + "uses the filesystem: the daemon (pid \(getpid())) stays until it ends",
                    kind: .busy))
        }
    }

    /// Refuses while another mount namespace, a container's say, has the filesystem mounted:
    /// the daemon could not end.
    private func checkNamespaces() throws(Failure) {
        let point = RawText.bytes(of: mountPoint)
        let table = try MountTable.read()
        guard let mount = table.mount(at: point), mount.isRegistry else { return }
        let group = table.groupOfParent(of: mount)
        let others = table.mounts(of: mount.device, outside: group).filter { $0 != mount }
        if let other = others.first {
            throw Failure(
                "\(RawText.shown(point)) is also mounted at \(RawText.shown(other.point)): "
                    + "umount(8) that first, or use --lazy", kind: .busy)
        }
        let users = Unmounting.namespaceUsers(of: mount.device, outside: group)
        guard users.isEmpty else {
            throw Failure(
                "\(RawText.shown(point)) is mounted in another namespace too, by "
                    + "\(Unmounting.shown(users)): stop that first, or use --lazy", kind: .busy)
        }
    }
}
