import Base
import Foundation
import FuseSession
import Logging
import Testing
import Volume

/// One entry as fuse.h lays it out, read back with the offsets written out.
private struct Unpacked: Equatable {
    var name: [UInt8]
    var inode: UInt64
    var type: UInt32
    var cookie: UInt64
    /// Of READDIRPLUS; 0 where it gives no attributes.
    var node: UInt64 = 0
    var size: UInt64 = 0
}

private func unpack(_ bytes: UnsafeRawBufferPointer, headByteCount: Int) throws -> [Unpacked] {
    var entries: [Unpacked] = []
    var position = 0
    while position < bytes.count {
        let start = position + headByteCount
        let length = Int(bytes.loadUnaligned(fromByteOffset: start + 16, as: UInt32.self))
        let end = (start + 24 + length + 7) / 8 * 8
        try #require(end <= bytes.count)
        #expect(bytes[(start + 24 + length)..<end].allSatisfy { $0 == 0 })
        var entry = Unpacked(
            name: [UInt8](bytes[(start + 24)..<(start + 24 + length)]),
            inode: bytes.loadUnaligned(fromByteOffset: start, as: UInt64.self),
            type: bytes.loadUnaligned(fromByteOffset: start + 20, as: UInt32.self),
            cookie: bytes.loadUnaligned(fromByteOffset: start + 8, as: UInt64.self))
        if headByteCount > 0 {
            entry.node = bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)
            entry.size = bytes.loadUnaligned(fromByteOffset: position + 48, as: UInt64.self)
        }
        entries.append(entry)
        position = end
    }
    return entries
}

/// Lists a directory through buffers of a size, each filled with bytes that must not remain.
private func list(
    bufferByteCount: Int, headByteCount: Int,
    _ fill: (inout DirectoryPacker, UInt64) throws -> Void,
    _ look: (DirectoryPacker, [Unpacked]) -> Void = { _, _ in }
) throws -> [Unpacked] {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bufferByteCount, alignment: 8)
    defer { buffer.deallocate() }
    var all: [Unpacked] = []
    while true {
        _ = buffer.initializeMemory(as: UInt8.self, repeating: 0xee)
        var packer = DirectoryPacker(buffer)
        try fill(&packer, all.last?.cookie ?? 0)
        let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<packer.byteCount])
        let part = try unpack(bytes, headByteCount: headByteCount)
        look(packer, part)
        if part.isEmpty { return all }
        all += part
    }
}

/// A volume whose root has files with names of each length, their size being that length.
private func withNamesOfEachLength(_ body: (Volume, [Inode]) throws -> Void) throws {
    let path = FileManager.default.temporaryDirectory
        .appendingPathComponent("packer-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let volume = try Volume.open(
        stateDirectory: path, options: VolumeOptions(), log: Logger(label: "test"))
    let caller = Caller(uid: 0, gid: 0, pid: 1, umask: 0)
    var inodes: [Inode] = []
    for length in 1...255 {
        let name = FileName([UInt8](repeating: 0x6e, count: length))
        let attributes = try volume.makeNode(
            name, in: .root, kind: .regular, mode: 0o644, rdev: 0, caller: caller)
        var change = AttributeChange()
        change.size = UInt64(length)
        _ = try volume.setAttributes(of: attributes.inode, change, handle: nil, caller: caller)
        inodes.append(attributes.inode)
    }
    try body(volume, inodes)
    try volume.close()
}

@Test(arguments: [24 + 256, 1000, 4096, 1 << 20])
func listingsAreTheSameThroughBuffersOfAnySize(_ byteCount: Int) throws {
    try withNamesOfEachLength { volume, inodes in
        let entries = try list(bufferByteCount: byteCount, headByteCount: 0) { packer, cookie in
            try volume.readDirectory(.root, from: cookie) { packer.add($0) }
        }
        #expect(entries.prefix(2).map(\.name) == [[0x2e], [0x2e, 0x2e]])
        #expect(entries.prefix(2).allSatisfy { $0.type == 4 && $0.inode == 1 })
        let files = entries.dropFirst(2)
        #expect(files.map(\.name.count).sorted() == Array(1...255))
        #expect(files.allSatisfy { $0.type == 8 && $0.inode == inodes[$0.name.count - 1].number })
        #expect(Set(entries.map(\.cookie)).count == entries.count)
    }
}

