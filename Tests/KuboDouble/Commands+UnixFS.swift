internal import MerkleDAG
internal import Multiformats

extension Commands {
    static let unixfs: [String: Command] = [
        "add": Command(
            file: "path",
            options: [
                "quiet": .bool, "quieter": .bool, "silent": .bool, "progress": .bool,
                "only-hash": .bool, "wrap-with-directory": .bool, "pin": .bool, "pin-name": .text,
                "to-files": .text, "cid-version": .integer, "hash": .text, "raw-leaves": .bool,
                "chunker": .text, "trickle": .bool, "max-file-links": .integer,
                "mode": .unsigned, "mtime": .integer, "mtime-nsecs": .unsigned,
            ]
        ) { (call) throws(Halt) in
            var adder = try Adder(call)
            try adder.run()
        },
        "cat": Command(arguments: ["ipfs-path"], options: ["offset": .integer, "length": .integer])
        { (call) throws(Halt) in try cat(call) },
        "ls": Command(
            arguments: ["ipfs-path"],
            options: ["resolve-type": .bool, "size": .bool, "stream": .bool]
        ) { (call) throws(Halt) in try list(call) },
        "refs": Command(
            arguments: ["ipfs-path"],
            options: [
                "format": .text, "edges": .bool, "unique": .bool, "recursive": .bool,
                "max-depth": .integer,
            ]
        ) { (call) throws(Halt) in try references(call) },
        "refs/local": Command { (call) throws(Halt) in
            for multihash in call.node.blocks.multihashes.sorted() {
                try emitReference(CID(codec: .raw, multihash: multihash).description, call)
            }
        },
        "get": Command(arguments: ["ipfs-path"]) { (call) throws(Halt) in try get(call) },
    ]

    // MARK: Reading files

    static func reader(_ cid: CID, _ call: Call) throws(Halt) -> FileReader<CallSource> {
        do throws(DAGReadError) {
            return try FileReader(root: cid, source: call.source)
        } catch {
            throw Call.halt(error)
        }
    }

    /// Sends a part of a file, in pieces that end where its leaves do.
    static func stream(
        _ reader: inout FileReader<CallSource>, _ range: Range<UInt64>, _ call: Call
    ) throws(Halt) {
        try forEachPiece(of: &reader, range) { (piece) throws(Halt) in
            try call.reply.write(piece)
        }
    }

    static func forEachPiece(
        of reader: inout FileReader<CallSource>, _ range: Range<UInt64>,
        _ body: ([UInt8]) throws(Halt) -> Void
    ) throws(Halt) {
        var offset = range.lowerBound
        while offset < range.upperBound {
            let leaf: FileLeaf?
            do throws(DAGReadError) {
                leaf = try reader.leaf(at: offset)
            } catch {
                throw Call.halt(error)
            }
            guard let leaf else { return }
            let start = leaf.contentRange.lowerBound + Int(offset - leaf.fileRange.lowerBound)
            let end = min(range.upperBound, leaf.fileRange.upperBound)
            try body(Array(leaf.block[start..<(start + Int(end - offset))]))
            offset = end
        }
    }

    private static func cat(_ call: Call) throws(Halt) {
        var offset = call.integer("offset") ?? 0
        let length = call.integer("length")
        guard offset >= 0 else { throw .failed("cannot specify negative offset") }
        guard length ?? 0 >= 0 else { throw .failed("cannot specify negative length") }
        var left = length.map { UInt64($0) } ?? .max
        var parts: [(reader: FileReader<CallSource>, range: Range<UInt64>)] = []
        for argument in call.arguments where left > 0 {
            let reader = try reader(try call.resolve(argument).cid, call)
            guard UInt64(offset) <= reader.size else {
                offset -= Int64(reader.size)
                continue
            }
            let count = min(left, reader.size - UInt64(offset))
            parts.append((reader, UInt64(offset)..<(UInt64(offset) + count)))
            left -= count
            offset = 0
        }
        try call.reply.startStream(length: parts.reduce(0) { $0 + UInt64($1.range.count) })
        do throws(Halt) {
            for var part in parts { try stream(&part.reader, part.range, call) }
        } catch .error(let error) {
            // What is missing is not said.
            throw error.message.contains("could not find")
                ? .failed("failed to fetch all nodes") : .error(error)
        } catch {
            throw error
        }
    }

