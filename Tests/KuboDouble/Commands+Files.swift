internal import Foundation
internal import MerkleDAG
internal import Multiformats

extension Commands {
    static let files: [String: Command] = [
        "files/stat": Command(
            arguments: ["path"],
            options: ["format": .text, "hash": .bool, "size": .bool, "with-local": .bool]
        ) { (call) throws(Halt) in try stat(call) },
        "files/ls": Command(options: ["long": .bool, "U": .bool]) { (call) throws(Halt) in
            try list(call)
        },
        "files/mkdir": Command(
            arguments: ["path"],
            options: ["parents": .bool, "cid-version": .integer, "hash": .text]
        ) { (call) throws(Halt) in
            let path = try MFSTree.checked(call.arguments[0])
            let isFlushing = isFlushing(call)
            try changing(call) { (tree) throws(Halt) in
                try tree.countOperation(isFlushing: isFlushing)
                try tree.makeDirectory(
                    path, isMakingParents: call.isSet("parents"), isFlushing: isFlushing,
                    cidVersion: cidVersion(call))
            }
        },
        "files/cp": Command(
            arguments: ["source", "dest"],
            options: ["parents": .bool, "force": .bool, "cid-version": .integer, "hash": .text]
        ) { (call) throws(Halt) in try copy(call) },
        "files/mv": Command(arguments: ["source", "dest"]) { (call) throws(Halt) in
            let isFlushing = isFlushing(call)
            try changing(call) { (tree) throws(Halt) in
                try tree.countOperation(isFlushing: isFlushing)
                let source = try MFSTree.checked(call.arguments[0])
                let target = try MFSTree.checked(call.arguments[1])
                try tree.move(source, to: target)
                guard isFlushing else { return }
                let sourceParent = MFSTree.parent(source)
                let targetParent = MFSTree.parent(target)
                let text = MFSTree.text(target)
                try naming("cp: cannot flush the destination file's parent folder \(text): ") {
                    () throws(Halt) in try tree.flush(targetParent)
                }
                if sourceParent != targetParent {
                    try naming("cp: cannot flush the source's file's parent folder \(text): ") {
                        () throws(Halt) in try tree.flush(sourceParent)
                    }
                }
                try tree.flush([MFSTree.slash])
            }
        },
        "files/rm": Command(arguments: ["path"], options: ["recursive": .bool, "force": .bool]) {
            (call) throws(Halt) in try remove(call)
        },
        "files/flush": Command { (call) throws(Halt) in
            let path = call.arguments.first ?? [MFSTree.slash]
            let link = try call.withMFS { (tree) throws(Halt) in
                let link = try tree.flush(path)
                try tree.countOperation(isFlushing: true)
                return link
            }
            try call.reply.emitOnce(.object([("Cid", .string(call.text(link.cid)))]))
        },
        "files/chcid": Command(
            arguments: ["path"], options: ["cid-version": .integer, "hash": .text]
        ) { (call) throws(Halt) in try changeFormat(call) },
        "files/chmod": Command(arguments: ["mode", "path"]) { (call) throws(Halt) in
            let path = try MFSTree.checked(call.arguments[1])
            let text = call.argument(0)
            guard let mode = UInt32(text, radix: 8) else {
                throw .failed("strconv.ParseInt: parsing \"\(text)\": invalid syntax")
            }
            try changeMetadata(path, call) { $0.mode = mode & 0o777 }
        },
        "files/touch": Command(
            arguments: ["path"], options: ["mtime": .integer, "mtime-nsecs": .unsigned]
        ) { (call) throws(Halt) in
            let path = try MFSTree.checked(call.arguments[0])
            var time = UnixFSTime(seconds: Int64(Date().timeIntervalSince1970))
            if let seconds = call.integer("mtime"), seconds != 0 {
                let nanoseconds = UInt32(clamping: call.integer("mtime-nsecs") ?? 0)
                time = UnixFSTime(
                    seconds: seconds, nanoseconds: min(nanoseconds, 999_999_999))
            }
            try changeMetadata(path, call) { $0.mtime = time }
        },
        "files/read": Command(
            arguments: ["path"], options: ["offset": .integer, "count": .integer]
        ) { (call) throws(Halt) in try read(call) },
        "files/write": Command(
            arguments: ["path"], file: "data",
            options: [
                "offset": .integer, "create": .bool, "parents": .bool, "truncate": .bool,
                "count": .integer, "raw-leaves": .bool, "cid-version": .integer, "hash": .text,
            ]
        ) { (call) throws(Halt) in try write(call) },
    ]

