import Glibc

/// Ten thousand small files, a hundred in each directory.
struct Files {
    private let runner: Runner
    private let directoryCount: Int
    private let filesEach = 100
    /// What is warm takes too little time for one pass to tell much.
    private let warmPasses = 2

    init(_ runner: Runner) {
        self.runner = runner
        directoryCount = runner.options.isQuick ? 20 : 100
    }

    private var fileCount: Int { directoryCount * filesEach }

    /// The paths of one round on one filesystem, made before any clock starts.
    private struct Tree {
        let base: String
        let directories, apart, files, nodes, renamed, missing, empty: CStrings
    }

    func run() throws(Failure) {
        try runner.eachRound(.files) { () throws(Failure) in
            var trees: [String: Tree] = [:]
            for target in runner.targets {
                let tree = makeTree(target.directory + "/files-\(runner.round)")
                try makeDirectories(tree.base)
                for index in 0..<directoryCount {
                    guard mkdir(tree.directories[index], 0o755) == 0,
                        mkdir(tree.apart[index], 0o755) == 0
                    else { throw Failure(call: "mkdir", tree.base) }
                }
                trees[target.name] = tree
            }
            for target in runner.targets { try runner.settle(target) }
            try steps(trees)
        }
    }

    private func makeTree(_ base: String) -> Tree {
        let directories = (0..<directoryCount).map { "\(base)/d\($0)" }
        // The nodes have directories of their own, so that nobody comes across them again.
        let apart = (0..<directoryCount).map { "\(base)/nodes\($0)" }
        func paths(_ directories: [String], _ prefix: String) -> CStrings {
            CStrings(directories.flatMap { top in (0..<filesEach).map { "\(top)/\(prefix)\($0)" } })
        }
        return Tree(
            base: base, directories: CStrings(directories), apart: CStrings(apart),
            files: paths(directories, "file"), nodes: paths(apart, "node"),
            renamed: paths(directories, "renamed"), missing: paths(directories, "missing"),
            empty: CStrings((0..<fileCount / 5).map { "\(base)/d\($0 % directoryCount)/e\($0)" }))
    }

    private func steps(_ trees: [String: Tree]) throws(Failure) {
        try each("mkdir", trees, \.empty, settles: true) { mkdir($0, 0o755) == 0 }
        try each("rmdir", trees, \.empty, settles: true) { rmdir($0) == 0 }
        try each("create (mknod)", trees, \.nodes, settles: true) {
            mknod($0, S_IFREG | 0o644, 0) == 0
        }
        // A peer may hold a descriptor for each file that the kernel remembers. They are not removed:
        // ext4 is slow to make files where many were removed a moment ago.
        try dropCaches()
        try create(trees)
        try each("stat, cold", trees, \.files, isCold: true) { lookUp($0) }
        try each("stat, warm", trees, \.files, isWarm: true) { lookUp($0) }
        try each("stat, ENOENT", trees, \.missing, isWarm: true) { !lookUp($0) && errno == ENOENT }
        try each("open, read, close", trees, \.files, isWarm: true) { openReadClose($0) }
        try listing(trees)
        try rename(trees)
        try each("unlink", trees, \.renamed, settles: true) { unlink($0) == 0 }
    }

    /// One call for each of the paths; calls a second. Where it is warm: some calls for each, after a
    /// first one that does not count.
    private func each(
        _ name: String, _ trees: [String: Tree], _ paths: KeyPath<Tree, CStrings>,
        isCold: Bool = false, isWarm: Bool = false, settles: Bool = false,
        _ call: (UnsafePointer<CChar>) -> Bool
    ) throws(Failure) {
        try runner.measure(
            Work(.files, name, .rate), settles: settles,
            prepare: { target throws(Failure) in
                if isCold { try dropCaches() }
                if isWarm { try doEach(name, trees[target.name]?[keyPath: paths], call) }
            },
            { target throws(Failure) in
                guard let list = trees[target.name]?[keyPath: paths] else { return 0 }
                let passes = isWarm ? warmPasses : 1
                let time = try seconds { () throws(Failure) in
                    for _ in 0..<passes { try doEach(name, list, call) }
                }
                return Double(list.count * passes) / time
            })
    }

    private func doEach(
        _ name: String, _ list: CStrings?, _ call: (UnsafePointer<CChar>) -> Bool
    ) throws(Failure) {
        guard let list else { return }
        for index in 0..<list.count where !call(list[index]) {
            throw Failure(call: name, String(cString: list[index]))
        }
    }

    private func lookUp(_ path: UnsafePointer<CChar>) -> Bool {
        var attributes = stat()
        return lstat(path, &attributes) == 0
    }

    private func openReadClose(_ path: UnsafePointer<CChar>) -> Bool {
        withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 16) { bytes in
            let file = open(path, O_RDONLY | O_CLOEXEC)
            guard file >= 0 else { return false }
            let count = read(file, bytes.baseAddress, bytes.count)
            return close(file) == 0 && count == SmallContent.count
        }
    }

    private func create(_ trees: [String: Tree]) throws(Failure) {
        var content = SmallContent()
        try each("create, write 71, close", trees, \.files, settles: true) { path in
            let file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
            guard file >= 0 else { return false }
            let written = content.next { write(file, $0.baseAddress, $0.count) }
            return close(file) == 0 && written == SmallContent.count
        }
    }

    private func rename(_ trees: [String: Tree]) throws(Failure) {
        try runner.measure(Work(.files, "rename", .rate, isNeeded: true), settles: true) {
            target throws(Failure) in
            guard let tree = trees[target.name] else { return 0 }
            let time = try seconds { () throws(Failure) in
                for index in 0..<tree.files.count {
                    guard Glibc.rename(tree.files[index], tree.renamed[index]) == 0 else {
                        throw Failure(call: "rename", String(cString: tree.files[index]))
                    }
                }
            }
            return Double(tree.files.count) / time
        }
    }

    /// Entries a second, of warm listings without attributes.
    private func listing(_ trees: [String: Tree]) throws(Failure) {
        try runner.measure(Work(.files, "readdir, entries", .rate)) { target throws(Failure) in
            guard let directories = trees[target.name]?.directories else { return 0 }
            var count = try list(directories)
            let time = try seconds { () throws(Failure) in
                count = 0
                for _ in 0..<warmPasses { count += try list(directories) }
            }
            return Double(count) / time
        }
    }

    private func list(_ directories: CStrings) throws(Failure) -> Int {
        var count = 0
        for index in 0..<directories.count {
            guard let directory = opendir(directories[index]) else {
                throw Failure(call: "opendir", String(cString: directories[index]))
            }
            while readdir(directory) != nil { count += 1 }
            closedir(directory)
        }
        // A filesystem need not tell of "." and "..".
        guard count == fileCount || count == fileCount + 2 * directoryCount else {
            throw Failure("\(count) entries, not \(fileCount)")
        }
        return fileCount
    }
}

/// The 71 bytes of a registry's `link` file, other ones every time.
struct SmallContent {
    static let count = 71
    private var counter = UInt64(now() * 1e6)
    private var bytes = ContiguousArray(("sha256:" + String(repeating: "0", count: 64)).utf8)

    /// Calls `body` with the bytes of another file.
    mutating func next<Value>(_ body: (UnsafeRawBufferPointer) -> Value) -> Value {
        counter &+= 1
        var rest = counter
        for place in 0..<16 {
            let digit = UInt8(truncatingIfNeeded: rest & 15)
            bytes[Self.count - 1 - place] = digit < 10 ? 48 + digit : 87 + digit
            rest >>= 4
        }
        return bytes.withUnsafeBytes(body)
    }
}
