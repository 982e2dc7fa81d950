internal import Base
internal import DequeModule
internal import MerkleDAG
internal import Multiformats
internal import ObjectStore

internal import struct SystemPackage.Errno

extension VolumeCheck {
    /// Checks the bytes of all objects: sealed ones against their CIDs, leaves and nodes.
    func checkContent(
        profile: ImportProfile, store: ObjectStore?,
        progress: (_ done: UInt64, _ total: UInt64) -> Void
    ) throws(CheckFailure) {
        let total = try manifest.sealedBytes()
        progress(0, total)
        let pipeline = LeafPipeline(profile: profile)
        defer { pipeline.stop() }
        // Objects whose leaves are on their way, in the order of the leaves.
        var underWay = Deque<ObjectInspection>()
        func consume() throws(CheckFailure) {
            let outcome = pipeline.next()
            let inspection = underWay[0]
            bytesHashed += outcome.length
            progress(bytesHashed, max(total, bytesHashed))
            guard try inspection.take(outcome, check: self) else { return }
            underWay.removeFirst()
            try finish(inspection, profile: profile)
        }
        try manifest.forEachObject { (object, inline) throws(CheckFailure) in
            guard !object.isInline else {
                bytesHashed += object.isSealed ? UInt64(inline.count) : 0
                try checkInline(object, inline, profile: profile)
                return
            }
            guard let inspection = try open(object, store: store, profile: profile) else { return }
            underWay.append(inspection)
            for number in 0..<inspection.leafCount {
                while !pipeline.hasRoom { try consume() }
                pipeline.add(inspection.file, leaf: number, size: inspection.size)
            }
        }
        while !underWay.isEmpty { try consume() }
        progress(bytesHashed, max(total, bytesHashed))
    }

    private func fault(
        _ object: CheckedObject, _ text: String, mend: [CheckAction] = []
    ) throws(CheckFailure) {
        try manifest.report("\(try manifest.describe(object: object.id)): \(text)", mend: mend)
    }

    // MARK: Beginning

    private func checkInline(
        _ object: CheckedObject, _ bytes: UnsafeRawBufferPointer, profile: ImportProfile
    ) throws(CheckFailure) {
        guard object.isSealed else { return }
        let inspection = ObjectInspection(
            object, content: .inline(Array(bytes)), size: UInt64(bytes.count), profile: profile)
        for number in 0..<inspection.leafCount {
            let range = inspection.range(ofLeaf: number)
            let leaf = profile.leaf(UnsafeRawBufferPointer(rebasing: bytes[range]))
            _ = try inspection.take(.leaf(leaf, length: UInt64(range.count)), check: self)
        }
        try finish(inspection, profile: profile)
    }

    /// Opens the flat file of an object; nil where there is nothing to hash.
    private func open(
        _ object: CheckedObject, store: ObjectStore?, profile: ImportProfile
    ) throws(CheckFailure) -> ObjectInspection? {
        guard !object.isRemote else { return nil }
        let file: ObjectFile
        let fileSize: UInt64
        do throws(Errno) {
            guard let store else { throw .noSuchFileOrDirectory }
            file = try store.open(UInt64(bitPattern: object.id), forWriting: false)
            fileSize = try Sys.status(of: file.raw).size
        } catch {
            // A power loss takes a file whose bytes nobody made durable; the next mount has it
            // empty.
            if error == .noSuchFileOrDirectory, !object.isSealed {
                pending.lostFiles += 1
                return nil
            }
            try fault(
                object,
                error == .noSuchFileOrDirectory
                    ? "its flat file is missing" : "its flat file cannot be opened: \(error)")
            return nil
        }
        guard object.isSealed else {
            let owners = try manifest.inodes(
                holding: object.id, withSizeOtherThan: Int64(clamping: fileSize))
            pending.unsyncedSizes += UInt64(owners.count)
            return nil
        }
        guard let size = UInt64(exactly: object.size) else { return nil }
        return ObjectInspection(
            object, content: .flat(file, size: fileSize), size: min(size, fileSize),
            profile: profile)
    }

    // MARK: Ending

    /// Reports what the bytes of an object were found to be.
    private func finish(
        _ inspection: ObjectInspection, profile: ImportProfile
    ) throws(CheckFailure) {
        let object = inspection.object
        if let failure = inspection.failure {
            return try fault(object, "its flat file cannot be read: \(failure)")
        }
        // Without a CID there is nothing to compare with, which was reported.
        guard let stored = object.cid else { return }
        let root = try inspection.finish(check: self)
        guard root.cid.bytes == stored else {
            return try reportDamage(inspection, found: root, profile: profile)
        }
        try checkSize(of: inspection)
        if object.treeSize != Int64(clamping: root.treeSize) {
            let treeSize = Int64(clamping: root.treeSize)
            try fault(
                object, "its tree size is \(object.treeSize), not \(treeSize)",
                mend: [.setObjectTreeSize(object: object.id, treeSize: treeSize)])
        }
        if let text = inspection.blockFault {
            var mend: [CheckAction] = []
            if manifest.canMend, let blocks = inspection.seal(profile), blocks.cid == root.cid {
                mend = [.setBlocks(object: object.id, blocks)]
            }
            try fault(object, text, mend: mend)
        }
    }

    /// Compares the sizes that rows and files say with that of bytes which match the CID.
    private func checkSize(of inspection: ObjectInspection) throws(CheckFailure) {
        let object = inspection.object
        let size = Int64(clamping: inspection.size)
        if object.size != size {
            try fault(
                object, "its size is \(object.size), but it has \(size) bytes",
                mend: [.setObjectSize(object: object.id, size: size)])
        } else if case .flat(_, let fileSize) = inspection.content, fileSize > inspection.size {
            let name = try manifest.describe(object: object.id)
            try report("\(name): its flat file has \(fileSize) bytes, not \(size)") { text in
                .cut(object: UInt64(bitPattern: object.id), size: inspection.size, text: text)
            }
        }
        for (inode, other) in try manifest.inodes(holding: object.id, withSizeOtherThan: size) {
            try manifest.report(
                "\(try manifest.describe(inode: inode)): "
                    + "its size is \(other), but it has \(size) bytes",
                mend: [.setSize(inode: inode, size: size)])
        }
    }

    /// Reports bytes that do not match the CID, by leaf where the stored leaves tell which.
    private func reportDamage(
        _ inspection: ObjectInspection, found: DAGRoot, profile: ImportProfile
    ) throws(CheckFailure) {
        let object = inspection.object
        damagedObjects.insert(object.id)
        if case .flat(_, let fileSize) = inspection.content,
            fileSize < UInt64(clamping: object.size)
        {
            return try fault(
                object, "damaged: its flat file has only \(fileSize) of \(object.size) bytes")
        }
        guard inspection.differingCount > 0,
            try inspection.storedRoot(profile, check: self)?.cid.bytes == object.cid
        else {
            let cid = object.cid.flatMap { try? CID(bytes: $0) }
            return try fault(
                object,
                "damaged: its bytes do not match its CID \(cid.map { "\($0)" } ?? "(malformed)"), "
                    + "but have \(found.cid)")
        }
        for number in inspection.differing {
            let range = inspection.range(ofLeaf: number)
            try fault(
                object,
                "damaged: leaf \(number), bytes \(range.lowerBound) to \(range.upperBound - 1), "
                    + "does not match its hash")
        }
        let more = inspection.differingCount - UInt64(inspection.differing.count)
        if more > 0 { try fault(object, "damaged: \(more) more leaves do not match their hashes") }
    }
}
