import Base
import Glibc
import Logging

import struct SystemPackage.Errno

/// Keeps a `registryfs serve` beside a mount: started with it, again where it ends, ended with it.
final class ServeSupervisor: Sendable {
    private struct State {
        var process: pid_t?
        var isStopping = false
    }

    private let addresses: [String]
    private let stateDirectory: String
    private let log: Logger
    private let state = Monitor(State())
    private let thread = Monitor<JoinableThread?>(nil)

    /// The pause before it is started again, in milliseconds: doubled where it ended soon.
    private static let pauseMilliseconds: ClosedRange<Int> = 1_000...60_000
    /// How long it may finish answers at the end.
    private static let stopMilliseconds: Int64 = 5_000

    /// - Parameter addresses: where it listens; none for no server.
    init(_ addresses: [String], stateDirectory: String, log: Logger) {
        self.addresses = addresses
        self.stateDirectory = stateDirectory
        self.log = log
    }

    /// Starts it, and the thread that looks after it.
    ///
    /// - Precondition: the read socket's directory is there.
    func start() throws(Failure) {
        guard !addresses.isEmpty else { return }
        do throws(Errno) {
            let keeper = try Threads.start(name: "serve") { [self] in keep() }
            thread.withLock { $0 = keeper }
        } catch {
            throw Failure("cannot start a thread: \(error.reason)")
        }
    }

    /// Ends it; answers that are on their way have some seconds.
    func stop() {
        guard let keeper = thread.withLock({ $0.take() }) else { return }
        signal(SIGTERM)
        let end = MonotonicClock.milliseconds + Self.stopMilliseconds
        while MonotonicClock.milliseconds < end, state.withLock({ $0.process != nil }) {
            Threads.sleep(milliseconds: 10)
        }
        signal(SIGKILL)
        keeper.join()
    }

    private func signal(_ number: Int32) {
        state.withLock { state in
            state.isStopping = true
            // Under the lock, so that the process was not waited for, and its number is still its own.
            if let process = state.process { kill(process, number) }
        }
        state.wakeAll()
    }

    private func keep() {
        var pause = Self.pauseMilliseconds.lowerBound
        while !state.withLock({ $0.isStopping }) {
            let start = MonotonicClock.milliseconds
            do throws(Errno) {
                let process = try spawn()
                let status = waitForEnd(of: process)
                guard !state.withLock({ $0.isStopping }) else { return }
                log.warning(
                    "the server ended, and is started again",
                    metadata: ["status": "\(status)", "in-ms": "\(pause)"])
            } catch {
                log.error("the server cannot be started: \(error.reason)")
            }
            let isQuick = MonotonicClock.milliseconds - start < 10_000
            state.withLock { state in
                let end = MonotonicClock.milliseconds + Int64(pause)
                while !state.isStopping, MonotonicClock.milliseconds < end {
                    self.state.wait(
                        &state, milliseconds: Int(max(1, end - MonotonicClock.milliseconds)))
                }
            }
            pause =
                isQuick
                ? min(2 * pause, Self.pauseMilliseconds.upperBound)
                : Self.pauseMilliseconds.lowerBound
        }
    }

    private func spawn() throws(Errno) -> pid_t {
        var arguments = [
            "registryfs", "serve", "--supervised-by", "\(getpid())", "--state-dir", stateDirectory,
            "--log-level", log.logLevel.rawValue,
        ]
        for address in addresses { arguments += ["--listen", address] }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // Its lines go where the daemon's go.
        for descriptor in [STDIN_FILENO, STDOUT_FILENO] {
            posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_RDWR, 0)
        }
        // Not all that the daemon has open goes by exec: libcurl's connections to a Kubo node do not, and whoever
        // has one may do what the daemon may.
        let code = withUnsafeMutablePointer(to: &actions) { Confinement.closeOthers($0) }
        guard code == 0 else { throw Errno(rawValue: code) }
        let process = try Processes.spawn(
            Daemonizer.program(), arguments, actions, posix_spawnattr_t.plain)
        let isStopping = state.withLock { state in
            state.process = process
            return state.isStopping
        }
        if isStopping { kill(process, SIGTERM) }
        return process
    }

    /// Waits without taking the process away, so that a signal cannot meet another one of its number.
    private func waitForEnd(of process: pid_t) -> Int32 {
        var information = siginfo_t()
        while waitid(P_PID, id_t(process), &information, WEXITED | WNOWAIT) < 0, errno == EINTR {}
        return state.withLock { state in
            state.process = nil
            return (try? Processes.wait(for: process)) ?? 255
        }
    }
}

extension posix_spawnattr_t {
    /// Nothing but what a child has of its parent.
    fileprivate static var plain: posix_spawnattr_t {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        return attributes
    }
}