    // MARK: Looking

    private static func list(_ call: Call) throws(Halt) {
        var objects: [JSON] = []
        for argument in call.arguments {
            let cid = try call.resolve(argument).cid
            var links: [JSON] = []
            do throws(DAGReadError) {
                if case .directory = try call.source.unixfsEntry(cid) {
                    let reader = try DirectoryReader(root: cid, source: call.source)
                    for entry in try reader.entries() {
                        links.append(try line(entry.name, entry.cid, entry.treeSize, call))
                    }
                } else if cid.codec == .dagPB {
                    // Of a file, its parts.
                    let block = try call.source.verifiedBlock(cid)
                    for link in (try? DAGNode(decoding: block))?.links ?? [] {
                        links.append(try line(link.name, link.cid, link.treeSize, call))
                    }
                }
            } catch {
                throw Call.halt(error)
            }
            objects.append(
                .object([("Hash", .bytes(argument)), ("Links", .array(links))]))
        }
        try call.reply.emitOnce(.object([("Objects", .array(objects))]))
    }

    private static func line(
        _ name: [UInt8], _ cid: CID, _ treeSize: UInt64, _ call: Call
    ) throws(DAGReadError) -> JSON {
        var (size, type, target): (UInt64, Int64, [UInt8]) = (treeSize, 0, [])
        if call.isSet("resolve-type", default: true) {
            switch try call.source.unixfsEntry(cid) {
            case .file(let fileSize, _): (size, type) = (fileSize, 2)
            case .directory: (size, type) = (0, 1)
            case .symlink(let text, _): (type, target) = (4, text)
            }
        }
        return .object([
            ("Name", .bytes(name)), ("Hash", .string(call.text(cid))),
            ("Size", .unsigned(size)), ("Type", .integer(type)), ("Target", .bytes(target)),
            ("Mode", .integer(0)), ("ModTime", .string("0001-01-01T00:00:00Z")),
        ])
    }

    private static func emitReference(_ text: String, _ call: Call) throws(Halt) {
        try call.reply.emit(.object([("Ref", .string(text)), ("Err", .string(""))]))
    }

    private static func references(_ call: Call) throws(Halt) {
        let depth = call.isSet("recursive") ? call.integer("max-depth") ?? -1 : 1
        var seen: Set<CID> = []
        func visit(_ cid: CID, _ level: Int64) throws(Halt) {
            guard depth < 0 || level < depth else { return }
            for link in try call.links(cid) {
                let isNew = seen.insert(link.cid).inserted
                if isNew || !call.isSet("unique") {
                    let text = call.text(link.cid)
                    try emitReference(
                        call.isSet("edges") ? "\(call.text(cid)) -> \(text)" : text, call)
                }
                if isNew || !call.isSet("unique") { try visit(link.cid, level + 1) }
            }
        }
        for argument in call.arguments { try visit(try call.resolve(argument).cid, 0) }
    }

    // MARK: Archives of files

    /// One file as tar.
    private static func get(_ call: Call) throws(Halt) {
        let resolved = try call.resolve(call.arguments[0])
        var reader = try reader(resolved.cid, call)
        let name = resolved.path.split(separator: "/").last.map { String($0) } ?? ""
        guard name.utf8.count <= 100 else { throw .failed("the double has no such long names") }
        try call.reply.startStream(type: "application/x-tar", length: reader.size)
        try call.reply.write(tarHeader(name, size: reader.size))
        try stream(&reader, 0..<reader.size, call)
        let padding = Int((512 - reader.size % 512) % 512)
        try call.reply.write([UInt8](repeating: 0, count: padding + 1024))
    }

    private static func tarHeader(_ name: String, size: UInt64) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, at offset: Int) {
            header.replaceSubrange(offset..<(offset + text.utf8.count), with: text.utf8)
        }
        func octal(_ value: UInt64, _ width: Int) -> String {
            let digits = String(value, radix: 8)
            return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
        }
        put(name, at: 0)
        put("0000644", at: 100)
        put("0000000", at: 108)
        put("0000000", at: 116)
        put(octal(size, 11), at: 124)
        put(octal(0, 11), at: 136)
        put("        ", at: 148)
        put("0", at: 156)
        put("ustar", at: 257)
        put("00", at: 263)
        put(octal(header.reduce(0) { $0 + UInt64($1) }, 6), at: 148)
        header[154] = 0
        return header
    }
}

