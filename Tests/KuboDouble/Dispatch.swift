internal import Foundation

/// From a request to the command that it calls.
enum Dispatch {
    private static let prefix = "/api/v0/"
    private static let denied =
        "Kubo RPC Access Denied: Please provide a valid authorization token as defined in the "
        + "API.Authorizations configuration.\n"

    /// Answers one request, and never throws: whoever cannot be answered is gone.
    static func answer(_ exchange: Exchange, _ node: DoubleNode) {
        do throws(Halt) {
            let path = exchange.head.target.split(separator: "?", maxSplits: 1)[0]
            if path.hasPrefix("/double/") {
                try Control.answer(exchange, String(path), node)
            } else {
                try answer(exchange, String(path), node)
            }
        } catch {
            exchange.cut()
        }
    }

    private static func answer(
        _ exchange: Exchange, _ path: String, _ node: DoubleNode
    ) throws(Halt) {
        let head = exchange.head
        let name = path.hasPrefix(prefix) ? String(path.dropFirst(prefix.count)) : ""
        let faults = node.switches.take(name)
        node.switches.count(name) { $0.calls += 1 }
        let reply = Reply(exchange, faults: faults)
        defer {
            let (byteCount, isError) = (reply.byteCount, reply.isError)
            node.switches.count(name) {
                $0.replyBytes += byteCount
                if isError { $0.errors += 1 }
            }
        }
        for fault in faults {
            switch fault.kind {
            case .latency: Thread.sleep(forTimeInterval: Double(fault.value ?? 0) / 1000)
            case .status:
                return try refuse(reply, fault)
            case .hang:
                let generation = node.switches.currentGeneration
                while !exchange.isGone, !node.isStopped,
                    node.switches.currentGeneration == generation
                {
                    Thread.sleep(forTimeInterval: 0.02)
                }
                throw .gone
            default: break
            }
        }
        guard node.isAllowed(path: path, header: head.header("Authorization")) else {
            return try reply.text(403, denied, extra: [])
        }
        guard isOriginAllowed(head, node) else { return try reply.text(403, "403 - Forbidden\n") }
        guard head.method == "POST" else {
            return try reply.text(
                405, "405 - Method Not Allowed\n",
                extra: [("Allow", "OPTIONS, POST"), ("Vary", "Origin")])
        }
        if let agent = head.header("User-Agent"), name != "version",
            agent.contains("/kubo/") || agent.contains("/go-ipfs/"),
            !agent.contains("/" + kuboDoubleVersion)
        {
            return try reply.text(
                400, "api version mismatch (/kubo/\(kuboDoubleVersion)/ != \(agent))\n", extra: [])
        }
        guard let command = Commands.all[name] else {
            return try reply.text(
                404, "404 page not found\n",
                extra: path.hasPrefix(prefix) ? [("Vary", "Origin")] : [])
        }
        try run(command, name, reply, exchange, node, faults)
    }

    private static func refuse(_ reply: Reply, _ fault: Fault) throws(Halt) {
        let message = fault.message ?? "an error on purpose"
        let status = fault.value ?? 500
        try reply.finish(CommandError(message, status: status == 400 ? 500 : status))
    }

    private static func run(
        _ command: Command, _ name: String, _ reply: Reply, _ exchange: Exchange,
        _ node: DoubleNode, _ faults: [Fault]
    ) throws(Halt) {
        var failure: CommandError?
        do throws(Halt) {
            let call = try Call(
                command, name: name, node: node, exchange: exchange, reply: reply, faults: faults)
            defer {
                let byteCount = call.requestByteCount
                node.switches.count(name) { $0.requestBytes += byteCount }
            }
            try command.run(call)
        } catch {
            switch error {
            case .error(let error): failure = error
            case .missing(let cid): failure = .missing(cid)
            case .gone: throw .gone
            }
        }
        if let fault = faults.first(where: { $0.kind == .lostReply }) {
            return try refuse(reply, fault)
        }
        try reply.finish(failure)
    }

    private static func isOriginAllowed(_ head: RequestHead, _ node: DoubleNode) -> Bool {
        guard let origin = head.header("Origin") ?? head.header("Referer") else { return true }
        return ["http://localhost", "http://127.0.0.1", "http://[::1]", "https://localhost"]
            .contains { origin == $0 || origin.hasPrefix($0 + ":") || origin.hasPrefix($0 + "/") }
    }
}

/// `/double/…`: faults and statistics for those who are not in this process.
enum Control {
    private struct Change: Codable {
        var faults: [Fault]?
        var refuse: Bool?
        var full: Bool?
    }

    static func answer(_ exchange: Exchange, _ path: String, _ node: DoubleNode) throws(Halt) {
        var body: [UInt8] = []
        while let piece = try exchange.nextBodyPiece() { body += piece }
        do {
            let output = try answer(exchange.head.method, path, body, node)
            try send(exchange, 200, output)
        } catch let halt as Halt {
            throw halt
        } catch {
            try send(exchange, 400, Data("\(error)\n".utf8))
        }
    }

    private struct Unknown: Error {
        var what: String
    }

    private static func answer(
        _ method: String, _ path: String, _ body: [UInt8], _ node: DoubleNode
    ) throws -> Data {
        switch (method, path) {
        case ("POST", "/double/faults"):
            // One fault, or {"faults": [...], "refuse": true, "full": true}.
            let data = Data(body)
            if let fault = try? JSONDecoder().decode(Fault.self, from: data) {
                node.add(fault)
            } else {
                let change = try JSONDecoder().decode(Change.self, from: data)
                for fault in change.faults ?? [] { node.add(fault) }
                if let isFull = change.full { node.setFull(isFull) }
                if let isRefusing = change.refuse {
                    // Not before this reply is on its way, which may use the same listener.
                    Thread.detachNewThread {
                        Thread.sleep(forTimeInterval: 0.05)
                        try? node.setRefusing(isRefusing)
                    }
                }
            }
        case ("DELETE", "/double/faults"): try node.clearFaults()
        case ("POST", "/double/restart"):
            Thread.detachNewThread {
                Thread.sleep(forTimeInterval: 0.05)
                try? node.restart()
            }
        case ("GET", "/double/stats"):
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys]
            return try encoder.encode(node.statistics) + Data("\n".utf8)
        case ("DELETE", "/double/stats"): node.resetStatistics()
        case ("POST", "/double/corrupt"):
            guard node.corruptBlock(String(decoding: body, as: UTF8.self)) else {
                throw Unknown(what: "no such block")
            }
        case ("POST", "/double/remove"): node.removeBlock(String(decoding: body, as: UTF8.self))
        default: throw Unknown(what: method + " " + path)
        }
        return Data()
    }

    private static func send(_ exchange: Exchange, _ status: Int, _ body: Data) throws(Halt) {
        try exchange.start(
            status: status,
            headers: [("Content-Type", "application/json"), ("Content-Length", "\(body.count)")])
        try exchange.write(body)
        try exchange.end(trailers: [])
    }
}