    private static func isFlushing(_ call: Call) -> Bool { call.isSet("flush", default: true) }

    private static func cidVersion(_ call: Call) -> Int {
        call.integer("cid-version").map { $0 == 0 ? 0 : 1 } ?? call.node.profile.cidVersion
    }

    private static func changing(
        _ call: Call, _ body: (MFSTree) throws(Halt) -> Void
    ) throws(Halt) {
        try call.withMFS(body)
        try call.reply.startChunked()
    }

    /// Says of an error what was to be done.
    @discardableResult
    private static func naming<Result>(
        _ prefix: String, _ body: () throws(Halt) -> Result
    ) throws(Halt) -> Result {
        do throws(Halt) {
            return try body()
        } catch .error(let error) {
            throw .failed(prefix + error.message)
        } catch {
            throw error
        }
    }

    // MARK: Looking

    /// The node at an MFS path, or at a content path.
    private static func node(_ argument: [UInt8], _ call: Call) throws(Halt) -> CID {
        let text = String(decoding: argument, as: UTF8.self)
        if Call.contentPath(text) != nil {
            let cid = try call.resolve(argument).cid
            _ = try call.block(cid)
            return cid
        }
        let path = try MFSTree.checked(argument)
        return try call.withMFS { (tree) throws(Halt) in
            try tree.lookup(path).node(isCleaning: false).cid
        }
    }

    private static func stat(_ call: Call) throws(Halt) {
        let formats = [call.isSet("hash"), call.isSet("size"), call.text("format") != nil]
        guard formats.filter({ $0 }).count < 2 else {
            throw .error(
                CommandError(
                    "invalid parameters: format was set by multiple options. Only one format option "
                        + "is allowed", code: 1))
        }
        let cid = try node(call.arguments[0], call)
        let block = try call.block(cid)
        var size = UInt64(block.count)
        var treeSize = size
        var linkCount = 0
        var type = "file"
        var metadata = UnixFSMetadata.none
        var isSymlink = false
        if cid.codec == .dagPB {
            do throws(BlockFormatError) {
                let node = try DAGNode(decoding: block)
                let data = try UnixFSData(decoding: node.data ?? [])
                linkCount = node.links.count
                treeSize = node.treeSize(blockSize: block.count)
                metadata = data.metadata
                switch data.kind {
                case .directory, .hamtShard: (type, size) = ("directory", 0)
                case .symlink: (isSymlink, size) = (true, UInt64(data.data?.count ?? 0))
                default: size = data.fileSize ?? UInt64(data.data?.count ?? 0)
                }
            } catch {
                throw .failed("\(error)")
            }
        } else if cid.codec != .raw {
            throw .failed("not unixfs node (proto or raw)")
        }
        var members: [(String, JSON)] = [
            ("Hash", .string(call.text(cid))), ("Size", .unsigned(size)),
            ("CumulativeSize", .unsigned(treeSize)), ("Blocks", .integer(Int64(linkCount))),
            ("Type", .string(type)),
        ]
        if call.isSet("with-local") {
            let (isLocal, localSize) = locality(cid, call)
            members.append(("WithLocality", .bool(true)))
            if isLocal { members.append(("Local", .bool(true))) }
            if localSize > 0 { members.append(("SizeLocal", .unsigned(localSize))) }
        }
        if let mtime = metadata.mtime {
            members.append(("Mtime", .integer(mtime.seconds)))
            if mtime.nanoseconds > 0 {
                members.append(("MtimeNsecs", .integer(Int64(mtime.nanoseconds))))
            }
        }
        if let mode = metadata.mode, mode != 0 {
            // As Go has it: what is a directory says so in a high bit.
            let bits = type == "directory" ? UInt64(mode) | 1 << 31 : UInt64(mode)
            let text = String(bits, radix: 8)
            members.append(
                ("Mode", .string(String(repeating: "0", count: max(0, 4 - text.count)) + text)))
        } else if isSymlink {
            members.append(("Mode", .string(String(1 << 27 | 0o777, radix: 8))))
        }
        try call.reply.emitOnce(.object(members))
    }

