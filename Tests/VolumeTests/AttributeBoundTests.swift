import Base
import Checking
import Foundation
import GRDB
import Glibc
import Testing
import Volume

import struct SystemPackage.Errno

/// What one inode may have of extended attributes.
@Suite struct AttributeBoundTests {
    private static let valueSizeMax = 65_536

    private let directory = ScratchDirectory()

    private func set(
        _ name: FileName, _ count: Int, of inode: Inode, in volume: Volume
    ) -> Errno? {
        errno { () throws(Errno) in
            try volume.setExtendedAttribute(
                name, of: inode, to: content(seed: 1, count: count), flags: 0, clearSetGID: false,
                caller: root)
        }
    }

    @Test func theBytesOfAnInodesAttributesAreBounded() throws {
        let volume = try openVolume(directory, stillOptions)
        let file = try volume.makeFile("f", [1])
        #expect(set("user.a", Self.valueSizeMax + 1, of: file, in: volume)?.rawValue == E2BIG)
        for name in ["user.a", "user.b"] {
            #expect(set(FileName(name), Self.valueSizeMax, of: file, in: volume) == nil)
        }
        #expect(set("user.c", 1, of: file, in: volume) == .noSpace)
        #expect(set("user.c", 0, of: file, in: volume) == nil)
        #expect(set("user.a", Self.valueSizeMax - 10, of: file, in: volume) == nil)
        #expect(set("user.c", 10, of: file, in: volume) == nil)
        try volume.removeExtendedAttribute("user.b", of: file)
        #expect(set("trusted.d", Self.valueSizeMax, of: file, in: volume) == nil)
        // Of names, as many as listxattr(2) can tell.
        var names = 0
        while set(
            FileName("user.\(names)" + String(repeating: "n", count: 240)), 0, of: file, in: volume)
            == nil
        {
            names += 1
        }
        #expect(
            try (200...270).contains(names)
                && volume.extendedAttributeNames(of: file).count <= 65_536)
        try volume.close()
    }

    @Test func anInodeOfBeforeThatHasMoreWorksAndMayHaveLess() throws {
        var volume = try openVolume(directory, stillOptions)
        let file = try volume.makeFile("f", [1])
        #expect(set("user.0", 10, of: file, in: volume) == nil)
        try volume.close()
        let value = content(seed: 2, count: Self.valueSizeMax)
        let database = try DatabaseQueue(path: directory.state + "/manifest.sqlite")
        try database.write { db in
            for index in 1...6 {
                try db.execute(
                    sql: "INSERT INTO xattr(inode, name, value) VALUES (?, ?, ?)",
                    arguments: [Int64(file.number), "user.\(index)".utf8Data, value.data])
            }
        }
        try database.close()
        volume = try openVolume(directory, stillOptions)
        #expect(try volume.extendedAttribute("user.6", of: file) == value)
        #expect(set("user.7", 1, of: file, in: volume) == .noSpace)
        #expect(set("user.0", 11, of: file, in: volume) == .noSpace)
        #expect(set("user.0", 9, of: file, in: volume) == nil)
        #expect(set("user.1", Self.valueSizeMax, of: file, in: volume) == nil)
        for index in 1...5 {
            try volume.removeExtendedAttribute(FileName("user.\(index)"), of: file)
        }
        #expect(set("user.7", 1, of: file, in: volume) == nil)
        try volume.close()
        let report = try Check.run(stateDirectory: directory.state, repair: false) { _, _ in }
        #expect(report.isClean, "\(report.problems)")
        volume = try openVolume(directory, stillOptions)
        #expect(try volume.extendedAttribute("user.6", of: file) == value)
        let names = try volume.extendedAttributeNames(of: file)
        #expect(String(decoding: names, as: UTF8.self) == "user.0\0user.6\0user.7\0")
        try volume.close()
    }
}

extension String {
    fileprivate var utf8Data: Data { Data(utf8) }
}

extension [UInt8] {
    fileprivate var data: Data { Data(self) }
}
