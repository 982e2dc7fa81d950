import Foundation
import FuseSession
import Testing

@Test func mountinfoIsReadAsProcDescribesIt() {
    let text = """
        36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
        42 27 0:39 / /var/lib/registry rw,nosuid - fuse.registryfs registryfs rw,user_id=0
        43 27 0:40 / /a\\040b\\134c\\011d rw shared:2 master:1 propagate_from:3 - fuse x rw
        not a line
        44 27 0:41 / /cut rw -
        """
    let entries = MountEntry.parse(text)
    #expect(entries.map(\.identifier) == [36, 42, 43])
    #expect(entries.map(\.device) == ["98:0", "0:39", "0:40"])
    #expect(entries.map(\.mountPoint) == ["/mnt2", "/var/lib/registry", "/a b\\c\td"])
    #expect(entries.map(\.type) == ["ext3", "fuse.registryfs", "fuse"])
}

@Test func escapesCutShortStayAsTheyAre() {
    let entries = MountEntry.parse("1 2 0:1 / /x\\04 rw - t s o\n1 2 0:1 / /y\\999 rw - t s o")
    #expect(entries.map(\.mountPoint) == ["/x\\04", "/y\\999"])
}

/// A directory of its own, removed at the end.
private func inEmptyDirectory(_ body: (String) throws -> Void) throws {
    let path = FileManager.default.temporaryDirectory
        .appendingPathComponent("mountpoint-\(UUID().uuidString)").resolvingSymlinksInPath().path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    try body(path)
}

@Test func anEmptyDirectoryIsAMountPointAndLinksToItAreResolved() throws {
    try inEmptyDirectory { path in
        let place = path + "/place"
        try FileManager.default.createDirectory(
            atPath: place, withIntermediateDirectories: false)
        try FileManager.default.createSymbolicLink(
            atPath: path + "/link", withDestinationPath: "place")
        #expect(try MountPoint.prepare(place).path == place)
        #expect(try MountPoint.prepare(path + "/link").path == place)
        #expect(try MountPoint.prepare(path + "/./link/../place/").path == place)
    }
}

@Test func unfitMountPointsAreToldApart() throws {
    try inEmptyDirectory { path in
        let missing = path + "/missing"
        #expect(throws: FuseError.mountPointMissing(path: missing)) {
            try MountPoint.prepare(missing)
        }
        let file = path + "/file"
        try Data().write(to: URL(fileURLWithPath: file))
        #expect(throws: FuseError.mountPointNotDirectory(path: file)) {
            try MountPoint.prepare(file)
        }
        #expect(throws: FuseError.mountPointNotEmpty(path: path)) {
            try MountPoint.prepare(path)
        }
        #expect(try MountPoint.prepare(path, allowsNonEmpty: true).path == path)
    }
}
