import Base
import Testing
import Volume

import struct SystemPackage.Errno

/// Listings that go on while the directory changes.
@Suite struct ListingTests {
    private let scratch = ScratchDirectory()

    private func names(in volume: Volume, from cookie: UInt64) throws -> [FileName] {
        var names: [FileName] = []
        try volume.readDirectory(.root, from: cookie) { entry in
            names.append(entry.name)
            return true
        }
        return names.filter { $0 != "." && $0 != ".." }
    }

    private func cookie(of name: FileName, in volume: Volume) throws -> UInt64 {
        var found: UInt64 = 0
        try volume.readDirectory(.root, from: 0) { entry in
            if entry.name == name { found = entry.cookie }
            return true
        }
        return found
    }

    @Test func aNameReplacedByRenameIsSeenOnceInAListingUnderWay() throws {
        let volume = try openVolume(scratch, stillOptions)
        for name: FileName in ["one", "two", "new"] { try volume.makeFile(name, []) }
        let afterOne = try cookie(of: "one", in: volume)
        try volume.rename("new", in: .root, to: "one", in: .root, flags: [])
        #expect(try names(in: volume, from: afterOne) == ["two"])
        #expect(try names(in: volume, from: 0) == ["one", "two"])
        try volume.close()
    }

    @Test func exchangedNamesKeepTheirPlacesInAListingUnderWay() throws {
        var volume = try openVolume(scratch, stillOptions)
        for name: FileName in ["one", "two", "three"] { try volume.makeFile(name, name.bytes) }
        let afterOne = try cookie(of: "one", in: volume)
        try volume.rename("one", in: .root, to: "three", in: .root, flags: .exchange)
        #expect(try names(in: volume, from: afterOne) == ["two", "three"])
        try volume.close()
        volume = try openVolume(scratch, stillOptions)
        #expect(try names(in: volume, from: 0) == ["one", "two", "three"])
        #expect(
            try volume.contents(of: volume.resolve(path: ["one"])) == FileName("three").bytes)
        try volume.close()
    }
}
