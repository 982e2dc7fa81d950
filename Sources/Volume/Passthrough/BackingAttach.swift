internal import Base
internal import Glibc
internal import InodeManifest
internal import Logging
internal import ObjectStore

public import struct SystemPackage.Errno

// Which files are opened with a backing file, so that their reads and writes need no request:
//
//   content                     opened to read             opened to write
//   none, or inline             by requests                a file of the pool, with the content;
//                                                          by requests where others of such a name
//                                                          stayed small (SmallFilePredictor)
//   flat, one inode's           its object                 its object, unsealed durably first
//   flat, shared                its object, for one of     by requests; where a reader has it open
//                               the inodes at a time       already, the others get a copy
//   flat, lent to others        by requests                by requests
//   set-id bits                 as above                   by requests
//
// The first open decides, and what it decided holds until the last close: the kernel refuses to mix
// both ways, or two backing files, on one inode.

extension Volume {
    /// Has files opened from now on with backing files where that is possible.
    ///
    /// - Throws: why the registry refuses a file of the object store; nothing is changed then.
    public func useBackingFiles(_ registry: any BackingRegistry) throws(Errno) {
        guard !options.isReadOnly else {
            passthrough.pool.start(registry)
            return
        }
        let probe = try makePoolFile(registry)
        passthrough.pool.start(registry)
        recycle(probe)
        let thread = try Threads.start(name: "rfs-pool") { [weak self, pool = passthrough.pool] in
            while let registry = pool.waitUntilLow() { self?.refillPool(registry) }
        }
        clock.add([thread])
    }

    /// Makes files for the pool ahead of their use. What fails is tried again at the next use, by who
    /// needs one.
    private func refillPool(_ registry: any BackingRegistry) {
        var made: [BackingPool.Ready] = []
        do throws(Errno) {
            while made.count < BackingPool.refillCount { made.append(try makePoolFile(registry)) }
        } catch {
            log.debug("volume: no backing files ahead: \(error)")
        }
        var areDurable = true
        do throws(Errno) {
            try store.synchronizeNames(of: made.map(\.file))
        } catch {
            // No flush of what is written to them could be believed.
            areDurable = false
            log.warning("volume: no backing files ahead: their names cannot be flushed: \(error)")
        }
        for file in made where !areDurable || !passthrough.pool.put(file) {
            passthrough.pool.unregister(file.id)
            discard(file.file.id)
        }
    }

    /// How an open file's bytes are got at; decides it where this is the inode's only open handle.
    ///
    /// - Parameter isNew: nobody has looked at the inode's attributes yet.
    func access(for description: FileHandle, isNew: Bool) throws(Errno) -> FileAccess {
        let file = description.file
        let flags = description.flags
        guard let registry = passthrough.pool.registry else {
            return try reading { (state) throws(Errno) in
                requestAccess(to: file, try record(file.inode, state), flags, state)
            }
        }
        return try file.writeLock.withLock { (_) throws(Errno) in
            while true {
                switch try nextStep(for: file, flags) {
                case .done(let access):
                    if case .backingFile = access, flags.isMappable, !isNew {
                        registry.attributesMayChange(of: file.inode)
                    }
                    return access
                case .makeWritable(let backing):
                    try makeWritable(file, backing)
                case .register(let backing):
                    let id = try registry.register(backing.file.raw)
                    manifest.withLock { state in file(state).passthrough.register(id) }
                case .usePool(let bytes):
                    if try !attachPoolFile(to: file, holding: bytes, registry) { refuse(file) }
                case .useObject:
                    let flat =
                        flags.isWritable
                        ? try ownFlatFileHere(of: file) : try currentFlatFile(of: file)
                    if let flat, try !attach(flat, to: file, flags, registry) { refuse(file) }
                }
            }
        }
    }

    private enum AccessStep {
        case done(FileAccess)
        case makeWritable(Backing)
        case register(Backing)
        case usePool([UInt8])
        case useObject
    }