    /// Whether all is here below a node that is here, and how many bytes are, counted by links.
    private static func locality(_ cid: CID, _ call: Call) -> (isLocal: Bool, size: UInt64) {
        guard let block = call.node.blocks.block(cid.multihash) else { return (false, 0) }
        var (isLocal, size) = (true, UInt64(block.count))
        guard cid.codec == .dagPB else { return (isLocal, size) }
        for link in (try? DAGNode(decoding: block))?.links ?? [] {
            let child = locality(link.cid, call)
            isLocal = isLocal && child.isLocal
            size &+= child.size
        }
        return (isLocal, size)
    }

    private static func list(_ call: Call) throws(Halt) {
        let path = try MFSTree.checked(call.arguments.first ?? [MFSTree.slash])
        let isLong = call.isSet("long")
        var entries: [JSON] = []
        func add(_ name: [UInt8], _ node: (any MFSNode)?, _ tree: MFSTree) throws(Halt) {
            var (type, size, hash): (Int64, UInt64, String) = (0, 0, "")
            if isLong, let node {
                let cid = try node.node(isCleaning: false).cid
                hash = call.text(cid)
                if node is MFSDirectory {
                    type = 1
                } else {
                    size = try fileSize(cid, tree)
                }
            }
            entries.append(
                .object([
                    ("Name", .bytes(name)), ("Type", .integer(type)), ("Size", .unsigned(size)),
                    ("Hash", .string(hash)),
                ]))
        }
        try call.withMFS { (tree) throws(Halt) in
            entries = []
            let node = try tree.lookup(path)
            guard let directory = node as? MFSDirectory else {
                try add(MFSTree.split(path).name, node, tree)
                return
            }
            for name in directory.names {
                try add(name, isLong ? try directory.child(name) : nil, tree)
            }
        }
        try call.reply.emitOnce(
            .object([("Entries", entries.isEmpty ? .null : .array(entries))]))
    }

    private static func fileSize(_ cid: CID, _ tree: MFSTree) throws(Halt) -> UInt64 {
        let block = try tree.block(cid)
        guard cid.codec == .dagPB, let node = try? DAGNode(decoding: block),
            let data = try? UnixFSData(decoding: node.data ?? [])
        else { return UInt64(block.count) }
        return data.fileSize ?? UInt64(data.data?.count ?? 0)
    }

    private static func read(_ call: Call) throws(Halt) {
        let path = try MFSTree.checked(call.arguments[0])
        let text = MFSTree.text(path)
        let cid = try naming("\(text): ") { () throws(Halt) in
            try call.withMFS { (tree) throws(Halt) -> CID? in
                let node = try tree.lookup(path)
                return node is MFSFile ? try node.node(isCleaning: false).cid : nil
            }
        }
        guard let cid else { throw .failed("\(text) was not a file") }
        let offset = call.integer("offset") ?? 0
        let count = call.integer("count")
        guard offset >= 0 else { throw .failed("cannot specify negative offset") }
        guard count ?? 0 >= 0 else { throw .failed("cannot specify negative 'count'") }
        var reader = try reader(cid, call)
        guard UInt64(offset) <= reader.size else {
            throw .failed("offset was past end of file (\(offset) > \(reader.size))")
        }
        let end = count.map { min(reader.size, UInt64(offset) &+ UInt64($0)) } ?? reader.size
        try call.reply.startStream()
        try stream(&reader, UInt64(offset)..<end, call)
    }

