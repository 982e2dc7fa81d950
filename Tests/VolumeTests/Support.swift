public import Base
import Foundation
import Glibc
import Logging
import MerkleDAG
import Multiformats
import Volume

import struct SystemPackage.Errno

/// A state directory that goes with its owner.
final class ScratchDirectory: Sendable {
    let path: String

    init() {
        path = NSTemporaryDirectory() + "registryfs-test-" + UUID().uuidString
        mkdir(path, 0o700)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }

    /// The place of the state directory, which the volume makes.
    var state: String { path + "/state" }
}

/// SplitMix64: the same numbers for the same seed on every machine.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    mutating func below(_ bound: Int) -> Int {
        Int(next() % UInt64(bound))
    }

    /// True in one of `count` cases.
    mutating func oneIn(_ count: Int) -> Bool { below(count) == 0 }

    mutating func pick<Element>(_ elements: [Element]) -> Element {
        elements[below(elements.count)]
    }
}

/// The seed of REGISTRYFS_TEST_SEED, to repeat a run that failed; else one that is new each time.
func testSeed() -> UInt64 {
    if let text = getenv("REGISTRYFS_TEST_SEED"), let seed = UInt64(String(cString: text)) {
        return seed
    }
    return UInt64.random(in: 0..<1_000_000_000)
}

/// A log that says nothing: the tests read results.
let quietLog: Logger = {
    var log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    log.logLevel = .critical
    return log
}()

/// This process, so that its rights are those that /proc shows.
let root = Caller(uid: 0, gid: 0, pid: getpid(), umask: 0)

func openVolume(
    _ directory: ScratchDirectory, _ options: VolumeOptions = VolumeOptions()
) throws(VolumeError) -> Volume {
    try Volume.open(stateDirectory: directory.state, options: options, log: quietLog)
}

/// Options with which nothing happens in the background.
var stillOptions: VolumeOptions {
    var options = VolumeOptions()
    options.commitIntervalMilliseconds = 3_600_000
    options.sealThreads = 0
    return options
}

/// A redo log of the usual length, one that is always full, or none.
func logSegmentByteCount(seed: UInt64) -> Int {
    [4 << 20, 8 << 10, 0][Int(seed / 4 % 3)]
}

/// Bytes that are the same for the same seed, and differ from one seed to the next.
func content(seed: UInt64, count: Int) -> [UInt8] {
    // Without elements the initializer writes to the empty array that all threads share.
    guard count > 0 else { return [] }
    var generator = SeededGenerator(seed: seed)
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        var index = 0
        while index < count {
            var word = generator.next()
            for _ in 0..<min(8, count - index) {
                buffer.initializeElement(at: index, to: UInt8(truncatingIfNeeded: word))
                word >>= 8
                index += 1
            }
        }
        initialized = count
    }
}

extension FileName: ExpressibleByStringLiteral {
    public init(stringLiteral value: String) {
        self.init(value)
    }
}

extension OpenFlags {
    static let read = OpenFlags(rawValue: O_RDONLY)
    static let write = OpenFlags(rawValue: O_WRONLY)
    static let both = OpenFlags(rawValue: O_RDWR)
}

extension Volume {
    /// Makes a file with some content; the handle is released again.
    @discardableResult
    func makeFile(
        _ name: FileName, in parent: Inode = .root, _ bytes: [UInt8]
    ) throws(Errno) -> Inode {
        let (attributes, opened) = try create(
            name, in: parent, mode: 0o644, flags: .both, caller: root)
        defer { release(opened.handle) }
        try write(opened.handle, at: 0, bytes)
        return attributes.inode
    }

    @discardableResult
    func write(_ handle: HandleID, at offset: UInt64, _ bytes: [UInt8]) throws(Errno) -> Int {
        try bytes.withBytes { (buffer) throws(Errno) in
            try write(handle, at: offset, buffer, clearSetID: false)
        }
    }

    func read(_ handle: HandleID, at offset: UInt64, count: Int) throws(Errno) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xee, count: count)
        let done = try bytes.withMutableBytes { (buffer) throws(Errno) in
            try read(handle, at: offset, into: buffer)
        }
        bytes.removeLast(count - done)
        return bytes
    }

    /// The whole content of a file, which is opened for it.
    func contents(of inode: Inode) throws(Errno) -> [UInt8] {
        let opened = try open(inode, flags: .read, caller: root)
        defer { release(opened.handle) }
        // A damaged manifest may tell any size.
        let size = min(try attributes(of: inode).size, 1 << 30)
        return try read(opened.handle, at: 0, count: Int(size))
    }

    func makeDirectory(_ name: FileName, in parent: Inode = .root) throws(Errno) -> Inode {
        try makeDirectory(name, in: parent, mode: 0o755, caller: root).inode
    }

    func setSize(of inode: Inode, to size: UInt64) throws(Errno) {
        var change = AttributeChange()
        change.size = size
        _ = try setAttributes(of: inode, change, handle: nil, caller: root)
    }

    /// Lists a directory in portions, `.` and `..` left out.
    func entries(of inode: Inode, portion: Int = .max) throws(Errno) -> [Listed] {
        var entries: [Listed] = []
        var cookie: UInt64 = 0
        while true {
            var taken = 0
            try readDirectory(inode, from: cookie) { entry in
                guard taken < portion else { return false }
                taken += 1
                cookie = entry.cookie
                if entry.cookie > 2 {
                    entries.append(
                        Listed(name: entry.name, inode: entry.inode.number, kind: entry.kind))
                }
                return true
            }
            if taken < portion { return entries }
        }
    }
}

extension ImportProfile {
    /// The root that a file of these bytes has, by the importer that the volume does not use.
    func root(of bytes: [UInt8]) -> DAGRoot {
        var offset = 0
        return importFile(
            read: { buffer in
                let count = min(buffer.count, bytes.count - offset)
                bytes.withUnsafeBytes { source in
                    buffer.copyMemory(
                        from: UnsafeRawBufferPointer(rebasing: source[offset..<offset + count]))
                }
                offset += count
                return count
            }, emit: nil)
    }
}

// lseek(2), unistd.h: macros that the importer does not see.
let SEEK_DATA: Int32 = 3
let SEEK_HOLE: Int32 = 4

/// Whether the disk below the tests has FALLOC_FL_ZERO_RANGE, which tmpfs has not.
let diskHasZeroRange: Bool = {
    let scratch = ScratchDirectory()
    guard let file = try? Sys.open(scratch.path + "/probe", flags: O_RDWR | O_CREAT) else {
        return false
    }
    return errno { () throws(Errno) in
        try Sys.allocate(file.raw, mode: 16, offset: 0, length: 4096)
    } == nil
}()

/// The errno that a body throws; nil where it throws none.
func errno<Result>(of body: () throws(Errno) -> Result) -> Errno? {
    do throws(Errno) {
        _ = try body()
        return nil
    } catch {
        return error
    }
}
