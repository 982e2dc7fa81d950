import Glibc

/// Small files that are on the disk when the call returns: what a push waits for.
struct Durable {
    private let runner: Runner
    private let count: Int

    init(_ runner: Runner) {
        self.runner = runner
        count = runner.options.isQuick ? 300 : 1200
    }

    func run() throws(Failure) {
        try runner.eachRound(.durable) { () throws(Failure) in
            try measure("PutContent, 1 writer", writers: 1, putContent)
            try measure("PutContent, 6 writers", writers: 6, putContent)
            try measure("create, write, fsync, close", writers: 1, createAndSync)
        }
    }

    private func measure(
        _ name: String, writers: Int,
        _ body: @escaping @Sendable (Paths) throws(Failure) -> Void
    ) throws(Failure) {
        let each = count / writers
        try runner.measure(
            Work(.durable, name, .rate), settles: true,
            prepare: { target throws(Failure) in
                for writer in 0..<writers {
                    try makeDirectories(directory(target, name, writer))
                }
            },
            { target throws(Failure) in
                let lists = (0..<writers).map { Paths(directory(target, name, $0), count: each) }
                let time = try seconds { () throws(Failure) in
                    try onThreads(writers) { index throws(Failure) in try body(lists[index]) }
                }
                return Double(each * writers) / time
            })
    }

    /// New ones for each measurement: nothing is removed in between, for ext4 is slow to make files
    /// where many were removed a moment ago.
    private func directory(_ target: Target, _ name: String, _ writer: Int) -> String {
        let kind = name.filter { $0.isLetter || $0.isNumber }
        return target.directory + "/durable-\(kind)-\(runner.round)/writer\(writer)"
    }

    fileprivate struct Paths: Sendable {
        let directory, temporary, final: CStrings

        init(_ directory: String, count: Int) {
            self.directory = CStrings([directory])
            temporary = CStrings((0..<count).map { "\(directory)/tmp\($0)" })
            final = CStrings((0..<count).map { "\(directory)/link\($0)" })
        }
    }
}

/// What distribution 3.x does for each small file: a temporary file, fsync, rename over the final
/// name, fsync of the directory.
private func putContent(_ paths: Durable.Paths) throws(Failure) {
    var content = SmallContent()
    for index in 0..<paths.final.count {
        try createAndSync(paths.temporary[index], &content)
        guard rename(paths.temporary[index], paths.final[index]) == 0 else {
            throw Failure(call: "rename", String(cString: paths.temporary[index]))
        }
        let directory = open(paths.directory[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0, fsync(directory) == 0, close(directory) == 0 else {
            throw Failure(call: "fsync", String(cString: paths.directory[0]))
        }
    }
}

/// What distribution 2.8 does: create, write, fsync, close.
private func createAndSync(_ paths: Durable.Paths) throws(Failure) {
    var content = SmallContent()
    for index in 0..<paths.final.count {
        try createAndSync(paths.final[index], &content)
    }
}

private func createAndSync(
    _ path: UnsafePointer<CChar>, _ content: inout SmallContent
) throws(Failure) {
    let file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw Failure(call: "open", String(cString: path)) }
    let written = content.next { write(file, $0.baseAddress, $0.count) }
    guard written == SmallContent.count, fsync(file) == 0, close(file) == 0 else {
        throw Failure(call: "write and fsync", String(cString: path))
    }
}