    // MARK: Changing

    private static func copy(_ call: Call) throws(Halt) {
        let sourceText = call.argument(0)
        let isContent = Call.contentPath(sourceText) != nil
        let source = isContent ? call.arguments[0] : try MFSTree.checked(call.arguments[0])
        let trimmed = Array(source.reversed().drop { $0 == MFSTree.slash }.reversed())
        var target = try MFSTree.checked(call.arguments[1])
        if target.last == MFSTree.slash { target += MFSTree.split(trimmed).name }
        let cid = try naming("cp: cannot get node from path \(MFSTree.text(trimmed)): ") {
            () throws(Halt) in
            try node(trimmed.isEmpty ? [MFSTree.slash] : trimmed, call)
        }
        try checkUnixFS(cid, call)
        let isFlushing = isFlushing(call)
        let text = MFSTree.text(target)
        try changing(call) { (tree) throws(Halt) in
            if call.isSet("parents"), MFSTree.parent(target) != [MFSTree.slash] {
                try tree.makeDirectory(
                    MFSTree.parent(target), isMakingParents: true, isFlushing: false,
                    cidVersion: cidVersion(call))
            }
            if call.isSet("force") {
                try naming("cp: cannot unlink existing file: ") { () throws(Halt) in
                    try unlinkFile(target, tree)
                }
            }
            try tree.countOperation(isFlushing: isFlushing)
            let link = try tree.link(cid)
            try naming("cp: cannot put node in path \(text): ") { () throws(Halt) in
                try tree.put(link, at: target)
            }
            guard isFlushing else { return }
            try naming("cp: cannot flush the created file \(text): ") { () throws(Halt) in
                try tree.flush(target)
            }
            try naming("cp: cannot flush the created file's parent folder \(text): ") {
                () throws(Halt) in try tree.flush(MFSTree.parent(target))
            }
        }
    }

    private static func checkUnixFS(_ cid: CID, _ call: Call) throws(Halt) {
        let message = "cp: source must be a valid UnixFS (dag-pb or raw codec)"
        if cid.codec == .raw { return }
        guard cid.codec == .dagPB else { throw .failed(message) }
        let block = try call.block(cid)
        do throws(BlockFormatError) {
            _ = try UnixFSData(decoding: try DAGNode(decoding: block).data ?? [])
        } catch {
            throw .failed("\(message): \(error)")
        }
    }

    /// What `force` does: a file goes, a directory is an error.
    private static func unlinkFile(_ path: [UInt8], _ tree: MFSTree) throws(Halt) {
        let (parent, name) = MFSTree.split(path)
        if try tree.isMissing(parent) { return }
        guard let directory = try tree.lookup(parent) as? MFSDirectory else {
            throw .failed("not a directory: \(MFSTree.text(parent))")
        }
        guard let child = try directory.child(name) else { return }
        guard child is MFSFile else { throw .failed("not a file: \(MFSTree.text(path))") }
        try directory.unlink(name)
    }

