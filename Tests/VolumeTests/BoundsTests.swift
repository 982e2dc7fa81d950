import Base
import Glibc
import InodeManifest
import Testing
import Volume

/// The manifest's memory, which no commit keeps bounded where nothing changes.
@Suite struct BoundsTests {
    private let scratch = ScratchDirectory()

    @Test func aTreeThatIsOnlyReadStaysWithinTheBounds() throws {
        let fileCount = ManifestBounds.inodesCachedMax + 2_000
        let fileByteCount = 2 * ManifestBounds.inlineBytesCachedMax / fileCount
        let volume = try openVolume(scratch, stillOptions)
        var inodes: [Inode] = []
        for index in 0..<fileCount {
            var bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: index), count: fileByteCount)
            bytes[0] = UInt8(truncatingIfNeeded: index >> 8)
            inodes.append(try volume.makeFile(FileName("f\(index)"), bytes))
        }
        try volume.close()

        let manifest = try InodeManifest.open(
            directory: scratch.state, profileName: "", log: quietLog)
        var highest = (inodes: 0, objects: 0, inlineBytes: 0)
        for inode in inodes {
            try manifest.withLock { state in
                let record = try #require(try state.inode(inode))
                let object = try #require(try state.object(of: record))
                #expect(try state.inlineBytes(of: object).count == fileByteCount)
            }
            let counts = manifest.withLock(\.memoryCounts)
            highest.inodes = max(highest.inodes, counts.inodes)
            highest.objects = max(highest.objects, counts.objects)
            highest.inlineBytes = max(highest.inlineBytes, counts.inlineBytes)
        }
        // Something was kept, or the bounds say nothing.
        #expect(highest.inodes > ManifestBounds.inodesCachedMax / 2)
        #expect(highest.inodes <= ManifestBounds.inodesCachedMax)
        #expect(highest.objects <= ManifestBounds.objectsCachedMax)
        #expect(highest.inlineBytes <= ManifestBounds.inlineBytesCachedMax)
        try manifest.close(marksClean: true)
    }
}