@Test func listingsWithAttributesNameEachReferenceThatTheyHandOver() throws {
    try withNamesOfEachLength { volume, inodes in
        let lifetimes = Lifetimes(entry: 1, attributes: 1, negative: 1)
        var references: [Inode] = []
        let entries = try list(bufferByteCount: 3000, headByteCount: 128) { packer, cookie in
            try volume.readDirectoryPlus(.root, from: cookie) { packer.add($0, $1, lifetimes) }
        } _: { packer, part in
            var here: [Inode] = []
            packer.forEachReference { here.append($0) }
            #expect(here.map(\.number) == part.map(\.node).filter { $0 != 0 })
            references += here
        }
        // `.` and `..` come without attributes and count nothing.
        #expect(entries.prefix(2).map(\.node) == [0, 0])
        #expect(Set(references) == Set(inodes) && references.count == inodes.count)
        #expect(
            entries.dropFirst(2).allSatisfy {
                $0.node == $0.inode && $0.size == UInt64($0.name.count)
            })
        for inode in references { volume.forget(inode, count: 1) }
    }
}

/// The number of the first file of a volume and the generation that is told with it, when the file
/// is made and once the volume is open again.
private func identityOfFirstFile() throws -> [[UInt64]] {
    let path = FileManager.default.temporaryDirectory
        .appendingPathComponent("packer-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let lifetimes = Lifetimes(entry: 1, attributes: 1, negative: 1)
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1024, alignment: 8)
    defer { buffer.deallocate() }
    return try [true, false].map { isNew in
        let volume = try Volume.open(
            stateDirectory: path, options: VolumeOptions(), log: Logger(label: "test"))
        if isNew {
            _ = try volume.makeNode(
                FileName("file"), in: .root, kind: .regular, mode: 0o644, rdev: 0,
                caller: Caller(uid: 0, gid: 0, pid: 1, umask: 0))
        }
        var packer = DirectoryPacker(buffer)
        try volume.readDirectoryPlus(.root, from: 2) { packer.add($0, $1, lifetimes) }
        try volume.close()
        return [0, 8].map { buffer.loadUnaligned(fromByteOffset: $0, as: UInt64.self) }
    }
}

/// Of a handle from before a crash, whose number has gone to another file since.
@Test func generationTellsApartInodesThatHadTheSameNumber() throws {
    let (one, other) = (try identityOfFirstFile(), try identityOfFirstFile())
    #expect(one[0] == one[1] && other[0] == other[1])
    #expect(one[0][0] == other[0][0])
    #expect(one[0][1] != other[0][1])
    // The kernel keeps 32 bits, and compares them with all 64.
    #expect(max(one[0][1], other[0][1]) <= UInt64(UInt32.max))
}

/// The kernel makes the root's inode before it asks, with generation 0.
@Test func generationOfTheRootIsZero() throws {
    try withNamesOfEachLength { volume, _ in
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1024, alignment: 8)
        defer { buffer.deallocate() }
        let attributes = try volume.attributes(of: .root)
        var packer = DirectoryPacker(buffer)
        // Its first entry is the root's own.
        try volume.readDirectory(.root, from: 0) { entry in
            packer.add(entry, attributes, Lifetimes(entry: 1, attributes: 1, negative: 1))
                && false
        }
        #expect(buffer.loadUnaligned(fromByteOffset: 0, as: UInt64.self) == 1)
        #expect(buffer.loadUnaligned(fromByteOffset: 8, as: UInt64.self) == 0)
    }
}
