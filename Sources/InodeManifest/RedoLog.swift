internal import Base
internal import Glibc
internal import Multiformats

package import struct SystemPackage.Errno

// The redo log, `manifest.redo`: what was committed and SQLite has not been told of yet.
//
//   file       two segments of the same length, zeros at first
//   segment    records, the first at its start, each at the next multiple of 4096 bytes, and zeros
//              between; logs of before have them at the next multiple of 8
//   record     "rfr3" ("rfr1" of builds before format 4 of the database, "rfr2" before format 6), payload length u32, number u64, number before u64, head check of 8 bytes,
//              check of 16 bytes, payload
//   checks     the first bytes of the SHA-256 of the volume's log key and the record's first 24
//              bytes, and of the same with the payload behind
//
// All is little-endian; RedoRecord.swift has the payload. The key stands in `redo_log` beside the
// number of the commit up to which SQLite has everything. Nobody else knows it, so no file content
// that an older record left behind passes for a record.
//
// Validity: each commit has a higher number than the one before it, and names that. A number whose
// commit failed is not used again, because it may have reached the disk all the same.
//
// Recovery: what is newer than SQLite is applied in order, up to the first record that is not whole,
// as a crash may leave it behind. A whole one that is newer than that does not come of a crash,
// because each is written once the one before it is durable: it tells of damage, and then nothing
// is applied but by a repair.

/// The redo log, open for writing. Only who commits calls it, so never two threads at a time.
package struct RedoLog: ~Copyable {
    private let file: OwnedDescriptor
    /// The same file for writes that go past the page cache, which saves a fifth of a commit's time:
    /// there is no page to be made dirty and then found again. Nil where the filesystem has no such.
    private var direct: OwnedDescriptor?
    private let segmentByteCount: Int
    private let key: [UInt8]
    private var writer: RedoWriter
    /// Where a record is laid out for its write.
    private var block = OwnedBuffer(byteCount: 16 << 10)
    private var active = 0
    private var end = 0
    /// SQLite has all that the segment that is not active holds, durably.
    private var isOtherFree = true
    /// The newest number that was given to a commit.
    private var newest: UInt64
    /// The number of the newest commit that is durable.
    private(set) var durable: UInt64

    /// The name of the file in the state directory.
    package static let name = "manifest.redo"

    /// Makes the file in the length that it keeps, so that the flush of a record has bytes to write
    /// and nothing else. SQLite must have all that it holds.
    ///
    /// - Returns: nil where the disk has not many times that room.
    static func open(
        directory path: String, segmentByteCount: Int, key: [UInt8], number: UInt64
    ) throws(Errno) -> RedoLog? {
        let directory = try Sys.open(path, flags: O_RDONLY | O_DIRECTORY)
        let file = try Sys.openTrusted(name, in: directory.raw, flags: O_RDWR | O_CREAT)
        let goal = UInt64(segmentByteCount) * 2
        if try Sys.status(of: file.raw).size != goal {
            try Sys.truncate(file.raw, to: 0)
            let disk = try Sys.filesystemStatus(of: file.raw)
            guard disk.blocksAvailable &* disk.blockSize / 64 > goal else { return nil }
            let zeros = OwnedBuffer(byteCount: min(segmentByteCount, 1 << 20))
            zeros.bytes.initializeMemory(as: UInt8.self, repeating: 0)
            var end: UInt64 = 0
            while end < goal {
                let count = Int(min(goal - end, UInt64(zeros.bytes.count)))
                try Sys.write(
                    file.raw, at: end, UnsafeRawBufferPointer(rebasing: zeros.bytes[..<count]))
                end += UInt64(count)
            }
            try Sys.synchronize(file.raw)
            try Sys.synchronize(directory.raw)
        }
        return RedoLog(
            file: file, direct: try openDirect(in: directory.raw),
            segmentByteCount: segmentByteCount, key: key, number: number)
    }

    private static func openDirect(in directory: Int32) throws(Errno) -> OwnedDescriptor? {
        do throws(Errno) {
            return try Sys.openTrusted(name, in: directory, flags: O_RDWR | Sys.openDirect)
        } catch {
            guard error == .invalidArgument else { throw error }
            return nil
        }
    }

    private init(
        file: consuming OwnedDescriptor, direct: consuming OwnedDescriptor?,
        segmentByteCount: Int, key: [UInt8], number: UInt64
    ) {
        self.file = file
        self.direct = direct
        self.segmentByteCount = segmentByteCount
        self.key = key
        newest = number
        durable = number
        writer = RedoWriter(byteCountMax: segmentByteCount)
    }

    /// Whether so much is in use that a checkpoint is due.
    var isDue: Bool { end > segmentByteCount / 2 }

    /// Makes a batch durable. Blocks for a flush of the disk.
    ///
    /// - Returns: false where there is no room for it.
    /// - Throws: the errno of the write or the flush; the next record takes the place of this one.
    mutating func append(_ batch: CommitBatch) throws(Errno) -> Bool {
        guard writer.encode(batch) else { return false }
        let byteCount = RedoHead.next(
            after: writer.bytes.count, multipleOf: RedoHead.blockByteCount)
        guard end + byteCount <= segmentByteCount else { return false }
        writer.seal(number: takeNumber(), before: durable, key: key)
        if block.bytes.count < byteCount { block = OwnedBuffer(byteCount: byteCount) }
        block.bytes.copyBytes(from: writer.bytes)
        block.bytes[writer.bytes.count..<byteCount].initializeMemory(as: UInt8.self, repeating: 0)
        try write(
            UnsafeRawBufferPointer(rebasing: block.bytes[..<byteCount]),
            at: UInt64(active * segmentByteCount + end))
        durable = newest
        end += byteCount
        return true
    }

    /// Writes whole blocks durably: no record shares one with another, so none that is durable is ever
    /// written again.
    private mutating func write(
        _ bytes: UnsafeRawBufferPointer, at place: UInt64
    ) throws(Errno) {
        if let descriptor = direct?.raw {
            do throws(Errno) {
                return try Sys.writeDurably(descriptor, at: place, bytes)
            } catch {
                // Some filesystems say only here that their blocks are larger, or that they have none.
                guard error == .invalidArgument else { throw error }
                direct = nil
            }
        }
        try Sys.writeDurably(file.raw, at: place, bytes)
    }

    /// Takes the number of a commit that is told to SQLite alone.
    mutating func takeNumber() -> UInt64 {
        newest += 1
        return newest
    }

    /// Goes over to the other segment where that is free, so that `noteApplied` frees this one.
    mutating func turn() {
        guard isOtherFree else { return }
        isOtherFree = false
        active = 1 - active
        end = 0
    }

    /// Notes that SQLite has, durably, what was committed before the last turn and up to a number.
    mutating func noteApplied(_ number: UInt64) {
        isOtherFree = true
        durable = max(durable, number)
    }
}

