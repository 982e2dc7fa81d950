import Glibc

/// Runs a program to its end with standard input empty, and gives what it wrote to standard output.
///
/// The output goes through a pipe, which is read all the time: some programs do less work when
/// they write to /dev/null. Standard error is this program's own. A status other than 0 is a failure.
@discardableResult
func runCommand(_ arguments: [String], keepOutput: Bool = false) throws(Failure) -> String {
    guard let name = arguments.first else { throw Failure("no command") }
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { throw Failure(call: "pipe", name) }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)

    let argv = CStrings(arguments)
    // The order of `ls` and the language of messages are nobody's choice here.
    var variables = ["LC_ALL=C"]
    for key in ["PATH", "HOME", "TMPDIR"] {
        if let value = getenv(key) { variables.append("\(key)=\(String(cString: value))") }
    }
    let environment = CStrings(variables)
    var child = pid_t()
    let code = posix_spawnp(
        &child, argv[0], &actions, nil, argv.pointers, environment.pointers)
    close(ends[1])
    guard code == 0 else {
        close(ends[0])
        throw Failure(call: "starting", name, errno: code)
    }
    var kept: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1 << 18)
    while true {
        let count = read(ends[0], &piece, piece.count)
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { break }
        if keepOutput { kept.append(contentsOf: piece[..<count]) }
    }
    close(ends[0])
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 && errno == EINTR {}
    guard status == 0 else {
        throw Failure("\(arguments.joined(separator: " ")) ended with wait status \(status)")
    }
    return String(decoding: kept, as: UTF8.self)
}

/// Texts as C has them, with a null pointer after the last one, for as long as this lives.
///
/// Nothing is changed after `init`, so that threads may share it.
final class CStrings: @unchecked Sendable {
    let pointers: [UnsafeMutablePointer<CChar>?]

    init(_ texts: [String]) {
        pointers = texts.map { strdup($0) } + [nil]
    }

    deinit {
        for pointer in pointers { free(pointer) }
    }

    var count: Int { pointers.count - 1 }

    /// The text at `index`, for a system call.
    subscript(index: Int) -> UnsafePointer<CChar> {
        guard let pointer = pointers[index] else {
            preconditionFailure("no memory for a path, or an index past the end")
        }
        return UnsafePointer(pointer)
    }
}
