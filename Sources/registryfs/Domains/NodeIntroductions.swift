import Base
import HTTP
import Kubo
import Logging

import struct SystemPackage.Errno

/// Has the Kubo node connect to the nodes that domains name, on a thread that runs while there are some.
///
/// Nobody waits for it, and nothing depends on it: the node finds blocks sooner at a node that it is connected to.
final class NodeIntroductions: Sendable {
    private struct State {
        var waiting: [String] = []
        /// When each address was taken, by `MonotonicClock.milliseconds`.
        var taken: [String: Int64] = [:]
        var hasThread = false
    }

    /// The most addresses that wait, and that are remembered.
    private static let waitingMax = 64
    private static let takenMax = 256
    /// How long an address is not taken again: it is told with each look-up.
    private static let againMilliseconds: Int64 = 300_000
    private static let connectMilliseconds = 10_000

    private let client: KuboClient
    private let log: Logger
    private let state = Monitor(State())

    init(_ client: KuboClient, log: Logger) {
        self.client = client
        self.log = log
    }

    /// Takes addresses, which are passed over where too many wait. Returns at once.
    func introduce(_ addresses: [String]) {
        let now = MonotonicClock.milliseconds
        let startsThread = state.withLock { state in
            for address in addresses where state.waiting.count < Self.waitingMax {
                if let at = state.taken[address], now - at < Self.againMilliseconds { continue }
                if state.taken.count >= Self.takenMax,
                    let oldest = state.taken.min(by: { $0.value < $1.value })
                {
                    state.taken[oldest.key] = nil
                }
                state.taken[address] = now
                state.waiting.append(address)
            }
            guard !state.waiting.isEmpty, !state.hasThread else { return false }
            state.hasThread = true
            return true
        }
        guard startsThread else { return }
        do throws(Errno) {
            try Threads.startDetached(name: "rfs-introduce") { [self] in work() }
        } catch {
            state.withLock { $0.hasThread = false }
        }
    }

    private func work() {
        while let address = next() {
            do throws(KuboError) {
                try client.connect(to: address, deadlineMilliseconds: Self.connectMilliseconds)
                log.info("the node is connected", metadata: ["to": "\(address)"])
            } catch {
                log.info("the node does not connect to one that a domain names: \(error)")
            }
        }
    }

    private func next() -> String? {
        state.withLock { state in
            guard !state.waiting.isEmpty else {
                state.hasThread = false
                return nil
            }
            return state.waiting.removeFirst()
        }
    }
}

/// The address of a node, as a domain names it.
enum NodeAddress {
    /// Whether a node is connected to there.
    ///
    /// - Parameter isInsecure: also at addresses that are not public.
    static func isAsked(_ multiaddr: String, isInsecure: Bool) -> Bool {
        let parts = multiaddr.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count >= 5, parts[0].isEmpty else { return false }
        switch parts[1] {
        case "ip4", "ip6":
            guard let isPublic = PublicAddress.isPublic(String(parts[2])) else { return false }
            return isPublic || isInsecure
        case "dns", "dns4", "dns6", "dnsaddr": return parts[2].contains(".") || isInsecure
        default: return false
        }
    }
}
