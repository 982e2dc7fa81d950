import Base
import Foundation
import Naming
import Testing

/// A directory that goes away with its owner.
final class TemporaryDirectory {
    let path: String

    init() throws {
        path =
            FileManager.default.temporaryDirectory.path + "/registryfs-naming-\(UUID().uuidString)"
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func mode(_ name: String) throws -> Int {
        let attributes = try FileManager.default.attributesOfItem(atPath: path + "/" + name)
        return (attributes[.posixPermissions] as? NSNumber)?.intValue ?? -1
    }
}

@Suite struct StoreTests {
    private func record(_ sequence: UInt64, days: Int64 = 0) throws -> IPNSRecord {
        try RecordTests.make(
            sequence: sequence,
            validUntil: Timestamp(
                seconds: RecordTests.moment.seconds + 86_400 * days, nanoseconds: 0))
    }

    @Test func noRecordEverGoesBack() throws {
        let directory = try TemporaryDirectory()
        let name = try KnownKey.key().name
        let path = directory.path + "/names"
        let store = try SequenceStore(directory: path)
        #expect(try store.last(of: name) == nil)
        #expect(try store.accept(try record(5), of: name).sequence == 5)
        let error = #expect(throws: NamingError.self) { try store.accept(try record(4), of: name) }
        #expect(error?.kind == .untrusted)
        // Of the same sequence, what holds longer counts.
        #expect(try store.accept(try record(5, days: 2), of: name) == (try record(5, days: 2)))
        #expect(try store.accept(try record(5, days: 1), of: name) == (try record(5, days: 2)))
        #expect(try store.accept(try record(6), of: name).sequence == 6)
        // Another process sees the same.
        let again = try SequenceStore(directory: path)
        #expect(try again.last(of: name) == (try record(6)))
        #expect(throws: NamingError.self) { try again.accept(try record(5, days: 9), of: name) }
        #expect(try directory.mode("names") == 0o700)
        #expect(try directory.mode("names/\(name).ipns-record") == 0o600)
    }

    @Test func aFileThatIsNoRecordIsAnErrorThatNamesIt() throws {
        let directory = try TemporaryDirectory()
        let name = try KnownKey.key().name
        let store = try SequenceStore(directory: directory.path)
        let file = "\(directory.path)/\(name).ipns-record"
        for content in [Data(), Data("nonsense".utf8), Data(count: 20_000)] {
            try content.write(to: URL(fileURLWithPath: file))
            let error = #expect(throws: NamingError.self) {
                try store.accept(try record(9), of: name)
            }
            #expect(error?.description.contains(file) == true)
        }
    }

    @Test func whatAnotherUserMayWriteIsNotUsed() throws {
        let directory = try TemporaryDirectory()
        let files = FileManager.default
        let real = directory.path + "/real"
        try files.createDirectory(atPath: real, withIntermediateDirectories: false)
        try files.createSymbolicLink(
            atPath: directory.path + "/link", withDestinationPath: real)
        let link = #expect(throws: NamingError.self) {
            try SequenceStore(directory: directory.path + "/link")
        }
        #expect(link?.kind == .untrusted)
        try files.setAttributes([.posixPermissions: 0o777], ofItemAtPath: real)
        let open = #expect(throws: NamingError.self) { try SequenceStore(directory: real) }
        #expect(open?.kind == .untrusted)
        #expect(open?.description.contains("chmod") == true)
    }

    @Test func keysAreKeptForTheirOwnerAlone() throws {
        let directory = try TemporaryDirectory()
        let keys = try KeyStore(stateDirectory: directory.path)
        let key = PrivateKey()
        try keys.add(key, label: "one")
        #expect(try keys.key(labelled: "one")?.name == key.name)
        #expect(try keys.key(labelled: "two") == nil)
        #expect(try directory.mode("keys") == 0o700)
        #expect(try directory.mode("keys/one.key") == 0o600)
        #expect(throws: NamingError.self) { try keys.add(PrivateKey(), label: "one") }
        #expect(try keys.key(labelled: "one")?.name == key.name)
        for label in ["", "a/b", "..", ".", "a.b", "ä", String(repeating: "x", count: 65)] {
            #expect(throws: NamingError.self) { try keys.add(key, label: label) }
        }
        try keys.add(try KnownKey.key(), label: "Two_2-b")
        #expect(try keys.entries().map(\.label) == ["Two_2-b", "one"])
        try FileManager.default.setAttributes(
            [.posixPermissions: 0o640], ofItemAtPath: directory.path + "/keys/one.key")
        let error = #expect(throws: NamingError.self) { try keys.key(labelled: "one") }
        #expect(error?.description.contains("chmod 600") == true)
    }

    @Test func noSequenceIsSignedTwice() throws {
        let directory = try TemporaryDirectory()
        let keys = try KeyStore(stateDirectory: directory.path)
        try keys.add(try KnownKey.key(), label: "one")
        @Sendable func sign(_ days: Int64, above seen: UInt64? = nil) throws -> IPNSRecord {
            try keys.sign(
                RecordTests.value, with: "one",
                validUntil: Timestamp(
                    seconds: RecordTests.moment.seconds + days, nanoseconds: 0),
                ttlNanoseconds: 1, above: seen)
        }
        #expect(try sign(1).sequence == 0)
        #expect(try sign(2).sequence == 1)
        #expect(try sign(3, above: 1).sequence == 2)
        #expect(try sign(4, above: 40).sequence == 41)
        let name = try KnownKey.key().name
        #expect(try keys.record(of: "one", name)?.sequence == 41)
        // Many at once.
        let sequences = Monitor<[UInt64]>([])
        let threads = try (0..<8).map { _ in
            try Threads.start(name: "sign") {
                for _ in 0..<8 {
                    guard let record = try? sign(5) else { return }
                    sequences.withLock { $0.append(record.sequence) }
                }
            }
        }
        for thread in threads { thread.join() }
        let found = sequences.withLock { $0.sorted() }
        #expect(found == Array(42..<106))
        #expect(throws: NamingError.self) { try sign(6, above: UInt64(Int64.max)) }
        #expect(throws: NamingError.self) {
            try keys.sign(
                RecordTests.value, with: "none", validUntil: .now(), ttlNanoseconds: 1)
        }
    }
}
