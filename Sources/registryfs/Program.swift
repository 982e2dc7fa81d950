import ArgumentParser
import Glibc

/// Where the program begins.
@main
enum Program {
    /// Runs the command that the arguments name; failures are one line on standard error.
    nonisolated static func main() {
        SecretEnvironment.take()
        do {
            var command = try RegistryFS.parseAsRoot(rawArguments())
            try command.run()
        } catch let failure as Failure {
            complain(failure.message)
            exit(failure.exitCode)
        } catch let code as ExitCode {
            exit(code.rawValue)
        } catch {
            let code = RegistryFS.exitCode(for: error)
            // Help and version come as errors too.
            guard code != .success else { RegistryFS.exit(withError: error) }
            complain(usage(RegistryFS.message(for: error)))
            exit(code.rawValue)
        }
    }

    /// Prints a failure as every command does.
    static func complain(_ message: String) {
        SystemFiles.say("registryfs: \(RawText.shown(message))\n", to: STDERR_FILENO)
    }

    /// Tells a person something that is no failure.
    static func say(_ message: String) {
        SystemFiles.say("registryfs: \(RawText.shown(message))\n", to: STDERR_FILENO)
    }

    private static func usage(_ message: String) -> String {
        let line = message.split(whereSeparator: \.isNewline).first.map(String.init) ?? message
        return line + " (registryfs --help tells more)"
    }

    /// The arguments with every byte kept, as `RawText` carries them.
    private static func rawArguments() -> [String] {
        let count = Int(CommandLine.argc)
        return (1..<max(count, 1)).compactMap { index in
            CommandLine.unsafeArgv[index].map { argument in
                let length = strlen(argument)
                return RawText.text(
                    of: Array(UnsafeRawBufferPointer(start: argument, count: length)))
            }
        }
    }
}

/// The command and its subcommands.
struct RegistryFS: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "registryfs",
        abstract: "A filesystem whose contents live in IPFS.",
        version: "registryfs \(Version.text)",
        subcommands: [
            MountCommand.self, UnmountCommand.self, StatusCommand.self, CIDCommand.self,
            InspectCommand.self, BlockCommand.self, ExportCARCommand.self, SyncCommand.self,
            ImportCommand.self, ImportCARCommand.self, SnapshotCommand.self,
            CheckCommand.self, ResolveCommand.self, KeyCommand.self, PublishCommand.self,
            ServeCommand.self, ExportStaticCommand.self,
        ])
}
