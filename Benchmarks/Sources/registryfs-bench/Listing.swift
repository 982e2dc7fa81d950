import Glibc

/// The real `find` and `ls -lR` over a tree as a registry makes it: thousands of directories with
/// one entry each.
struct Listing {
    private let runner: Runner
    /// Without some hundred directories above them. A peer that holds a descriptor for each entry may
    /// have no more than 20,000 of them.
    private let entryCount: Int

    init(_ runner: Runner) {
        self.runner = runner
        entryCount = runner.options.isQuick ? 2_500 : 19_000
    }

    func run() throws(Failure) {
        runner.progress("listing: making trees of \(entryCount) entries")
        try runner.onEach("the tree") { target throws(Failure) in
            try makeTree(target.directory + "/tree")
            try makeDirectories(target.directory + "/nothing")
        }
        for target in runner.targets { try runner.settle(target) }
        try runner.eachRound(.listing) { () throws(Failure) in
            for (name, command) in [("find", ["find"]), ("ls -lR", ["ls", "-lR"])] {
                try runner.measure(
                    ["cold", "second", "third", "warm"].map {
                        Work(.listing, "\(name), \($0)", .time)
                    },
                    prepare: { target throws(Failure) in
                        try dropCaches()
                        // The program itself is not what is measured.
                        try runCommand(command + [target.directory + "/nothing"])
                    },
                    { target throws(Failure) in
                        // The first listing of a directory makes the kernel ask for its access time
                        // in the second pass, and that for its ACLs in the third.
                        var times: [Double] = []
                        for _ in 0..<4 { times.append(try time(command, target)) }
                        return times
                    })
            }
        }
        try runner.onEach("removing the tree") { target throws(Failure) in
            try runCommand(["rm", "-rf", target.directory + "/tree"])
        }
    }

    private func time(_ command: [String], _ target: Target) throws(Failure) -> Double {
        try seconds { () throws(Failure) in try runCommand(command + [target.directory + "/tree"]) }
    }

    /// Half of the entries are blobs (a directory and its `data`), half are the links of layers.
    private func makeTree(_ top: String) throws(Failure) {
        var random = UInt64(11)
        func digest() -> String {
            (0..<4).map { _ in
                random ^= random << 13
                random ^= random >> 7
                random ^= random << 17
                let hex = String(random, radix: 16)
                return String(repeating: "0", count: 16 - hex.count) + hex
            }.joined()
        }
        for _ in 0..<entryCount / 4 {
            let name = digest()
            let directory = "\(top)/blobs/sha256/\(name.prefix(2))/\(name)"
            try makeDirectories(directory)
            try makeFile(directory + "/data", name)
        }
        for index in 0..<entryCount / 4 {
            let name = digest()
            let directory = "\(top)/repositories/image\(index / 50)/_layers/sha256/\(name)"
            try makeDirectories(directory)
            try makeFile(directory + "/link", "sha256:" + name)
        }
    }
}
