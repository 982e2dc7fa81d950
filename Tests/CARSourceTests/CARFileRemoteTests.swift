import Base
import CARSource
import Foundation
import Multiformats
import Remotes
import Testing

/// Blocks out of CAR files, whole ones and damaged ones.
struct CARFileRemoteTests {
    // MARK: Vectors

    @Test func theVectorsOfTheSpecificationAreRead() throws {
        let carV1 = try TemporaryFile(Vectors.carV1Basic)
        let one = try CARFileRemote(carV1.path)
        #expect(one.version == 1 && !one.isIndexed && one.indexedBlockCount == 8)
        #expect(
            one.roots.map { "\($0)" } == [
                "bafyreihyrpefhacm6kkp4ql6j6udakdit7g3dmkzfriqfykhjw6cad5lrm",
                "bafyreidj5idub6mapiupjwjsyyxhyhedxycv4vihfsicm2vt46o7morwlm",
            ])
        for root in one.roots { #expect(try !one.get(root).isEmpty) }
        let leaf = try CID(parsing: "bafkreifw7plhl6mofk6sfvhnfh64qmkq73oeqwl6sloru6rehaoujituke")
        #expect(try one.get(leaf) == Array("cccc".utf8))

        let carV2 = try TemporaryFile(Vectors.carV2Basic)
        let two = try CARFileRemote(carV2.path)
        #expect(two.version == 2 && !two.isIndexed && two.indexedBlockCount == 5)
        let fish = try CID(parsing: "bafkreifuosuzujyf4i6psbneqtwg2fhplc2wxptc5euspa2gn3bwhnihfu")
        #expect(try two.get(fish) == Array("fish".utf8))
        let shrimp = try CID(parsing: "QmfEoLyB5NndqeKieExd1rtJzTduQUPEV8TwAYcUiy3H5Z")
        #expect(two.roots == [shrimp])
        #expect(try two.get(shrimp).count == 47)
    }

    // MARK: Looking up

