internal import Foundation

extension Gateway {
    /// Does what goes wrong with this request before it is looked at.
    ///
    /// - Returns: whether that was the answer.
    func failOnPurpose() throws(Halt) -> Bool {
        for fault in faults {
            switch fault.kind {
            case .latency: Thread.sleep(forTimeInterval: Double(fault.value ?? 0) / 1000)
            case .status:
                try fail(fault.value ?? 500, fault.message ?? "an error on purpose")
                return true
            case .busy:
                try fail(
                    429, "too many requests", extra: [("Retry-After", "\(fault.value ?? 1)")])
                return true
            case .redirect:
                try fail(302, "elsewhere", extra: [("Location", fault.message ?? "/")])
                return true
            case .page:
                try sendPage()
                return true
            case .endless: try flood()
            case .hang: try hang()
            default: break
            }
        }
        return false
    }

    private var isOver: Bool { exchange.isGone || node.isStopped }

    private func hang() throws(Halt) {
        let generation = node.switches.currentGeneration
        while !isOver, node.switches.currentGeneration == generation {
            Thread.sleep(forTimeInterval: 0.02)
        }
        throw .gone
    }

    private func flood() throws(Halt) {
        try exchange.start(status: 200, headers: [("Content-Type", "application/vnd.ipld.raw")])
        let piece = [UInt8](repeating: 0x2e, count: 64 << 10)
        while !isOver { try exchange.write(piece) }
        throw .gone
    }

    private func sendPage() throws(Halt) {
        let body = Array("<!DOCTYPE html><title>Welcome</title>Please log in.\n".utf8)
        try exchange.start(
            status: 200,
            headers: [
                ("Content-Type", "text/html; charset=utf-8"), ("Content-Length", "\(body.count)"),
            ])
        try exchange.write(body)
        try exchange.end(trailers: [])
    }
}

extension Fault {
    /// Blocks for its `value` in milliseconds.
    func rest() { Thread.sleep(forTimeInterval: Double(value ?? 1) / 1000) }
}
