import Glibc

/// Takes the samples: each work item on every filesystem in turn, round by round, the order of the
/// filesystems turned from one item to the next, so that a drift of the machine hits all of them.
final class Runner {
    let options: Options
    let targets: [Target]
    private(set) var results = Results()
    /// From 0.
    private(set) var round = 0
    private var turn = 0
    private let start = now()

    /// The disk below, which the others are compared with.
    let disk: Target
    /// The filesystem that this is about.
    let mount: Target

    init(_ options: Options) {
        self.options = options
        targets = options.targets
        disk = options.targets[0]
        mount = options.targets[1]
    }

    func eachRound(_ group: Group, _ body: () throws(Failure) -> Void) throws(Failure) {
        for index in 0..<options.rounds {
            round = index
            progress("\(group.rawValue), round \(index + 1) of \(options.rounds)")
            try body()
        }
    }

    /// Does on each filesystem what is not measured. A peer that cannot do it (one may have no more
    /// descriptors, say) fails in the lines that need it, and does not end the run.
    func onEach(_ what: String, _ body: (Target) throws(Failure) -> Void) throws(Failure) {
        for target in targets {
            do throws(Failure) {
                try body(target)
            } catch {
                guard target.name != disk.name, target.name != mount.name else { throw error }
                say("failed: \(what) on \(target.name): \(error.message)")
            }
        }
    }

    func progress(_ line: String) {
        say("[\(Int(now() - start)) s] \(line)")
    }

    /// Measures one work item on each of the filesystems. `body` gives the figure.
    func measure(
        _ work: Work, on some: [Target]? = nil, settles: Bool = false,
        prepare: (Target) throws(Failure) -> Void = { _ in },
        cleanUp: (Target) throws(Failure) -> Void = { _ in },
        _ body: (Target) throws(Failure) -> Double
    ) throws(Failure) {
        try measure(
            [work], on: some, settles: settles, prepare: prepare, cleanUp: cleanUp,
            { target throws(Failure) in [try body(target)] })
    }

    /// Measures work items that follow each other (a cold one and the same warm, say) on each of the
    /// filesystems. `body` gives their figures.
    ///
    /// `prepare` and what comes after a measurement (everything is flushed to the disk, and what the
    /// mount does in the background has ended) do not count.
    func measure(
        _ works: [Work], on some: [Target]? = nil, settles: Bool = false,
        prepare: (Target) throws(Failure) -> Void = { _ in },
        cleanUp: (Target) throws(Failure) -> Void = { _ in },
        _ body: (Target) throws(Failure) -> [Double]
    ) throws(Failure) {
        var order = (some ?? targets).filter { takesPart($0, in: works) }
        // Whatever comes first finds another machine than what comes last.
        if (turn + round) % 2 == 1 { order.reverse() }
        turn += 1
        for target in order {
            do throws(Failure) {
                try prepare(target)
                for (work, value) in zip(works, try body(target)) {
                    results.add(value, work, target: target.name, round: round)
                }
                try cleanUp(target)
            } catch {
                for work in works { results.fail(work, target: target.name, error) }
                say("failed: \(works[0].name) on \(target.name): \(error.message)")
            }
            if settles { try settle(target) }
        }
    }

    /// Peers are there for comparison, and are slow: after the first round only what something must
    /// hold against is measured again.
    private func takesPart(_ target: Target, in works: [Work]) -> Bool {
        if round == 0 || options.allPeers { return true }
        if target.name == disk.name || target.name == mount.name { return true }
        return works.contains { work in
            Bound.isReference(target.name, in: work.isNeeded ? nil : work.name)
        }
    }

    func record(_ value: Double, _ work: Work, _ target: Target) {
        results.add(value, work, target: target.name, round: round)
    }

    /// Waits until nothing that was written to the target is still on its way to the disk.
    func settle(_ target: Target) throws(Failure) {
        sync()
        if target.name == mount.name { try waitUntilSealed() }
    }

    /// Waits until the mount has a CID for everything, which it makes in the background; at most 20 s.
    func waitUntilSealed() throws(Failure) {
        guard let registryfs = options.registryfs else { return }
        let end = now() + 20
        while now() < end {
            let status = try runCommand(
                [registryfs, "status", "--json", mount.directory], keepOutput: true)
            if status.contains("\"unsealedFiles\" : 0") || status.contains("\"unsealedFiles\":0") {
                return
            }
            usleep(50_000)
        }
        say("not sealed within 20 s; what follows is measured beside the sealing")
    }
}