/// `ipfs add`: files and directories in parts that come one after the other.
private struct Adder {
    private final class Directory {
        var entries: [[UInt8]: Entry] = [:]
        /// The order in which they came.
        var names: [[UInt8]] = []
    }

    private enum Entry {
        case leaf(DAGRoot)
        case directory(Directory)
    }

    private static let progressStep = 1 << 18

    private let call: Call
    private let profile: ImportProfile
    private let metadata: UnixFSMetadata
    private let isStoring: Bool
    private let root = Directory()

    init(_ call: Call) throws(Halt) {
        self.call = call
        let base = call.node.profile
        let version = call.integer("cid-version").map { $0 == 0 ? 0 : 1 } ?? base.cidVersion
        var rawLeaves = call.isSet("raw-leaves", default: base.rawLeaves)
        var metadata = UnixFSMetadata.none
        if let mode = call.integer("mode"), mode != 0 {
            metadata.mode = UInt32(clamping: mode) & 0o777
        }
        if let mtime = call.integer("mtime"), mtime != 0 {
            let nanoseconds = UInt32(clamping: call.integer("mtime-nsecs") ?? 0)
            metadata.mtime = UnixFSTime(
                seconds: mtime, nanoseconds: min(nanoseconds, 999_999_999))
        }
        if !metadata.isEmpty {
            guard !rawLeaves else {
                throw .failed(
                    "raw-leaves can't be used with UnixFS metadata like mode or modification time")
            }
            rawLeaves = false
        }
        guard !call.isSet("trickle") else { throw .failed("the double does not add trickle DAGs") }
        let chunker = call.text("chunker") ?? "size-\(base.chunkSize)"
        guard chunker.hasPrefix("size-"), let chunkSize = Int(chunker.dropFirst(5)),
            (1...ImportProfile.chunkSizeMax).contains(chunkSize)
        else { throw .failed("unrecognized chunker option: \(chunker)") }
        let linksMax = call.integer("max-file-links").map { Int(clamping: $0) }
        profile = ImportProfile(
            chunkSize: chunkSize,
            fileLinksMax: min(max(linksMax ?? base.fileLinksMax, 2), ImportProfile.fileLinksLimit),
            rawLeaves: rawLeaves, cidVersion: version, hamtFanout: base.hamtFanout,
            directoryThreshold: base.directoryThreshold,
            directoryEstimation: base.directoryEstimation,
            directoryLinksMax: base.directoryLinksMax)
        self.metadata = metadata
        isStoring = !call.isSet("only-hash")
    }

    mutating func run() throws(Halt) {
        var count = 0
        while let part = try call.nextPart() {
            try add(part)
            count += 1
        }
        guard count > 0 else { throw .failed("expected a file argument") }
        if call.isSet("wrap-with-directory") {
            try finish(try close(root, name: []), name: [])
        } else {
            for name in root.names {
                switch root.entries[name] {
                case .leaf(let leaf):
                    try storeParent(of: leaf)
                    try finish(leaf, name: name)
                case .directory(let directory):
                    try finish(try close(directory, name: name), name: name)
                case nil: break
                }
            }
        }
    }

    private func add(_ part: MultipartReader.Part) throws(Halt) {
        let path = part.fileName ?? []
        let parts = path.split(separator: UInt8(ascii: "/")).map { Array($0) }
        let directory = directory(parts.dropLast())
        let name = parts.last ?? []
        switch part.contentType {
        case "application/x-directory", "multipart/form-data":
            while try !call.readPart(limit: 1 << 16).isEmpty {}
            if !name.isEmpty { _ = self.directory(parts) }
            return
        case "application/symlink":
            let target = try call.readWholePart(limit: 1 << 16)
            let (root, block) = profile.symlink(target: target)
            try store(root.cid, block)
            try insert(.leaf(root), name, into: directory)
            try emit(path, root)
        default:
            let file = try importFile(path)
            let shown = name.isEmpty ? Array(file.cid.description.utf8) : name
            try insert(.leaf(file), shown, into: directory)
            try emit(path.isEmpty ? shown : path, file)
        }
    }

