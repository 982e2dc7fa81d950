internal import MerkleDAG
internal import Multiformats

extension Call {
    /// What a path means.
    struct Resolved {
        var cid: CID
        /// The path with its namespace, as `/ipfs/CID/name`.
        var path: String
    }

    /// Resolves `/ipfs/CID/name…`, `ipfs://CID`, or a bare CID with names behind it.
    func resolve(_ argument: [UInt8]) throws(Halt) -> Resolved {
        let text = String(decoding: argument, as: UTF8.self)
        let parts = text.split(separator: "/")
        if text.hasPrefix("/"), parts.count > 1, !["ipfs", "ipns"].contains(parts[0]) {
            throw .failed("invalid path \"\(text)\": unknown namespace: \"\(parts[0])\"")
        }
        if let content = Self.contentPath(text) { return try resolveContent(content, text) }
        // What Kubo says is what is wrong with the path as it came.
        do throws(Halt) {
            return try resolveContent("/ipfs/" + text, text)
        } catch .error(let error) {
            guard error.message.hasPrefix("invalid path"), !text.hasPrefix("/") else {
                throw .error(error)
            }
            throw .failed("invalid path \"\(text)\": path does not have enough components")
        } catch {
            throw error
        }
    }

    /// The path in a URI or with a namespace; nil if it has none.
    static func contentPath(_ text: String) -> String? {
        for (prefix, path) in [
            ("ipfs://", "/ipfs/"), ("ipns://", "/ipns/"), ("/ipfs/", "/ipfs/"),
            ("/ipns/", "/ipns/"),
        ] where text.hasPrefix(prefix) { return path + text.dropFirst(prefix.count) }
        return nil
    }

    private func resolveContent(_ path: String, _ text: String) throws(Halt) -> Resolved {
        var parts = path.split(separator: "/").map { String($0) }
        if parts.first == "ipns", parts.count > 1 {
            guard let value = node.name(parts[1]) else { throw .failed("could not resolve name") }
            parts = value.split(separator: "/").map { String($0) } + parts.dropFirst(2)
        }
        guard parts.count > 1 else {
            throw .failed("invalid path \"\(text)\": path does not have enough components")
        }
        let root: CID
        do throws(CIDError) {
            root = try CID(parsing: parts[1])
        } catch {
            let reason =
                parts[1].utf8.count < 2 ? "cid too short" : "selected encoding not supported"
            throw .failed("invalid path \"\(path)\": invalid cid: \(reason)")
        }
        var cid = root
        for name in parts.dropFirst(2) {
            cid = try child(Array(name.utf8), of: cid)
        }
        return Resolved(cid: cid, path: path)
    }

    private func child(_ name: [UInt8], of cid: CID) throws(Halt) -> CID {
        let entry: DirectoryEntry?
        do throws(DAGReadError) {
            entry = try DirectoryReader(root: cid, source: source).entry(name)
        } catch {
            if case .notDirectory = error {
                entry = nil
            } else {
                throw Self.halt(error)
            }
        }
        guard let entry else {
            let text = String(decoding: name, as: UTF8.self)
            throw .failed("no link named \"\(text)\" under \(cid)")
        }
        return entry.cid
    }

    /// The links of any block that has some.
    func links(_ cid: CID, isPinning: Bool = false) throws(Halt) -> [DAGLink] {
        let block = try block(cid, isPinning: isPinning)
        guard cid.codec == .dagPB else { return [] }
        do throws(BlockFormatError) {
            return try DAGNode(decoding: block).links
        } catch {
            throw .failed("\(cid): \(error)")
        }
    }

    /// Every block below `root`, once each, parents before children, the first child first.
    ///
    /// - Parameter eachHalfSecond: called so often while a block is waited for.
    func walk(
        _ root: CID, isPinning: Bool = false, eachHalfSecond: () throws(Halt) -> Void = {},
        _ body: (CID, [UInt8]) throws(Halt) -> Void
    ) throws(Halt) {
        var seen: Set<CID> = []
        var pending = [root]
        while let cid = pending.popLast() {
            guard seen.insert(cid).inserted else { continue }
            try check()
            let block = try block(cid, isPinning: isPinning, eachHalfSecond: eachHalfSecond)
            try body(cid, block)
            guard cid.codec == .dagPB, let node = try? DAGNode(decoding: block) else { continue }
            pending += node.links.reversed().map(\.cid)
        }
    }
}