    private func nextStep(for file: OpenFile, _ flags: OpenFlags) throws(Errno) -> AccessStep {
        try reading { (state) throws(Errno) in
            let record = try record(file.inode, state)
            let hasSetID = record.mode & 0o6000 != 0
            if let backing = file(state).backing {
                file(state).passthrough.use(isMappable: flags.isMappable)
                if flags.isWritable, !backing.isWritable { return .makeWritable(backing) }
                guard let id = backing.id else { return .register(backing) }
                let byRequest = flags.isSynchronous || (flags.isWritable && hasSetID)
                return .done(.backingFile(id, byRequest: byRequest))
            }
            let byRequest = requestAccess(to: file, record, flags, state)
            if file(state).passthrough.state == .byRequests { return .done(byRequest) }
            let object = try state.object(of: record)
            guard let object, !object.isInline else {
                // Nobody could keep a backing file from taking the room that the manifest needs.
                guard flags.isWritable, !hasSetID, (try? checkRoom(state)) != nil else {
                    return refuse(file, byRequest, state)
                }
                // What is read or mapped too may be a database's: that grows.
                if !flags.isReadable, let nameClass = file(state).nameClass,
                    passthrough(state).smallFiles.isSmall(nameClass)
                {
                    return refuse(file, byRequest, state)
                }
                guard let object else { return .usePool([]) }
                return .usePool(try state.inlineBytes(of: object))
            }
            if object.state == .remote { return refuse(file, byRequest, state) }
            // Should somebody write later, it would be in the backing file, which whoever it is lent to reads: nobody
            // could be given a copy.
            if state.lent.contains(object.id) { return refuse(file, byRequest, state) }
            if flags.isWritable, hasSetID || state.isShared(object) {
                return refuse(file, byRequest, state)
            }
            if let holder = passthrough(state).backed[object.id], holder != file.inode {
                return refuse(file, byRequest, state)
            }
            return .useObject
        }
    }

    private func refuse(
        _ file: OpenFile, _ access: FileAccess, _ state: ManifestState
    ) -> AccessStep {
        file(state).passthrough.refuse()
        return .done(access)
    }

    private func refuse(_ file: OpenFile) {
        manifest.withLock { state in file(state).passthrough.refuse() }
    }

    /// The access by requests; notes that the cache before them holds what it reads from now on.
    private func requestAccess(
        to file: OpenFile, _ record: InodeRecord, _ flags: OpenFlags, _ state: ManifestState
    ) -> FileAccess {
        // The kernel is the only one who changes files here, so its pages always hold, unless the
        // file was changed in a backing file; but a read that must move the access time has to come
        // through.
        let holds = kernel(state).notePages(of: file.inode, hold: true)
        return .volume(keepsPages: holds && !(flags.isReadable && wantsAccessTime(record)))
    }

    /// A flat file of the inode's own; nil where the cache has let go of the content since it was
    /// looked at. To fetch it is for the first write, which needs no lock for that.
    private func ownFlatFileHere(of file: OpenFile) throws(Errno) -> ObjectFile? {
        do throws(Errno) {
            return try ownFlatFile(of: file, keeping: .max)
        } catch {
            guard error == RemoteFile.elsewhere else { throw error }
            return nil
        }
    }

    /// The flat file of an inode's object; nil where it has none by now.
    private func currentFlatFile(of file: OpenFile) throws(Errno) -> ObjectFile? {
        try reading { (state) throws(Errno) in
            guard let object = try state.object(of: try record(file.inode, state)),
                !object.isInline, object.state != .remote
            else { return nil }
            return try objectFile(file, object: object.id, forWriting: !options.isReadOnly, state)
        }
    }

