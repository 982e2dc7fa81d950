import Base
import Kubo
import Naming

/// A Kubo node as somebody who has IPNS records.
struct KuboRecords: IPNSRecordSource {
    let client: KuboClient

    init(_ client: KuboClient) {
        self.client = client
    }

    var address: String { "\(client.configuration.address)" }

    func record(
        of name: IPNSName, deadline: Int64, cancellation: Cancellation?
    ) throws(NamingError) -> [UInt8] {
        let left = max(1, deadline - MonotonicClock.milliseconds)
        do throws(KuboError) {
            return try client.record(
                of: name.description, deadlineMilliseconds: Int(clamping: left),
                cancellation: cancellation)
        } catch {
            throw NamingError(error.naming, "\(address): \(error)")
        }
    }
}

extension KuboError {
    /// What the failure means for whoever wanted a record.
    var naming: NamingError.Kind {
        switch kind {
        case .notFound: .notFound
        case .offline: .unreachable
        case .timeout: .timeout
        case .cancelled: .cancelled
        case .refused, .authorization: .refused
        case .protocolViolation: .malformed
        case .busy, .conflict, .full, .failed: .failed
        }
    }
}
