import Base
import Benchmark
import Glibc
import Logging
import MerkleDAG
import Multiformats
import Volume

let benchmarks: @Sendable () -> Void = {
    Benchmark.defaultConfiguration = .init(
        metrics: [.wallClock, .cpuTotal, .throughput], warmupIterations: 1,
        maxDuration: .seconds(5))

    contentBenchmarks()
    manifestBenchmarks()
}

private func contentBenchmarks() {
    // One pass of SHA-256 over each leaf, on one thread; a gibibyte each time.
    Benchmark("CID of 1 GiB") { _ in
        let source = SyntheticFile(byteCount: 1 << 30)
        blackHole(ImportProfile.unixfsV1_2025.importFile(read: source.read, emit: nil))
    }

    // Each block is checked against its CID on the way, so this is a hash pass too.
    Benchmark("DAG read of 64 MiB") { benchmark in
        let blocks = Blocks()
        let root = ImportProfile.unixfsV1_2025.importFile(
            read: SyntheticFile(byteCount: 64 << 20).read, emit: blocks.add)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        benchmark.startMeasurement()
        var reader = try FileReader(root: root.cid, source: blocks)
        var offset: UInt64 = 0
        while true {
            let count = try reader.read(into: buffer, at: offset)
            if count == 0 { break }
            offset += UInt64(count)
        }
        benchmark.stopMeasurement()
        guard offset == 64 << 20 else { throw Unexpected.size(offset) }
    }
}

private func manifestBenchmarks() {
    Benchmark("create, write 71, close: 1,000 files") { benchmark in
        let volume = try TemporaryVolume()
        benchmark.startMeasurement()
        try volume.createFiles(1_000)
        benchmark.stopMeasurement()
        try volume.close()
    }
    Benchmark("lookup: 10,000 times") { benchmark in
        let volume = try TemporaryVolume()
        let names = try volume.createFiles(1_000)
        benchmark.startMeasurement()
        for _ in 0..<10 {
            for name in names {
                let inode = try volume.volume.lookup(name, in: .root).inode
                volume.volume.forget(inode, count: 1)
            }
        }
        benchmark.stopMeasurement()
        try volume.close()
    }
    Benchmark("rename: 1,000 files") { benchmark in
        let volume = try TemporaryVolume()
        let names = try volume.createFiles(1_000)
        let newNames = names.indices.map { FileName("renamed\($0)") }
        benchmark.startMeasurement()
        for (name, newName) in zip(names, newNames) {
            try volume.volume.rename(
                name, in: .root, to: newName, in: .root, flags: RenameFlags(rawValue: 0))
        }
        benchmark.stopMeasurement()
        try volume.close()
    }
    // What an fsync of a small new file waits for: each commit is on the disk when it returns.
    Benchmark("create and commit: 200 files") { benchmark in
        let volume = try TemporaryVolume()
        benchmark.startMeasurement()
        for index in 0..<200 {
            try volume.createFile(FileName("file\(index)"))
            try volume.volume.synchronizeDirectory(.root)
        }
        benchmark.stopMeasurement()
        try volume.close()
    }
    Benchmark("one commit of 1,000 files") { benchmark in
        let volume = try TemporaryVolume()
        try volume.createFiles(1_000)
        benchmark.startMeasurement()
        try volume.volume.synchronizeDirectory(.root)
        benchmark.stopMeasurement()
        try volume.close()
    }
}

private enum Unexpected: Error {
    case size(UInt64)
}