/// The head of a record, and whether it is whole.
package struct RedoHead {
    /// Records are written by such blocks, which no disk tears another record for.
    static let blockByteCount = 4096
    /// What records began at multiples of, in logs of before.
    static let formerBlockByteCount = 8

    /// The first multiple from an offset on.
    static func next(after offset: Int, multipleOf size: Int) -> Int {
        (offset + size - 1) / size * size
    }

    /// How the payload is laid out; see RedoRecord.swift. The record's first bytes say it.
    enum Form: UInt32 {
        /// "rfr1": written before format 4 of the database, and still to be read.
        case former = 0x3172_6672
        /// "rfr2": written before format 6 of the database, and still to be read.
        case withoutSnapshots = 0x3272_6672
        /// "rfr3"
        case current = 0x3372_6672
    }

    static let byteCount = 48
    /// What the first check is of.
    private static let checkedByteCount = 24

    let number: UInt64
    let numberBefore: UInt64
    let payload: UnsafeRawBufferPointer
    let form: Form

    /// Writes the head of a record over its first bytes.
    static func seal(
        _ record: UnsafeMutableRawBufferPointer, number: UInt64, before: UInt64, key: [UInt8],
        form: Form = .current
    ) {
        let length = UInt32(truncatingIfNeeded: record.count - byteCount)
        record.storeBytes(of: form.rawValue.littleEndian, as: UInt32.self)
        record.storeBytes(of: length.littleEndian, toByteOffset: 4, as: UInt32.self)
        record.storeBytes(of: number.littleEndian, toByteOffset: 8, as: UInt64.self)
        record.storeBytes(of: before.littleEndian, toByteOffset: 16, as: UInt64.self)
        var hasher = headHasher(UnsafeRawBufferPointer(record), key: key)
        record[24..<32].copyBytes(from: check(hasher, byteCount: 8))
        hasher.update(UnsafeRawBufferPointer(rebasing: record[byteCount...]))
        record[32..<48].copyBytes(from: check(hasher, byteCount: 16))
    }

    /// A whole record with a right head, and zeros up to the next block: what a test puts into a log.
    ///
    /// - Parameter isFormer: the payload is of the form that builds before format 4 wrote.
    package static func record(
        payload: UnsafeRawBufferPointer, number: UInt64, before: UInt64, key: [UInt8],
        isFormer: Bool
    ) -> [UInt8] {
        let count = byteCount + payload.count
        let whole = next(after: count, multipleOf: blockByteCount)
        var record = [UInt8](repeating: 0, count: whole)
        record.withUnsafeMutableBytes { bytes in
            bytes[byteCount..<count].copyBytes(from: payload)
            seal(
                UnsafeMutableRawBufferPointer(rebasing: bytes[..<count]), number: number,
                before: before, key: key, form: isFormer ? .former : .current)
        }
        return record
    }

    /// The whole record at a place; nil where there is none, or none newer than a number.
    init?(in segment: UnsafeRawBufferPointer, at offset: Int, after number: UInt64, key: [UInt8]) {
        guard offset + Self.byteCount <= segment.count,
            let form = Form(
                rawValue: UInt32(
                    littleEndian: segment.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
        else { return nil }
        self.form = form
        let record = UnsafeRawBufferPointer(rebasing: segment[offset...])
        func load<Number: FixedWidthInteger>(_ offset: Int) -> Number {
            Number(littleEndian: record.loadUnaligned(fromByteOffset: offset, as: Number.self))
        }
        let length: UInt32 = load(4)
        self.number = load(8)
        numberBefore = load(16)
        guard self.number > number, self.number <= StoredRow.numberMax,
            Int(length) <= record.count - Self.byteCount
        else { return nil }
        payload = UnsafeRawBufferPointer(
            rebasing: record[Self.byteCount..<Self.byteCount + Int(length)])
        // The head's own check first: bytes that look like heads would have all of the rest hashed,
        // at each place.
        var hasher = Self.headHasher(record, key: key)
        guard record[24..<32].elementsEqual(Self.check(hasher, byteCount: 8)) else { return nil }
        hasher.update(payload)
        guard record[32..<48].elementsEqual(Self.check(hasher, byteCount: 16)) else { return nil }
    }

    private static func headHasher(_ record: UnsafeRawBufferPointer, key: [UInt8]) -> SHA256Hasher {
        var hasher = SHA256Hasher()
        hasher.update(key)
        hasher.update(UnsafeRawBufferPointer(rebasing: record[..<checkedByteCount]))
        return hasher
    }

    private static func check(_ hasher: SHA256Hasher, byteCount: Int) -> ArraySlice<UInt8> {
        // Two bytes stand before the digest of a multihash.
        hasher.finalize().bytes[2..<2 + byteCount]
    }
}

/// What a log holds that SQLite has not got.
package struct RedoTail {
    private(set) var batches: [CommitBatch] = []
    /// How many commits that are.
    package var commitCount: Int { batches.count }
    /// The number of the last of the batches, or what SQLite has.
    package private(set) var number: UInt64
    /// The newest number of all; above `number` where something between is damaged.
    package private(set) var newestNumber: UInt64
    /// The file is too long to be looked into.
    private var lengthDamage: String?

    /// The longest file that is taken for a log, in bytes.
    private static let byteCountMax: UInt64 = 1 << 28

    /// Reads a log; none is the same as an empty one.
    ///
    /// - Parameter applied: the number up to which SQLite has everything.
    package init(directory: String, key: [UInt8], applied: UInt64) throws(Errno) {
        guard let file = try Self.openFile(in: directory) else {
            self.init(UnsafeRawBufferPointer(start: nil, count: 0), key: key, applied: applied)
            return
        }
        let size = try Sys.status(of: file.raw).size
        guard size <= Self.byteCountMax else {
            self.init(UnsafeRawBufferPointer(start: nil, count: 0), key: key, applied: applied)
            lengthDamage = "its \(size) bytes are more than a log has"
            return
        }
        let buffer = OwnedBuffer(byteCount: Int(size))
        let count = try Sys.read(file.raw, at: 0, into: buffer.bytes)
        self.init(
            UnsafeRawBufferPointer(rebasing: buffer.bytes[..<count]), key: key, applied: applied)
    }

    /// Reads a log that lies in memory.
    package init(_ bytes: UnsafeRawBufferPointer, key: [UInt8], applied: UInt64) {
        number = applied
        newestNumber = applied
        let half = bytes.count / 2
        var segments = [bytes[..<half], bytes[half..<half * 2]].map {
            UnsafeRawBufferPointer(rebasing: $0)
        }
        let starts = segments.map { RedoHead(in: $0, at: 0, after: 0, key: key)?.number ?? .max }
        if starts[0] > starts[1] { segments.reverse() }
        for segment in segments { take(from: segment, key: key) }
        for segment in segments { lookForNewer(in: segment, key: key) }
    }

    private static func openFile(in directory: String) throws(Errno) -> OwnedDescriptor? {
        do throws(Errno) {
            return try Sys.openTrusted(
                directory + "/" + RedoLog.name, in: AT_FDCWD, flags: O_RDONLY)
        } catch {
            guard error == .noSuchFileOrDirectory else { throw error }
            return nil
        }
    }

    private mutating func take(from segment: UnsafeRawBufferPointer, key: [UInt8]) {
        var offset = 0
        var before: UInt64 = 0
        // Behind the newest record of a segment may lie whole ones of an earlier turn.
        while let (head, start) = Self.head(in: segment, from: offset, after: before, key: key),
            head.numberBefore <= number
        {
            if head.number > number {
                guard let batch = try? RedoReader.decode(head.payload, head.form) else { return }
                batches.append(batch)
                number = head.number
            }
            before = head.number
            offset = start + RedoHead.byteCount + head.payload.count
        }
    }

    /// The record that follows what ends at an offset, and where it stands.
    private static func head(
        in segment: UnsafeRawBufferPointer, from offset: Int, after number: UInt64, key: [UInt8]
    ) -> (RedoHead, Int)? {
        // In a block of its own a record has zeros behind it.
        for size in [RedoHead.formerBlockByteCount, RedoHead.blockByteCount] {
            let start = RedoHead.next(after: offset, multipleOf: size)
            if let head = RedoHead(in: segment, at: start, after: number, key: key) {
                return (head, start)
            }
        }
        return nil
    }

    private mutating func lookForNewer(in segment: UnsafeRawBufferPointer, key: [UInt8]) {
        for offset in stride(from: 0, to: segment.count, by: RedoHead.formerBlockByteCount) {
            guard let head = RedoHead(in: segment, at: offset, after: number, key: key) else {
                continue
            }
            newestNumber = max(newestNumber, head.number)
        }
    }

    /// What is wrong with the log; nil where all is well.
    package var damage: String? {
        if let lengthDamage { return lengthDamage }
        guard newestNumber > number else { return nil }
        return "the commit after number \(number) is not whole, but number \(newestNumber) is"
    }

    /// The bytes of a log's key; see `Schema`.
    private static let keyByteCount = 32

    /// The key of the volume's log, and the number up to which SQLite has everything; nil where the
    /// row is missing.
    ///
    /// - Throws: `DamagedRow`, and what SQLite says.
    package static func position(
        in statements: some StatementSource
    ) throws -> (key: [UInt8], applied: UInt64)? {
        var row = try statements.statement("SELECT key, applied FROM redo_log")
        defer { row.reset() }
        guard try row.step() else { return nil }
        let stored = StoredRow(row, table: "redo_log", key: .number("id", 1))
        let key = try stored.bytes(0, "key")
        guard key.count == keyByteCount else {
            throw stored.damage("key", "it has \(key.count) bytes, not \(keyByteCount)")
        }
        return (key, try stored.number(1, "applied", in: 0...StoredRow.numberMax))
    }

    /// Tells SQLite all batches, inside a transaction.
    package func write(to statements: some StatementSource) throws {
        for batch in batches { try batch.write(to: statements) }
        try Self.note(number, in: statements)
    }

    /// Notes the number up to which SQLite has everything, inside a transaction.
    static func note(_ number: UInt64, in statements: some StatementSource) throws {
        var update = try statements.statement("UPDATE redo_log SET applied = ?")
        update.bind(number)
        try update.run()
    }
}
