import Testing
import Volume

/// The states of a backing file, and what leads from one to another.
@Suite struct BackingStateTests {
    private typealias State = BackingState
    private typealias Bytes = BackingState.Bytes

    private static let states: [State] =
        [.undecided, .byRequests] + Bytes.allCases.map { .open($0) }
        + Bytes.allCases.map { .closed($0) } + Bytes.allCases.map { .mapped($0) }

    /// All that is allowed between the ways to get at the bytes.
    private static let ways: [(from: State, State.Event, to: State)] =
        [
            (.undecided, .refuse, .byRequests),
            (.undecided, .attach, .open(.read)),
            (.undecided, .close, .undecided),
            (.byRequests, .close, .undecided),
        ]
        + Bytes.allCases.flatMap { bytes -> [(from: State, State.Event, to: State)] in
            [
                (.open(bytes), .use, .open(bytes)),
                (.open(bytes), .register, .open(bytes)),
                (.open(bytes), .close, .closed(bytes)),
                (.closed(bytes), .use, .open(bytes)),
                (.closed(bytes), .close, .closed(bytes)),
                (.closed(bytes), .unregister, .closed(bytes)),
                (.closed(bytes), .keepMapped, .mapped(bytes)),
                (.closed(bytes), .takeAway, .undecided),
                (.mapped(bytes), .use, .open(bytes)),
                (.mapped(bytes), .close, .mapped(bytes)),
                (.mapped(bytes), .unregister, .mapped(bytes)),
                (.mapped(bytes), .keepMapped, .mapped(bytes)),
                (.mapped(bytes), .takeAway, .undecided),
            ]
        }

    /// All that is allowed between what is known of the bytes, wherever there is a backing file.
    private static let knowledge: [(from: Bytes, State.Event, to: Bytes)] = [
        (.read, .makeWritable, .written),
        (.written, .change, .written),
        (.written, .sync, .synced),
        (.written, .syncTooSoon, .written),
        (.synced, .change, .written),
        (.synced, .sync, .synced),
        (.synced, .syncTooSoon, .written),
    ]

    private static func expected(_ state: State, _ event: State.Event) -> State? {
        if let way = ways.first(where: { $0.from == state && $0.1 == event }) { return way.to }
        guard let bytes = state.bytes,
            let next = knowledge.first(where: { $0.from == bytes && $0.1 == event })?.to
        else { return nil }
        switch state {
        case .open: return .open(next)
        case .closed: return .closed(next)
        case .mapped: return .mapped(next)
        case .undecided, .byRequests: return nil
        }
    }

    @Test func everyEventInEveryStateIsAllowedOrRefusedAsTheTableSays() {
        #expect(Self.states.count == 11 && State.Event.allCases.count == 12)
        var allowed = 0
        for state in Self.states {
            for event in State.Event.allCases {
                let next = state.after(event)
                #expect(next == Self.expected(state, event), "\(state), \(event)")
                if next != nil { allowed += 1 }
            }
        }
        #expect(allowed == Self.ways.count + 3 * Self.knowledge.count)
    }

    @Test func everyStateIsReachedAndLeft() {
        var reached: Set<State> = [.undecided]
        var next: [State] = [.undecided]
        while let state = next.popLast() {
            for event in State.Event.allCases {
                guard let after = state.after(event), reached.insert(after).inserted else {
                    continue
                }
                next.append(after)
            }
        }
        #expect(reached == Set(Self.states))
        for state in Self.states where state != .undecided {
            #expect(State.Event.allCases.contains { state.after($0).map { $0 != state } ?? false })
        }
    }

    @Test func whatMayBeWrittenStaysSoUntilItIsTakenAway() {
        for state in Self.states where state.isWritable {
            for event in State.Event.allCases {
                guard let after = state.after(event), !after.isWritable else { continue }
                #expect(event == .takeAway, "\(state), \(event)")
            }
        }
    }

    @Test func registrationLastsAsLongAsSomebodyHasItOpen() {
        for state in Self.states {
            if case .open = state {
                #expect(state.after(.unregister) == nil && state.after(.takeAway) == nil)
            } else {
                #expect(state.after(.register) == nil)
            }
        }
    }
}
