import Glibc

/// Measures filesystems against the disk below them; `Benchmarks/run` mounts them and starts this.
@main
enum Main {
    static func main() {
        do throws(Failure) {
            let options = try Options(Array(CommandLine.arguments.dropFirst()))
            let runner = Runner(options)
            for group in options.groups {
                switch group {
                case .io: try InputOutput(runner).run()
                case .files: try Files(runner).run()
                case .durable: try Durable(runner).run()
                case .listing: try Listing(runner).run()
                case .registry: try Registry(runner).run()
                case .daemon: try Daemon(runner).run()
                }
            }
            let report = Report(runner)
            writeOut(report.table(), to: STDOUT_FILENO)
            if let path = options.json { try makeFile(path, report.json()) }
            if let path = options.plot { try makeFile(path, report.plot()) }
            for failure in runner.results.failures { say("failed: \(failure)") }
            if options.mustHold && !(report.misses.isEmpty && runner.results.failures.isEmpty) {
                say("missed: \(report.misses.count); failed: \(runner.results.failures.count)")
                exit(1)
            }
        } catch {
            say("registryfs-bench: \(error.message)")
            exit(1)
        }
    }
}