    private static func remove(_ call: Call) throws(Halt) {
        guard isFlushing(call) else {
            throw .failed(
                "files rm always flushes for safety. The --flush flag cannot be set to false for "
                    + "this command")
        }
        var messages: [String] = []
        for argument in call.arguments {
            do throws(Halt) {
                let path = try naming("\(MFSTree.text(argument)) is not a valid path: ") {
                    () throws(Halt) in try MFSTree.checked(argument)
                }
                try naming("\(MFSTree.text(path)): ") { () throws(Halt) in
                    try call.withMFS { (tree) throws(Halt) in
                        try tree.remove(
                            path, isRecursive: call.isSet("recursive"),
                            isForced: call.isSet("force"))
                    }
                }
            } catch .error(let error) {
                messages.append(error.message)
            } catch {
                throw error
            }
        }
        for message in messages { try call.reply.emit(.string(message)) }
        guard messages.isEmpty else { throw .failed("can't remove some files") }
    }

    private static func changeFormat(_ call: Call) throws(Halt) {
        let path = call.arguments[0]
        guard path != [MFSTree.slash] else {
            throw .failed(
                "cannot change CID format of the MFS root; use 'ipfs config Import.CidVersion' and "
                    + "'ipfs config Import.HashFunction' instead")
        }
        let isFlushing = isFlushing(call)
        try changing(call) { (tree) throws(Halt) in
            if let version = call.integer("cid-version") {
                guard let directory = try tree.lookup(path) as? MFSDirectory else {
                    throw .failed("can only update directories")
                }
                directory.cidVersion = version == 0 ? 0 : 1
            }
            guard isFlushing else { return }
            try tree.flush(path)
            try tree.flush(MFSTree.parent(path))
        }
    }

    /// Sets mode or time of a node; a raw leaf becomes a dag-pb node, of version 0.
    private static func changeMetadata(
        _ path: [UInt8], _ call: Call, _ change: (inout UnixFSMetadata) -> Void
    ) throws(Halt) {
        try changing(call) { (tree) throws(Halt) in
            let node = try tree.lookup(path)
            if let directory = node as? MFSDirectory {
                directory.setMetadata(change)
                return
            }
            guard let file = node as? MFSFile else { return }
            let cid = file.link.cid
            let block = try tree.block(cid)
            var links: [DAGLink] = []
            var data = UnixFSData(kind: .file, data: block, fileSize: UInt64(block.count))
            if cid.codec == .dagPB {
                do throws(BlockFormatError) {
                    let node = try DAGNode(decoding: block)
                    links = node.links
                    data = try UnixFSData(decoding: node.data ?? [])
                } catch {
                    throw .failed("\(error)")
                }
            }
            change(&data.metadata)
            let changed = DAGNode(links: links, data: data.encoded())
            let encoded = changed.encoded()
            let changedCID = CID.dagPB(
                sha256: encoded, version: cid.codec == .dagPB ? cid.version : 0)
            try tree.store(changedCID, encoded)
            try file.replace(
                with: MFSLink(
                    cid: changedCID, treeSize: changed.treeSize(blockSize: encoded.count)))
        }
    }

    // MARK: Writing

    /// What a file holds, leaf by leaf.
    private struct Content {
        var bytes: [UInt8] = []
        /// Where the leaves end.
        var ends: [Int] = []
        var metadata = UnixFSMetadata.none

        var chunks: [ArraySlice<UInt8>] {
            zip([0] + ends, ends).map { bytes[$0..<$1] }
        }

        mutating func truncate() {
            bytes = []
            // The first leaf stays, empty.
            ends = ends.isEmpty ? [] : [0]
        }

        mutating func write(_ new: [UInt8], at offset: Int, chunkSize: Int) {
            let oldCount = bytes.count
            if offset > bytes.count {
                bytes += [UInt8](repeating: 0, count: offset - bytes.count)
                append(from: oldCount, chunkSize: 4096)
            }
            let overlap = min(new.count, bytes.count - offset)
            bytes.replaceSubrange(offset..<(offset + overlap), with: new[..<overlap])
            let end = bytes.count
            bytes += new[overlap...]
            append(from: end, chunkSize: chunkSize)
        }

        private mutating func append(from start: Int, chunkSize: Int) {
            var end = start
            while end < bytes.count {
                end = min(end + chunkSize, bytes.count)
                ends.append(end)
            }
        }
    }

