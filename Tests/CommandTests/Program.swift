import Foundation

/// The program under test, as the build left it beside the tests.
struct Program {
    /// What one run gave.
    struct Outcome {
        let status: Int32
        let output: [UInt8]
        let errors: String

        var text: String { String(decoding: output, as: UTF8.self) }

        /// The only line on standard error; nil where there is none, or more.
        var errorLine: String? {
            let lines = errors.split(separator: "\n", omittingEmptySubsequences: false)
            return lines.count == 2 && lines[1].isEmpty ? String(lines[0]) : nil
        }
    }

    struct NotRun: Error {
        let path: String
    }

    /// Runs the program with arguments of any bytes; standard input is empty.
    static func run(_ arguments: [String]) throws -> Outcome {
        let executable = try self.executable()
        let process = Process()
        process.executableURL = executable
        process.arguments = arguments
        return try finish(process)
    }

    /// Runs the program through a shell, where `$0` is the program, for arguments that are no
    /// strings.
    static func run(shell script: String) throws -> Outcome {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.arguments = ["-c", script, try executable().path]
        return try finish(process)
    }

    private static func executable() throws -> URL {
        let tests = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        let url = tests.deletingLastPathComponent().appendingPathComponent("registryfs")
        guard FileManager.default.isExecutableFile(atPath: url.path) else {
            throw NotRun(path: url.path)
        }
        return url
    }

    private static func finish(_ process: Process) throws -> Outcome {
        // Files, not pipes: no output is too long, and nobody has to read while it runs.
        let directory = try TemporaryDirectory()
        let output = directory.path + "/output"
        let errors = directory.path + "/errors"
        for path in [output, errors] {
            guard FileManager.default.createFile(atPath: path, contents: nil) else {
                throw NotRun(path: path)
            }
        }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: output))
        process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: errors))
        try process.run()
        process.waitUntilExit()
        return Outcome(
            status: process.terminationStatus,
            output: Array(try Data(contentsOf: URL(fileURLWithPath: output))),
            errors: String(
                decoding: try Data(contentsOf: URL(fileURLWithPath: errors)), as: UTF8.self))
    }
}

/// A directory that goes away with its owner.
final class TemporaryDirectory {
    let path: String

    init() throws {
        let base = FileManager.default.temporaryDirectory.path
        path = base + "/registryfs-command-\(UUID().uuidString)"
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: true)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }
}