    /// Makes the inode's own flat file its backing file; false where it cannot be registered.
    private func attach(
        _ flat: ObjectFile, to file: OpenFile, _ flags: OpenFlags, _ registry: any BackingRegistry
    ) throws(Errno) -> Bool {
        if !flags.isWritable, isLentByEarlier(flat) { return false }
        guard let id = register(flat, registry) else { return false }
        let wantsAccess = try reading { (state) throws(Errno) in
            wantsAccessTime(try record(file.inode, state)) && !options.isReadOnly
        }
        // The disk below moves the time at the next read then, by its own `relatime`.
        if wantsAccess { try? Sys.setAccessTime(of: flat.raw, to: Timestamp(nanoseconds: 0)) }
        let status = try Sys.status(of: flat.raw)
        let isAttached = try reading { (state) throws(Errno) in
            let record = try record(file.inode, state)
            // Sealing may have found a duplicate meanwhile, or it may have been lent.
            guard record.object == flat.id, !state.lent.contains(flat.id),
                passthrough(state).backed[flat.id] ?? file.inode == file.inode
            else { return false }
            _ = use(record, state)
            file(state).passthrough.attach(
                Backing(file: flat, id: id, isPooled: false, status))
            passthrough(state).backed[flat.id] = file.inode
            if flags.isWritable { noteWritable(file, record, state) }
            return true
        }
        if !isAttached { registry.unregister(id) }
        return true
    }

    private func noteWritable(
        _ file: OpenFile, as flat: ObjectFile? = nil, _ record: InodeRecord, _ state: ManifestState
    ) {
        file(state).passthrough.makeWritable(flat)
        record.contentVersion += 1
        kernel(state).notePages(of: file.inode, hold: false)
    }

    private func register(
        _ flat: ObjectFile, _ registry: any BackingRegistry
    ) -> BackingID? {
        do throws(Errno) {
            return try registry.register(flat.raw)
        } catch {
            log.warning("object \(flat.id): served without passthrough: \(error)")
            return nil
        }
    }

    /// Makes a file of the pool the backing file; false where there is none to be had.
    private func attachPoolFile(
        to file: OpenFile, holding bytes: [UInt8], _ registry: any BackingRegistry
    ) throws(Errno) -> Bool {
        let ready: BackingPool.Ready
        do throws(Errno) {
            if let taken = passthrough.pool.take() {
                ready = taken
            } else {
                ready = try makePoolFile(registry)
            }
        } catch {
            log.debug("\(file.inode): served without passthrough: \(error)")
            return false
        }
        do throws(Errno) {
            try bytes.withBytes { (content) throws(Errno) in
                try Sys.write(ready.file.raw, at: 0, content)
            }
        } catch {
            log.debug("\(file.inode): served without passthrough: \(error)")
            recycle(ready)
            return false
        }
        do throws(Errno) {
            let status = try Sys.status(of: ready.file.raw)
            try reading { (state) throws(Errno) in
                let record = try record(file.inode, state)
                _ = use(record, state)
                file(state).passthrough.attach(
                    Backing(file: ready.file, id: ready.id, isPooled: true, status))
                noteWritable(file, record, state)
            }
        } catch {
            recycle(ready)
            throw error
        }
        return true
    }

    private func makePoolFile(
        _ registry: any BackingRegistry
    ) throws(Errno) -> BackingPool.Ready {
        let id = manifest.withLock { $0.numbers.reserve() }
        do throws(Errno) {
            let file = try store.create(id)
            return BackingPool.Ready(file: file, id: try registry.register(file.raw))
        } catch {
            discard(id)
            throw error
        }
    }

    /// Removes a flat file that never was an object.
    func discard(_ id: UInt64) {
        do throws(Errno) {
            try store.remove(id)
            manifest.withLock { $0.numbers.release(id) }
        } catch {
            log.warning("object \(id): an unused file cannot be removed: \(error)")
            // Like any object without a user, it goes after a commit.
            manifest.withLock { state in state.release(state.makeObject(id: id, size: 0)) }
        }
    }

    /// Empties a file of the pool and puts it back, or removes it.
    func recycle(_ ready: BackingPool.Ready) {
        let isOld = manifest.withLock { state in
            state.numbers.isOld(ready.file.id, by: BackingPool.numberAgeMax)
        }
        if !isOld, (try? empty(ready.file)) != nil, store.flushFailure(of: ready.file.id) == nil,
            passthrough.pool.put(ready)
        {
            return
        }
        passthrough.pool.unregister(ready.id)
        discard(ready.file.id)
    }