    @Test(arguments: Form.allCases) func everyBlockIsFoundAndNoOther(_ form: Form) throws {
        for count in [0, 1, 2, 3, 100, 3_000] {
            let blocks = rawBlocks(count)
            let file = try TemporaryFile(
                form.archive(blocks, roots: blocks.first.map { [$0.cid] } ?? []))
            let remote = try CARFileRemote(file.path)
            #expect(remote.indexedBlockCount == UInt64(count))
            #expect(remote.isIndexed == [.indexSorted, .multihashIndexSorted].contains(form))
            #expect(remote.roots == blocks.prefix(1).map(\.cid))
            #expect(remote.address == file.path)
            let memory = ReplyMemory()
            for (cid, bytes) in blocks {
                let found = try remote.block(
                    BlockRequest(cid, deadlineMilliseconds: 60_000), memory: memory)
                #expect(found == bytes)
                memory.keep(found)
            }
            for (cid, _) in rawBlocks(50, byteCount: 3) {
                #expect(
                    failure { () throws(RemoteError) in _ = try remote.get(cid) }?.kind == .notFound
                )
            }
        }
    }

    @Test(arguments: Form.allCases) func blocksOfAllSizesAreFound(_ form: Form) throws {
        let blocks = [0, 1, 127, 128, 5_000, 300_000, 2 << 20].map { count -> Block in
            let bytes = [UInt8](repeating: 9, count: count)
            return (CID.raw(sha256: bytes), bytes)
        }
        // Everything twice, as archives with `dups=y` have it.
        let file = try TemporaryFile(form.archive(blocks + blocks.reversed()))
        let remote = try CARFileRemote(file.path)
        for (cid, bytes) in blocks { #expect(try remote.get(cid) == bytes) }
    }

    @Test(arguments: Form.allCases) func digestsThatBeginAlikeAreToldApart(_ form: Form) throws {
        // The same digest under two functions, and two of one beginning: their blocks cannot be checked.
        let digest = [UInt8](repeating: 5, count: 32)
        let other = [UInt8](repeating: 5, count: 31) + [6]
        let block = rawBlocks(1)[0]
        let blake = CID(codec: .raw, multihash: try Multihash(code: .blake3, digest: digest))
        let sha = CID(codec: .raw, multihash: try Multihash(code: .sha2_256, digest: digest))
        let third = CID(codec: .raw, multihash: try Multihash(code: .blake3, digest: other))
        let file = try TemporaryFile(
            form.archive([(sha, [1]), (blake, [2]), block, (third, [3])]))
        let remote = try CARFileRemote(file.path)
        #expect(failure { () throws(RemoteError) in _ = try remote.get(blake) }?.kind == .refused)
        #expect(failure { () throws(RemoteError) in _ = try remote.get(third) }?.kind == .refused)
        #expect(failure { () throws(RemoteError) in _ = try remote.get(sha) }?.kind == .wrongBytes)
        #expect(try remote.get(block.cid) == block.bytes)
        // Another codec of the same hash is the same block.
        #expect(try remote.get(CID(codec: .dagPB, multihash: block.cid.multihash)) == block.bytes)
    }

    @Test func identityIsAnsweredAndNotIndexed() throws {
        let cid = CID(codec: .raw, multihash: try .identity([1, 2, 3]))
        for form in Form.allCases {
            let file = try TemporaryFile(form.archive([(cid, [1, 2, 3])]))
            let remote = try CARFileRemote(file.path)
            #expect(remote.indexedBlockCount == 0)
            #expect(try remote.get(cid) == [1, 2, 3])
        }
    }

    // MARK: Bounds

    @Test func tooManyBlocksWithoutAnIndexAreRefused() throws {
        let file = try TemporaryFile(Form.version1.archive(rawBlocks(11)))
        let error = failure { () throws(RemoteError) in
            _ = try CARFileRemote(file.path, scannedBlocksMax: 10)
        }
        #expect(error?.kind == .failed)
        #expect(error?.description.contains("more than 10 blocks and no index") == true)
        _ = try CARFileRemote(file.path, scannedBlocksMax: 11)
        let indexed = try TemporaryFile(Form.indexSorted.archive(rawBlocks(11)))
        _ = try CARFileRemote(indexed.path, scannedBlocksMax: 10)
    }

    @Test func progressGoesUpToTheEnd() throws {
        let blocks = rawBlocks(40, byteCount: 1 << 20)
        let file = try TemporaryFile(Form.version1.archive(blocks))
        var steps: [UInt64] = []
        let remote = try CARFileRemote(
            file.path,
            progress: { done, total in
                steps.append(done)
                #expect(done <= total)
            })
        #expect(steps.count >= 3 && steps == steps.sorted())
        #expect(steps.last == remote.byteCount)
        let cancellation = Cancellation()
        cancellation.cancel()
        #expect(
            failure { () throws(RemoteError) in
                _ = try CARFileRemote(file.path, cancellation: cancellation)
            }?.kind
                == .cancelled)
    }

    // MARK: Damage

    private func error(_ bytes: [UInt8]) throws -> RemoteError? {
        let file = try TemporaryFile(bytes)
        let error = failure { () throws(RemoteError) in _ = try CARFileRemote(file.path) }
        if let error {
            #expect(error.description.contains(file.path) && error.description.contains("at byte "))
        }
        return error
    }

    @Test func whatIsNoArchiveIsToldSo() throws {
        for bytes in [
            [], [0], Array("<!DOCTYPE html>".utf8), [UInt8](repeating: 0, count: 1000),
            [UInt8](repeating: 0xff, count: 1000),
        ] {
            #expect(try error(bytes)?.kind == .wrongBytes)
        }
        #expect(
            failure { () throws(RemoteError) in _ = try CARFileRemote("/nowhere/at/all.car") }?.kind
                == .notFound)
        #expect(
            failure { () throws(RemoteError) in _ = try CARFileRemote("/tmp") }?.kind == .failed)
        #expect(
            failure { () throws(RemoteError) in _ = try CARFileRemote("/dev/null") }?.kind
                == .failed)
    }

    @Test func anArchiveThatIsCutOffIsToldSoAtEachLength() throws {
        let blocks = rawBlocks(3)
        let whole = Form.version1.archive(blocks)
        let head = Form.version1.archive([]).count
        let ends = Set(
            [head] + blocks.indices.map { Form.version1.archive(Array(blocks[...$0])).count })
        for length in 0..<whole.count where !ends.contains(length) {
            #expect(try error(Array(whole[..<length]))?.kind == .wrongBytes)
        }
        for form in [Form.version2, .indexSorted, .multihashIndexSorted] {
            let whole = form.archive(blocks)
            for length in stride(from: 0, to: whole.count, by: 7) {
                #expect(try error(Array(whole[..<length]))?.kind == .wrongBytes)
            }
        }
    }

    @Test func aDamagedSectionIsNamedByItsPlace() throws {
        let blocks = rawBlocks(3)
        let whole = Form.version1.archive(blocks)
        let second = Form.version1.archive([blocks[0]]).count
        for bytes: [UInt8] in [[0], [3, 1, 2, 3], [0xff, 0xff, 0xff, 0xff, 0x0f], [0x80, 0x00]] {
            var damaged = whole
            damaged.replaceSubrange(second..<(second + bytes.count), with: bytes)
            let error = try error(damaged)
            #expect(error?.kind == .wrongBytes)
            #expect(error?.description.contains("at byte \(second)") == true)
        }
    }

    @Test(arguments: Form.allCases) func aFlippedBitIsNoBlock(_ form: Form) throws {
        let blocks = rawBlocks(20, byteCount: 1000)
        var bytes = form.archive(blocks)
        let place = try #require(
            bytes.indices.first { bytes[$0...].starts(with: Array("block 7 ".utf8)) })
        bytes[place + 500] ^= 1
        let file = try TemporaryFile(bytes)
        let remote = try CARFileRemote(file.path)
        let error = failure { () throws(RemoteError) in _ = try remote.get(blocks[7].cid) }
        #expect(error?.kind == .wrongBytes)
        #expect(error?.description.contains("\(file.path): at byte ") == true)
        #expect(try remote.get(blocks[8].cid) == blocks[8].bytes)
    }

    /// An archive with one bucket of records, and where they begin.
    private func indexed(_ blocks: [Block]) throws -> (bytes: [UInt8], records: Int) {
        let bytes = Form.indexSorted.archive(blocks)
        return (bytes, bytes.count - blocks.count * 40)
    }

    @Test func anIndexThatLeadsElsewhereIsToldSo() throws {
        let blocks = rawBlocks(1)
        let (whole, records) = try indexed(blocks)
        // Within a block, at the header, at the end, and far behind it.
        for offset: UInt64 in [70, 0, UInt64(whole.count), .max, UInt64(Int64.max)] {
            var bytes = whole
            withUnsafeBytes(of: offset.littleEndian) { raw in
                bytes.replaceSubrange((records + 32)..<(records + 40), with: raw)
            }
            let file = try TemporaryFile(bytes)
            let remote = try CARFileRemote(file.path)
            let error = failure { () throws(RemoteError) in _ = try remote.get(blocks[0].cid) }
            #expect(error?.kind == .wrongBytes)
            #expect(error?.description.contains("\(file.path): at byte ") == true)
        }
    }

    @Test func anIndexThatIsNotSortedIsToldSoOrFindsTheBlock() throws {
        let blocks = rawBlocks(2_000)
        let (whole, records) = try indexed(blocks)
        var bytes = whole
        let order = (0..<blocks.count).reversed()
        bytes.replaceSubrange(
            records...,
            with: order.flatMap { whole[(records + $0 * 40)..<(records + $0 * 40 + 40)] })
        let file = try TemporaryFile(bytes)
        let remote = try CARFileRemote(file.path)
        var told = 0
        for (cid, _) in blocks.prefix(100) {
            let error = failure { () throws(RemoteError) in _ = try remote.get(cid) }
            #expect(error == nil || [.wrongBytes, .notFound].contains(error?.kind))
            if error?.kind == .wrongBytes { told += 1 }
        }
        #expect(told > 0)
    }

    @Test func aTableOfAnIndexThatLiesIsToldSo() throws {
        let (whole, records) = try indexed(rawBlocks(3))
        // The count of buckets, the width, the length of the records.
        for (place, bytes): (Int, [UInt8]) in [
            (records - 16, [0xff, 0xff, 0xff, 0x7f]), (records - 12, [7, 0, 0, 0]),
            (records - 12, [0, 0, 0, 0x80]), (records - 12, [39, 0, 0, 0]),
            (records - 8, [0, 0, 0, 0, 0, 0, 0, 0x40]), (records - 8, [160, 0, 0, 0]),
        ] {
            var damaged = whole
            damaged.replaceSubrange(place..<(place + bytes.count), with: bytes)
            #expect(try error(damaged)?.kind == .wrongBytes)
        }
        // The index begins behind the file.
        var damaged = whole
        damaged.replaceSubrange(43..<51, with: [0, 0, 0, 0, 1, 0, 0, 0])
        #expect(try error(damaged)?.kind == .wrongBytes)
    }

    @Test(arguments: Form.allCases) func damageAnywhereNeverGivesOtherBytes(_ form: Form) throws {
        let blocks = rawBlocks(6, byteCount: 20)
        let whole = form.archive(blocks)
        for place in 0..<whole.count {
            var bytes = whole
            bytes[place] ^= UInt8(1 << (place % 8))
            let file = try TemporaryFile(bytes)
            do throws(RemoteError) {
                let remote = try CARFileRemote(file.path)
                for (cid, bytes) in blocks {
                    do throws(RemoteError) {
                        #expect(try remote.get(cid) == bytes)
                    } catch {
                        #expect([.notFound, .wrongBytes, .refused].contains(error.kind))
                    }
                }
            } catch {
                #expect([.wrongBytes, .refused, .failed].contains(error.kind))
            }
        }
    }

    @Test func aFileThatChangesIsToldSo() throws {
        let blocks = rawBlocks(3)
        let file = try TemporaryFile(Form.version1.archive(blocks))
        let remote = try CARFileRemote(file.path)
        #expect(try remote.get(blocks[0].cid) == blocks[0].bytes)
        let handle = try #require(FileHandle(forWritingAtPath: file.path))
        try handle.seekToEnd()
        try handle.write(contentsOf: Data([1]))
        try handle.close()
        let error = failure { () throws(RemoteError) in _ = try remote.get(blocks[0].cid) }
        #expect(error?.kind == .failed)
        #expect(error?.description.contains("has changed") == true)
    }
}