    private func insert(
        _ entry: Entry, _ name: [UInt8], into directory: Directory
    ) throws(Halt) {
        if directory.entries.updateValue(entry, forKey: name) == nil {
            directory.names.append(name)
        }
    }

    private func directory(_ path: some Sequence<[UInt8]>) -> Directory {
        var current = root
        for name in path {
            if case .directory(let next) = current.entries[name] {
                current = next
            } else {
                let next = Directory()
                if current.entries.updateValue(.directory(next), forKey: name) == nil {
                    current.names.append(name)
                }
                current = next
            }
        }
        return current
    }

    private func importFile(_ path: [UInt8]) throws(Halt) -> DAGRoot {
        let hasProgress = call.isSet("progress")
        var count = 0
        var shown = 0
        let root = try profile.importFile(
            metadata: metadata,
            read: { (buffer) throws(Halt) in
                let piece = try call.readPart(limit: buffer.count)
                buffer.copyBytes(from: piece)
                count += piece.count
                if hasProgress, count - shown >= Self.progressStep || piece.isEmpty, count > shown {
                    shown = count
                    try emitProgress(path, count)
                }
                return piece.count
            },
            emit: isStoring ? { (cid, block) throws(Halt) in try store(cid, block) } : nil)
        return root
    }

    private func store(_ cid: CID, _ block: [UInt8]) throws(Halt) {
        if isStoring { try Commands.receive(cid.multihash, block, call) }
    }

    private func emitProgress(_ path: [UInt8], _ count: Int) throws(Halt) {
        try call.reply.emit(.object([("Name", .bytes(path)), ("Bytes", .integer(Int64(count)))]))
    }

    private func emit(_ path: [UInt8], _ root: DAGRoot) throws(Halt) {
        guard !call.isSet("silent") else { return }
        try call.reply.emit(
            .object([
                ("Name", .bytes(path)), ("Hash", .string(call.text(root.cid))),
                ("Size", .string(String(root.treeSize))),
            ]))
    }

    /// Makes the nodes of a directory and of those in it, and says so, from below.
    private func close(_ directory: Directory, name: [UInt8]) throws(Halt) -> DAGRoot {
        var builder = DirectoryBuilder(profile: profile)
        for entry in directory.names.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            let node: DAGRoot
            switch directory.entries[entry] {
            case .leaf(let leaf): node = leaf
            case .directory(let child):
                let path = name.isEmpty ? entry : name + [UInt8(ascii: "/")] + entry
                node = try close(child, name: path)
            case nil: continue
            }
            builder.add(name: entry, cid: node.cid, treeSize: node.treeSize)
        }
        do {
            let root = try builder.finish { (cid, block) throws(Halt) in try store(cid, block) }
            try emit(name, root)
            return root
        } catch let error as DirectoryBuildError<Halt> {
            if case .sink(let halt) = error { throw halt }
            throw .failed("\(error)")
        } catch {
            throw error as? Halt ?? .failed("\(error)")
        }
    }

    /// A node adds a file to a directory of its own, which it then forgets.
    private func storeParent(of file: DAGRoot) throws(Halt) {
        var builder = DirectoryBuilder(profile: profile)
        builder.add(
            name: Array(file.cid.description.utf8), cid: file.cid, treeSize: file.treeSize)
        do {
            _ = try builder.finish { (cid, block) throws(Halt) in try store(cid, block) }
        } catch {
            if case .sink(let halt) = error { throw halt }
            throw .failed("\(error)")
        }
    }

    /// What is done with every top-level entry.
    private func finish(_ root: DAGRoot, name: [UInt8]) throws(Halt) {
        guard isStoring else { return }
        if call.isSet("pin", default: true) {
            try call.node.setPin(
                Pin(cid: root.cid, isRecursive: true, name: call.text("pin-name") ?? ""))
        }
        guard let target = call.text("to-files") else { return }
        let checked = try MFSTree.checked(Array(target.utf8))
        let path = checked.last == MFSTree.slash ? checked + name : checked
        try call.withMFS { (tree) throws(Halt) in
            try tree.put(MFSLink(cid: root.cid, treeSize: root.treeSize), at: path)
        }
    }
}