    /// Takes all bytes of a backing file away.
    ///
    /// ext4 takes truncation to nothing for the first half of replacing a file, and writes what comes
    /// after it to the disk when the file is next closed (auto_da_alloc in the kernel's ext4.rst): of
    /// small files, which the manifest keeps, that is a write and a discard for nothing. So what is empty
    /// stays as it is (docker-registry 2.8 cuts each file that it has just made), and of what is not,
    /// one close more, while there is nothing to write, ends that.
    func empty(_ file: ObjectFile) throws(Errno) {
        let status = try Sys.status(of: file.raw)
        // Room may be reserved beyond the end (fallocate(2) with FALLOC_FL_KEEP_SIZE).
        if status.size == 0, status.blocks == 0 { return store.noteEmptied(file.id) }
        try Sys.truncate(file.raw, to: 0)
        store.noteEmptied(file.id)
        // Without it nothing is lost but time.
        _ = try? store.open(file.id, forWriting: false)
    }

    /// Gives the pool's files back; what is still open stays with its backing file.
    func stopBackingFiles() {
        for ready in passthrough.pool.stop() {
            passthrough.pool.unregister(ready.id)
            discard(ready.file.id)
        }
        // What is still mapped keeps its file; the name goes, where it is no object's.
        let unused = manifest.withLock { state in
            opens(state).files.values.compactMap { file -> UInt64? in
                guard let backing = file(state).backing, backing.isPooled,
                    (try? state.inode(file.inode))?.object != backing.file.id
                else { return nil }
                return backing.file.id
            }
        }
        for id in unused { discard(id) }
    }

    /// Lets a file that is open to read be written, in the backing file that it has; gives that. The
    /// caller holds the write lock.
    @discardableResult
    func makeWritable(_ file: OpenFile, _ backing: Backing) throws(Errno) -> ObjectFile {
        while true {
            let isShared = try changing { (state) throws(Errno) in
                let record = try record(file.inode, state)
                return try state.object(of: record).map { state.isShared($0) } ?? false
            }
            if isShared { try leaveSharing(file, backing) }
            guard let flat = try unsealedFlatFile(of: file) else { continue }
            try reading { (state) throws(Errno) in
                noteWritable(file, as: flat, try record(file.inode, state), state)
            }
            return flat
        }
    }

    /// Gives the other inodes that share an object a copy of it, because this one's backing file is
    /// to be written: the two flat files exchange their names, so nobody else's record changes.
    private func leaveSharing(_ file: OpenFile, _ backing: Backing) throws(Errno) {
        let shared = backing.file.id
        let (id, size) = try changing { (state) throws(Errno) in
            try checkRoom(state)
            return (state.numbers.reserve(), try record(file.inode, state).size)
        }
        do throws(Errno) {
            let copy = try fillFlatFile(id, from: .flat(backing.file), size: size)
            try copy.synchronize(in: store)
            // Until a commit says more, both hold the same, so a crash may come at any point.
            try store.exchange(shared, id)
        } catch {
            discard(id)
            throw error
        }
        try changing { (state) throws(Errno) in
            let record = try record(file.inode, state)
            let old = try state.object(of: record)
            record.object = state.makeObject(id: id, size: size).id
            record.contentVersion += 1
            state.mark(record)
            if let old { state.release(old) }
            passthrough(state).backed[shared] = nil
            passthrough(state).backed[id] = file.inode
            opens.filesAhead(state).noteExchange()
            for other in opens(state).files.values where other(state).file?.id == shared {
                other(state).file = nil
            }
            view.flatFiles(state).drop(shared)
            try outdateTree(above: record, state)
        }
        // Reads of the others that began before must not see what is written from now on.
        while manifest.withLock({ state in opens(state).sharedReads[shared] != nil }) {
            usleep(100)
        }
    }
}
