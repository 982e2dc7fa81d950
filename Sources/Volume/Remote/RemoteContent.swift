internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import ObjectStore

internal import struct SystemPackage.Errno

extension Volume {
    /// The bytes of a remote object, as far as they are here; under the manifest's lock.
    ///
    /// - Throws: EIO where the volume has no node to get the rest from.
    func remoteFile(
        of object: ObjectRecord, _ state: ManifestState
    ) throws(Errno) -> RemoteFile {
        guard let fetcher, let cid = object.cid else {
            throw .ioError.because(
                "object \(object.id): its bytes are elsewhere: mount the volume with --kubo, --gateway or --car"
            )
        }
        if let file = remotes(state).files[object.id] { return file }
        let file = RemoteFile(
            object: object.id, cid: cid, size: object.size,
            expected: state.grafts.unverified[object.id], fetcher.extents)
        remotes(state).files[object.id] = file
        return file
    }

    /// Reads bytes of a remote object. Of a blob of a graft, all of them are read first, and compared with its digest.
    func read(
        _ file: RemoteFile, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int {
        guard let fetcher else { throw .ioError.because("the volume has no node") }
        if !file.isVerified { try verify(file, fetcher) }
        return try file.read(at: offset, into: buffer, self, fetcher)
    }

    /// Copies the first bytes of a remote object into a flat file.
    func copy(
        _ remote: RemoteFile, size: UInt64, to file: ObjectFile
    ) throws(Errno) {
        // What others say that a file has, they need not have.
        if let fetcher, !hasRoom(for: size, fetcher) { throw .noSpace }
        let buffer = OwnedBuffer(byteCount: 1 << 20)
        var offset: UInt64 = 0
        while offset < size {
            let part = UnsafeMutableRawBufferPointer(
                rebasing: buffer.bytes[..<Int(min(UInt64(buffer.bytes.count), size - offset))])
            let count = try read(remote, at: offset, into: part)
            guard count == part.count else {
                throw .ioError.because("object \(remote.object): it has fewer bytes than its file")
            }
            try Sys.write(file.raw, at: offset, UnsafeRawBufferPointer(part))
            offset += UInt64(count)
        }
    }

    /// Makes an object whose bytes have all come an ordinary sealed one, where its DAG is the one
    /// that the profile makes of them. Another DAG's bytes stay in the cache: only its own nodes and
    /// leaves give its CID.
    func keepWhole(_ remote: RemoteFile) {
        // What it is said to be has not been found true yet: `verify` comes here again.
        guard remote.isVerified, let blocks = profileBlocks(of: remote) else { return }
        do throws(Errno) {
            // The nodes above have the Tsize that the link told.
            let treeSize = try manifest.withLock { (state) throws(Errno) in
                try state.object(remote.object)?.treeSize
            }
            guard treeSize == blocks.treeSize else { return }
            // As a reader, so that it stays open, and as it is, although its name goes from the cache.
            let file = try remote.state.withLock { (state) throws(Errno) -> ObjectFile? in
                guard state.missing == 0, let file = try remote.openFile(&state, store) else {
                    return nil
                }
                state.readers += 1
                return file
            }
            defer { if file != nil { remote.endRead() } }
            let isInline = remote.size <= UInt64(options.inlineSizeMax)
            var inline: [UInt8]?
            if isInline {
                // Some may have been let go again: a thread that fetches waits for no fetch.
                guard let bytes = try remote.wholeBytes(store) else { return }
                inline = bytes
            } else {
                let isEvicting = manifest.withLock { $0.files.isEvicting(remote.object) }
                guard let file, !isEvicting else { return }
                do throws(Errno) {
                    try store.keepCached(file)
                } catch {
                    // It may have lost its name in the cache before.
                    let isCached = (try? store.openCached(remote.object)) != nil
                    if !isCached { try letGo(of: remote) }
                    throw error
                }
            }
            let isKept = try manifest.withLock { (state) throws(Errno) in
                // Bytes may have been let go again, before the file came here.
                let isWhole = remote.state.withLock { state in
                    defer { if state.missing == 0 { state.isGone = true } }
                    return state.missing == 0 && !state.isGone
                }
                guard isWhole, let record = try state.object(remote.object),
                    record.state == .remote, record.cid == remote.cid
                else { return false }
                state.keepLocally(record, blocks, inlineBytes: inline)
                if connection != nil, !state.grafts.all.isEmpty {
                    // It may have come from a domain's gateway: the node has not acknowledged it.
                    record.place(in: 0, state)
                    state.sealed.noteSealed(record.id)
                }
                remotes(state).files[remote.object] = nil
                remotes(state).closed.remove(remote.object)
                return true
            }
            if isKept {
                let extents = remote.state.withLock { remote.present($0) }
                noteKept(remote.object, extents, isInline: isInline)
                if isInline { try store.removeCached(remote.object) }
            } else if !isInline {
                // What is half a file must not stand where a whole one is looked for.
                try letGo(of: remote)
            }
            remote.state.wakeAll()
        } catch {
            log.warning(
                "object \(remote.object): stays in the cache: \(FailureCause.words(for: error))")
        }
    }

    /// Forgets what is here of a remote object whose file is no longer one of the cache, and removes that.
    private func letGo(of remote: RemoteFile) throws(Errno) {
        let extents = remote.end()
        fetcher?.cache.withLock { $0.remove(extents) }
        manifest.withLock { state in
            if remotes(state).files[remote.object] === remote {
                remotes(state).files[remote.object] = nil
                remotes(state).closed.remove(remote.object)
            }
        }
        try store.remove(remote.object)
    }

    /// Whether all bytes of a remote object are here, and it stays one: its DAG is another than the profile's.
    func staysRemote(_ object: UInt64) -> Bool {
        let (file, treeSize) = manifest.withLock { state in
            (remotes(state).files[object], (try? state.object(object))?.treeSize)
        }
        guard let file, file.state.withLock({ $0.missing == 0 && !$0.isGone }) else { return false }
        guard let blocks = profileBlocks(of: file) else { return true }
        return blocks.treeSize != treeSize
    }

    /// The leaves and nodes of a whole file, where they are those that the profile makes.
    private func profileBlocks(of remote: RemoteFile) -> SealResult? {
        let extents = remote.state.withLock { $0.extents }
        var assembler = FileDAGAssembler(profile: profile)
        let chunk = UInt64(profile.chunkSize)
        for (index, part) in extents.enumerated() {
            let isLast = index == extents.count - 1
            guard isLast ? part.length <= chunk : part.length == chunk else { return nil }
            assembler.add(profile.leaf(part.cid, length: part.length))
        }
        let blocks = assembler.finish()
        return blocks.cid == remote.cid ? blocks : nil
    }
}
