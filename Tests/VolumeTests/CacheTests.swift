import Base
import Checking
import Glibc
import MerkleDAG
import Testing
import Volume

import struct SystemPackage.Errno

/// More inodes and entries than the manifest keeps in memory, made, found, changed and removed.
private func useManyInodes(state: String) throws {
    let volume = try Volume.open(
        stateDirectory: state, options: VolumeOptions(), log: quietLog)
    let directoryCount = 300
    let filesEach = 500
    var directories: [Inode] = []
    for index in 0..<directoryCount {
        let directory = try volume.makeDirectory(FileName("d\(index)"))
        directories.append(directory)
        for number in 0..<filesEach {
            let made = try volume.makeNode(
                FileName("f\(number)"), in: directory, kind: .regular, mode: 0o600, rdev: 0,
                caller: root)
            // What the kernel would do under memory pressure.
            volume.forget(made.inode, count: 1)
        }
        try volume.makeFile("content", in: directory, content(seed: UInt64(index), count: 900))
    }
    let residentAfterMaking = residentBytes()
    var random = SeededGenerator(seed: 1)
    for _ in 0..<20_000 {
        let index = random.below(directoryCount)
        let number = random.below(filesEach)
        let found = try volume.lookup(FileName("f\(number)"), in: directories[index])
        volume.forget(found.inode, count: 1)
        guard found.kind == .regular, found.mode == 0o600 else { exit(4) }
        guard
            errno(of: { () throws(Errno) in
                try volume.lookup(FileName("f\(filesEach + number)"), in: directories[index])
            }) == .noSuchFileOrDirectory
        else { exit(5) }
    }
    for (index, directory) in directories.enumerated() {
        guard try volume.entries(of: directory, portion: 100).count == filesEach + 1 else {
            exit(6)
        }
        let file = try volume.resolve(path: [FileName("d\(index)"), "content"])
        guard try volume.contents(of: file) == content(seed: UInt64(index), count: 900) else {
            exit(7)
        }
    }
    guard residentBytes() < 200 << 20, residentAfterMaking < 200 << 20 else {
        print("\(residentAfterMaking >> 20) MiB after making, \(residentBytes() >> 20) MiB in use")
        exit(8)
    }
    for (index, directory) in directories.enumerated() where index % 2 == 0 {
        for number in 0..<filesEach { try volume.unlink(FileName("f\(number)"), in: directory) }
        try volume.unlink("content", in: directory)
        try volume.removeDirectory(FileName("d\(index)"), in: .root)
    }
    try volume.close()
}

/// Bytes of memory that the process has, as /proc/self/statm says.
private func residentBytes() -> Int {
    let file = open("/proc/self/statm", O_RDONLY)
    defer { close(file) }
    var text = [UInt8](repeating: 0, count: 200)
    let count = read(file, &text, text.count)
    let fields = String(decoding: text.prefix(max(0, count)), as: UTF8.self).split(separator: " ")
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4096 : 0
}

@Suite struct CacheTests {
    @Test func moreInodesThanFitInMemoryAllResolve() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .success) { [state = scratch.state as String] in
            try useManyInodes(state: state)
        }
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(found.problems)")
        #expect(found.pending == CheckReport.Pending())
        #expect(found.inodes == 150 * 502 + 1)
    }
}
