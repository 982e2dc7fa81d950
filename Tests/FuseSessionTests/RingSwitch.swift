import Base
import Glibc
import Testing

/// The kernel's switch for FUSE over io_uring, which is the whole machine's.
///
/// Other tests turn it on and off at the same time, in other processes too: `with_ring_switch` of
/// Mount/common.sh tells how they keep out of each other's way.
enum RingSwitch {
    private static let directory = "/sys/module/fuse/parameters"
    private static let path = directory + "/enable_uring"
    private static let notePath = "/run/registryfs-enable-uring"
    private static let lockSecondsMax = 600

    struct Held: Error {}

    /// Whether the kernel has it.
    static var exists: Bool { access(path, F_OK) == 0 }

    /// Runs a body while the switch is on, and puts it back as it was; without that where it cannot be
    /// changed.
    static func whileOn<Result: ~Copyable>(_ body: () throws -> Result) throws -> Result {
        guard access(path, W_OK) == 0 else { return try body() }
        let lock = try Sys.open(directory, flags: O_RDONLY | O_DIRECTORY)
        guard
            try eventually(seconds: lockSecondsMax, { try Sys.lockExclusively(lock.raw) })
        else { throw Held() }
        let noted = (try? firstLetter(of: notePath)) ?? ""
        let before = try ["Y", "N"].contains(noted) ? noted : firstLetter(of: path)
        try replace(notePath, before)
        defer {
            #expect(throws: Never.self) {
                try replace(path, before)
                try replace(notePath, "")
            }
        }
        try replace(path, "Y")
        return try body()
    }

    private static func firstLetter(of path: String) throws -> String {
        let file = try Sys.open(path, flags: O_RDONLY)
        var byte: UInt8 = 0
        let count = try withUnsafeMutableBytes(of: &byte) {
            try Sys.read(file.raw, at: 0, into: $0)
        }
        return count > 0 ? String(UnicodeScalar(byte)) : ""
    }

    private static func replace(_ path: String, _ text: String) throws {
        let file = try Sys.open(path, flags: O_WRONLY | O_TRUNC | O_CREAT)
        guard !text.isEmpty else { return }
        try Array("\(text)\n".utf8).withBytes { try Sys.write(file.raw, at: 0, $0) }
    }
}
