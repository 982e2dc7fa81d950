internal import Base

/// Whether a source does what it is asked, how fast, and when it is asked again where it did not.
///
/// A value that knows no clock: each moment is told, in milliseconds of one that goes forward.
struct SourceHealth {
    /// How long a source rests after a failure, at first and at most, in milliseconds.
    static let restMin: Int64 = 250
    static let restMax: Int64 = 15_000
    /// How many races in a row a source may lose, having been first, before it counts as one that does
    /// not answer.
    static let lossesMax = 3
    /// The latencies that are remembered.
    static let samplesMax = 32
    /// With fewer, nothing is said of how many requests take how long.
    static let samplesMin = 8

    private(set) var exclusion: String?
    /// Until when it is not asked.
    private(set) var restsUntil: Int64 = 0
    /// Whether it said itself when it wants to be asked.
    private(set) var isBusy = false
    private var restMilliseconds: Int64 = 0
    /// When the last rest began.
    private var restBegan = Int64.min
    /// When it last gave an answer, of whatever content.
    private var answered = Int64.min
    private var losses = 0
    /// When it was last asked.
    var asked = Int64.min

    private var samples: [Int64] = []
    private var nextSample = 0
    private(set) var latency: Double?
    /// How many of its requests fail, recent ones counting most, 0 to 1.
    private var failureRate = 0.0

    private(set) var blocks: UInt64 = 0
    private(set) var bytes: UInt64 = 0
    private(set) var absences: UInt64 = 0
    private(set) var failures: UInt64 = 0
    private(set) var wrongAnswers: UInt64 = 0
    private(set) var problem: RemoteError?
    private(set) var problemTime: Timestamp?

    /// Whether it may be asked.
    func isUsable(at now: Int64) -> Bool { exclusion == nil && restsUntil <= now }

    /// What is preferred is less: the time until a block, longer where requests fail. A source that was
    /// never tried comes first.
    var score: Double {
        (latency ?? (failures > 0 ? Double(Self.restMin) : 0)) * (1 + 3 * failureRate)
    }

    /// How long a request goes on before another source is asked as well: what 19 of 20 requests take.
    ///
    /// - Parameter bounds: in milliseconds; the middle of them while little is known.
    func hedgeMilliseconds(within bounds: ClosedRange<Int64>) -> Int64 {
        guard samples.count >= Self.samplesMin else {
            return bounds.lowerBound + (bounds.upperBound - bounds.lowerBound) / 6
        }
        let sorted = samples.sorted()
        let usual = sorted[min(sorted.count - 1, sorted.count * 19 / 20)]
        return min(max(usual, bounds.lowerBound), bounds.upperBound)
    }

    // MARK: Noting

    /// Notes that it gave a block.
    mutating func noteBlock(byteCount: Int, began: Int64, now: Int64) {
        blocks += 1
        noteBytes(byteCount)
        noteLatency(now - began)
        noteAnswer(now)
        losses = 0
        restMilliseconds = 0
        // A promise of its own to be busy holds.
        if !isBusy { restsUntil = min(restsUntil, now) }
    }

    /// Notes bytes of blocks that came in a stream.
    mutating func noteBytes(_ byteCount: Int) { bytes += UInt64(max(0, byteCount)) }

    /// Notes a block that came in a stream.
    mutating func noteStreamedBlock(byteCount: Int) {
        blocks += 1
        noteBytes(byteCount)
    }

    /// Notes that it lacks a block.
    mutating func noteAbsence(now: Int64) {
        absences += 1
        noteAnswer(now)
    }

    private mutating func noteAnswer(_ now: Int64) {
        answered = max(answered, now)
        failureRate *= 0.9
    }

    private mutating func noteLatency(_ milliseconds: Int64) {
        let sample = max(0, milliseconds)
        if samples.count < Self.samplesMax {
            samples.append(sample)
        } else {
            samples[nextSample] = sample
            nextSample = (nextSample + 1) % Self.samplesMax
        }
        latency = latency.map { $0 * 0.8 + Double(sample) * 0.2 } ?? Double(sample)
    }

    /// Notes that another source was faster, which was asked later because of this one.
    ///
    /// - Parameter isSearch: whether it looked among its peers, which may take as long as it likes.
    mutating func noteLoss(began: Int64, now: Int64, isSearch: Bool, _ error: RemoteError) {
        noteLatency(now - began)
        losses += 1
        guard losses >= Self.lossesMax, !isSearch, answered < began else { return }
        losses = 0
        noteProblem(error)
        rest(began: began, now: now)
    }

    /// Notes that a request failed.
    ///
    /// - Parameters:
    ///   - isSearch: whether it looked among its peers: that a block nobody has is not found in time is no
    ///     failing of its.
    ///   - excludes: whether wrong bytes are the end of it.
    mutating func noteFailure(
        _ error: RemoteError, began: Int64, now: Int64, isSearch: Bool, excludes: Bool
    ) {
        noteProblem(error)
        failures += 1
        switch error.kind {
        case .wrongBytes:
            wrongAnswers += 1
            if excludes, exclusion == nil { exclusion = error.description }
        case .busy:
            failureRate += (1 - failureRate) * 0.1
            if let moment = error.notBefore {
                restsUntil = max(restsUntil, moment)
                isBusy = true
            } else {
                rest(began: began, now: now)
            }
        case .timeout where isSearch: break
        case .unreachable, .timeout, .failed, .full, .conflict:
            failureRate += (1 - failureRate) * 0.1
            // One that has answered meanwhile is there: it is this request that it does not like.
            if answered < began { rest(began: began, now: now) }
        case .refused: failureRate += (1 - failureRate) * 0.1
        case .notFound, .cancelled: break
        }
    }

    private mutating func noteProblem(_ error: RemoteError) {
        problem = error
        problemTime = .now()
    }

    /// Rests for a time that grows with each failure of a request that began after the rest before it:
    /// many that fail together are one failure.
    private mutating func rest(began: Int64, now: Int64) {
        guard began > restBegan else { return }
        restMilliseconds = min(max(Self.restMin, restMilliseconds * 2), Self.restMax)
        restsUntil = max(restsUntil, now + restMilliseconds)
        restBegan = now
        isBusy = false
    }

    /// What is told of it.
    func status(_ address: String, _ kind: SourceKind, now: Int64) -> SourceStatus {
        let state: SourceStatus.State =
            if let exclusion {
                .excluded(because: exclusion)
            } else if restsUntil > now {
                .backingOff(
                    milliseconds: restsUntil - now, because: problem?.description ?? "it failed")
            } else {
                .ok
            }
        return SourceStatus(
            address: address, kind: kind, state: state, blocks: blocks, bytes: bytes,
            absences: absences, failures: failures, wrongAnswers: wrongAnswers,
            latencyMilliseconds: latency, problem: problem?.description, problemTime: problemTime)
    }
}
