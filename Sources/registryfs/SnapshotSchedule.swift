import Base
import Logging
import Multiformats
import Volume

import struct SystemPackage.Errno

/// Makes a snapshot of a mount's volume every so often, on a thread of its own, and prunes those that it made.
///
/// By the wall clock, so that a machine that slept makes the one that it missed. The first comes one interval after the last that
/// was made so, in this mount or another; at once where there is none. A tree that has not changed makes no new one.
final class SnapshotSchedule: Sendable {
    private struct State {
        var isStopping = false
        /// When the tree is looked at next, in nanoseconds since the epoch.
        var due: Int64?
        var lastError: String?
        var lastErrorAt: Int64 = 0
        var thread: JoinableThread?
    }

    private let everyNanoseconds: Int64
    private let rule: PruneRule
    private let volume: Volume
    private let log: Logger
    private let state = Monitor(State())

    /// The pause behind a failure, at most, in nanoseconds.
    private static let pauseMax: Int64 = 60_000_000_000
    private static let namePrefix = "auto-"

    /// Nil where no snapshots are to be made.
    init?(_ settings: SnapshotSettings, _ volume: Volume, log: Logger) {
        guard let seconds = settings.everySeconds else { return nil }
        everyNanoseconds = seconds * 1_000_000_000
        rule = settings.rule
        self.volume = volume
        self.log = log
    }

    /// Begins. Where there is no thread to be had that is logged, and told in `status`.
    func start() {
        do throws(Errno) {
            let thread = try Threads.start(name: "rfs-snapshots") { [self] in run() }
            state.withLock { $0.thread = thread }
        } catch {
            note("cannot start a thread: \(error.reason)")
        }
    }

    /// Ends, after the snapshot that is being made. Before the volume is closed.
    func stop() {
        let thread = state.withLock { state in
            state.isStopping = true
            return state.thread.take()
        }
        state.wakeAll()
        thread?.join()
    }

    func tell(_ status: inout SnapshotsStatus) {
        status.everySeconds = everyNanoseconds / 1_000_000_000
        state.withLock { state in
            func time(_ nanoseconds: Int64) -> String {
                Figures.time(Timestamp(nanoseconds: nanoseconds), digits: 3)
            }
            status.nextAt = state.due.map(time)
            status.lastError = state.lastError
            status.lastErrorAt = state.lastError == nil ? nil : time(state.lastErrorAt)
        }
    }

    private func run() {
        let now = Timestamp.now().nanoseconds
        let last = volume.snapshots().last { $0.isAutomatic }?.createdAt
        // What a damaged volume tells may be any time.
        var due = last.map { min($0, now) + everyNanoseconds } ?? now
        while wait(until: due) {
            let isDone = volume.background.run(makeOne)
            let now = Timestamp.now().nanoseconds
            // The next one keeps to the beat, but for what was missed.
            let next = due + everyNanoseconds
            due = next > now ? next : now + everyNanoseconds
            if !isDone { due = now + min(everyNanoseconds, Self.pauseMax) }
        }
    }

    /// Waits for a time; false once it is stopped.
    private func wait(until due: Int64) -> Bool {
        state.withLock { state in
            while !state.isStopping {
                let now = Timestamp.now().nanoseconds
                // The clock may have been set back.
                let latest = min(state.due ?? due, due, now + everyNanoseconds)
                guard latest > now else { return true }
                state.due = latest
                let milliseconds = (latest - now) / 1_000_000 + 1
                self.state.wait(&state, milliseconds: Int(min(milliseconds, 10_000)))
            }
            return false
        }
    }

    private func makeOne() -> Bool {
        state.withLock { $0.due = nil }
        do throws(VolumeError) {
            let before = volume.snapshots()
            if before.last(where: \.isAutomatic)?.root != (try root()) {
                let made = try volume.createSnapshot(
                    named: name(notOf: before), isAutomatic: true)
                log.info("snapshot", metadata: ["name": "\(made.name)", "root": "\(made.root)"])
            }
            if rule.isUsable {
                for pruned in rule.pruned(of: volume.snapshots().filter(\.isAutomatic)) {
                    try volume.deleteSnapshot(named: pruned.name)
                    log.info("snapshot pruned", metadata: ["name": "\(pruned.name)"])
                }
            }
            note(nil)
            return true
        } catch {
            note("\(error)")
            return false
        }
    }

    private func root() throws(VolumeError) -> CID {
        do throws(Errno) {
            return try volume.cid(of: .root)
        } catch {
            throw .operation("the root's CID", error)
        }
    }

    /// The time as a name, as in `auto-2026-11-29T08-45-00Z`.
    private func name(notOf snapshots: [Snapshot]) -> String {
        let time = Figures.time(Timestamp.now(), digits: 0).dropLast(2)
        let name = Self.namePrefix + time.map { $0 == ":" ? "-" : "\($0)" }.joined() + "Z"
        let taken = Set(snapshots.map(\.name))
        guard taken.contains(name) else { return name }
        var number = 2
        while taken.contains("\(name)-\(number)") { number += 1 }
        return "\(name)-\(number)"
    }

    /// Notes how it ended; what goes on failing is logged once.
    private func note(_ failure: String?) {
        let isNew = state.withLock { state in
            defer {
                state.lastError = failure
                state.lastErrorAt = Timestamp.now().nanoseconds
            }
            return state.lastError != failure && !state.isStopping
        }
        guard isNew, let failure else { return }
        log.warning("no snapshot could be made: \(failure)")
    }
}

/// What `status` says of snapshots. The keys are part of the program's interface.
struct SnapshotsStatus: Codable, Sendable {
    var count: Int
    /// The name of the one that was made last, and when, as RFC 3339 in UTC.
    var newest: String?
    var newestAt: String?
    /// With `--snapshot-every`.
    var everySeconds: Int64?
    var nextAt: String?
    var lastError: String?
    var lastErrorAt: String?

    init(_ snapshots: [Snapshot], _ schedule: SnapshotSchedule?) {
        count = snapshots.count
        let last = snapshots.last.map { SnapshotReport($0) }
        (newest, newestAt) = (last?.name, last?.created)
        schedule?.tell(&self)
    }

    /// The lines for people: none where there is nothing to tell.
    func add(to table: inout Table) {
        guard count > 0 || everySeconds != nil else { return }
        var words = [Figures.count(UInt64(max(count, 0)))]
        if let newest { words.append("newest \(newest), \(newestAt ?? "?")") }
        if let everySeconds { words.append("one each \(everySeconds) s") }
        if let nextAt { words.append("next \(nextAt)") }
        table.add("snapshots", words.joined(separator: "; "))
        if let lastError { table.add("last snapshot", "\(lastError), \(lastErrorAt ?? "?")") }
    }
}
