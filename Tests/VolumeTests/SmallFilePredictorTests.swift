import Base
import Checking
import Glibc
import MerkleDAG
import Testing
import Volume

import struct SystemPackage.Errno

/// Which new files get a backing file, told by the names of others before them.
@Suite struct SmallFilePredictorTests {
    private let scratch = ScratchDirectory()
    private static let large = content(seed: 1, count: 100_000)

    private func start() throws -> (Volume, KernelStand) {
        let volume = try openVolume(scratch, stillOptions)
        return (volume, try KernelStand(volume, usesBackingFiles: true))
    }

    private func end(_ volume: Volume, _ kernel: KernelStand) throws {
        kernel.releaseAll()
        volume.awaitDetaching()
        try volume.close()
        #expect(kernel.violation == nil)
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(found)")
    }

    /// Makes a file of some bytes as a program does that only writes; true where it had a backing file.
    @discardableResult
    private func make(
        _ name: String, _ bytes: [UInt8], _ kernel: KernelStand, _ flags: OpenFlags = .write
    ) throws -> Bool {
        let (_, handle) = try kernel.create(FileName(name), flags)
        defer { kernel.release(handle) }
        let isBacked = kernel.backing(of: handle) != nil
        try kernel.write(handle, at: 0, bytes)
        return isBacked
    }

    /// Makes so many small files that the next one of such a name is expected to be small.
    private func teach(_ kernel: KernelStand, _ name: (Int) -> String) throws {
        for number in 0..<16 { #expect(try make(name(number), [1], kernel)) }
    }

    @Test func fileWhoseNamesakesStayedSmallIsServedByRequests() throws {
        let (volume, kernel) = try start()
        try teach(kernel) { "tmp\($0)" }
        #expect(try !make("tmp16", [1, 2, 3], kernel))
        #expect(try volume.contents(of: volume.resolve(path: ["tmp16"])) == [1, 2, 3])
        #expect(try make("other1", [1], kernel))
        // Who reads as well may be a database.
        #expect(try make("tmp17", [1], kernel, .both))
        try end(volume, kernel)
    }

    @Test func emptyFileOfSmallNamesakesIsOpenedAgainByRequests() throws {
        let (volume, kernel) = try start()
        try teach(kernel) { "startedat\($0)" }
        let (file, handle) = try kernel.create("startedat16", .write)
        kernel.release(handle)
        let again = try kernel.open(file, .write)
        #expect(kernel.backing(of: again) == nil)
        kernel.release(again)
        try end(volume, kernel)
    }

    @Test(arguments: [
        ("tmp1", "tmp22", true), ("1", "999", true), ("hashstate.1", "hashstate.20", true),
        (
            "link.0f8fad5b-d9cb-469f-a165-70867728950e.tmp",
            "link.7c9e6679-7425-40de-944b-e07fc1f90ae7.tmp", true
        ),
        ("e3b0c44298fc1c14", "01ba4719c80b6fe9", true), ("data", "date", false),
        ("a.json", "a.layer", false), ("1.tmp", "1.data", false),
    ])
    func namesThatDifferInTheirNumbersAreAlike(_ one: String, _ other: String, _ areAlike: Bool)
        throws
    {
        let (volume, kernel) = try start()
        for _ in 0..<16 {
            try make(one, [1], kernel)
            try volume.unlink(FileName(one), in: .root)
        }
        #expect(try make(other, [1], kernel) == !areAlike)
        try end(volume, kernel)
    }

    /// It is whole all the same, and the next one has a backing file, until many were small again.
    @Test func largeFileThatWasTakenForASmallOneEndsTheForecast() throws {
        let (volume, kernel) = try start()
        try teach(kernel) { "data\($0)" }
        #expect(try !make("data16", Self.large, kernel))
        #expect(try volume.contents(of: volume.resolve(path: ["data16"])) == Self.large)
        for number in 17..<17 + 1024 { #expect(try make("data\(number)", [1], kernel)) }
        #expect(try !make("data2000", [1], kernel))
        try end(volume, kernel)
    }

    /// Files of a new name each time must not cost the memory of all names, nor what is known of one
    /// that is used all the time.
    @Test func manyNamesPushOutWhatIsNotUsed() throws {
        let (volume, kernel) = try start()
        try teach(kernel) { "link\($0)" }
        try teach(kernel) { "seldom\($0)" }
        let letters = Array("ghijklmnopqrstuvwxyz")
        for number in 0..<2000 {
            let suffix = [letters[number % 20], letters[number / 20 % 20], letters[number / 400]]
            try make("once-" + String(suffix), [1], kernel)
            if number % 100 == 0 { #expect(try !make("link1\(number)", [1], kernel)) }
        }
        #expect(try !make("link100000", [1], kernel))
        #expect(try make("seldom100", [1], kernel))
        try end(volume, kernel)
    }

    /// One commit has the content, the name and the CID.
    @Test func synchronizedFileOfRequestsIsSealedAtOnce() throws {
        let (volume, kernel) = try start()
        try teach(kernel) { "link\($0)" }
        let bytes = content(seed: 3, count: 71)
        let (file, handle) = try kernel.create("link16", .write)
        try kernel.write(handle, at: 0, bytes)
        try volume.synchronize(handle, dataOnly: false)
        #expect(try volume.report(of: file).isSealed)
        #expect(
            try volume.report(of: file).cid == volume.profile.root(of: bytes).cid)
        // And it can be written on.
        try kernel.write(handle, at: 71, [1])
        #expect(try !volume.report(of: file).isSealed)
        #expect(try volume.contents(of: file) == bytes + [1])
        kernel.release(handle)
        try end(volume, kernel)
    }
}