    private static func content(_ root: CID, _ tree: MFSTree) throws(Halt) -> Content {
        var content = Content()
        // The next one last. Leaves without content count: they keep their place.
        var pending = [root]
        while let cid = pending.popLast() {
            let block = try tree.block(cid)
            guard cid.codec == .dagPB else {
                content.bytes += block
                content.ends.append(content.bytes.count)
                continue
            }
            do throws(BlockFormatError) {
                let node = try DAGNode(decoding: block)
                let data = try UnixFSData(decoding: node.data ?? [])
                if cid == root { content.metadata = data.metadata }
                pending += node.links.reversed().map(\.cid)
                guard node.links.isEmpty else { continue }
                content.bytes += data.data ?? []
                content.ends.append(content.bytes.count)
            } catch {
                throw .failed("\(error)")
            }
        }
        return content
    }

    private static func write(_ call: Call) throws(Halt) {
        let path = try MFSTree.checked(call.arguments[0])
        let isFlushing = isFlushing(call)
        let offset = call.integer("offset") ?? 0
        guard offset >= 0 else { throw .failed("cannot have negative write offset") }
        let version = cidVersion(call)
        let rawLeaves = call.isSet("raw-leaves", default: call.node.profile.rawLeaves)
        let fresh = try call.withMFS { (tree) throws(Halt) -> MFSLink? in
            try tree.countOperation(isFlushing: isFlushing)
            if call.isSet("parents"), MFSTree.parent(path) != [MFSTree.slash] {
                try tree.makeDirectory(
                    MFSTree.parent(path), isMakingParents: true, isFlushing: false,
                    cidVersion: version)
            }
            guard try tree.isMissing(path) else {
                guard try tree.lookup(path) is MFSFile else {
                    throw .failed("\(MFSTree.text(path)) was not a file")
                }
                return nil
            }
            guard call.isSet("create") else { throw MFSTree.notFound }
            let block = DAGNode(data: UnixFSData(kind: .file, fileSize: 0).encoded()).encoded()
            let cid = CID.dagPB(sha256: block, version: version)
            try tree.store(cid, block)
            let link = MFSLink(cid: cid, treeSize: UInt64(block.count))
            try tree.put(link, at: path)
            return link
        }
        // What came of a body that was cut is written nevertheless.
        var new: [UInt8] = []
        var halt: Halt?
        do throws(Halt) {
            _ = try call.nextPart()
            while true {
                let piece = try call.readPart(limit: 1 << 20)
                if piece.isEmpty { break }
                new += piece
            }
            while try call.nextPart() != nil {}
        } catch {
            halt = error
        }
        if let count = call.integer("count") { new = Array(new.prefix(Int(max(0, count)))) }
        try call.withMFS { (tree) throws(Halt) in
            guard let file = try tree.lookup(path) as? MFSFile else { throw MFSTree.notFound }
            var content =
                fresh?.cid == file.link.cid ? Content() : try content(file.link.cid, tree)
            if call.isSet("truncate") { content.truncate() }
            content.write(new, at: Int(offset), chunkSize: call.node.profile.chunkSize)
            if content.metadata.mtime != nil {
                content.metadata.mtime = UnixFSTime(seconds: Int64(Date().timeIntervalSince1970))
            }
            let cid = file.link.cid
            let builder = TrickleBuilder(
                cidVersion: cid.codec == .dagPB ? cid.version : version, rawLeaves: rawLeaves,
                metadata: content.metadata
            ) { (cid, block) throws(Halt) in try tree.store(cid, block) }
            let link = try builder.build(content.chunks)
            if isFlushing {
                try file.replace(with: link)
                try tree.flush(MFSTree.parent(path))
            } else {
                file.replaceQuietly(with: link)
            }
        }
        if let halt { throw halt }
        try call.reply.startChunked()
    }
}
