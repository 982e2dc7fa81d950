import ArgumentParser
import Base
import Glibc
import Naming

import struct SystemPackage.Errno

struct KeyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key",
        abstract: "Make, list and move the keys that names are published with.",
        subcommands: [Generate.self, List.self, Export.self, Import.self])

    struct Generate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a key (Ed25519), and print its IPNS name.")

        @Argument(help: "How the key is called here.")
        var key: String = KeyStore.defaultLabel

        @OptionGroup var volume: VolumeOption
        @OptionGroup var report: ReportOption

        func run() throws {
            try KeyRun.add(PrivateKey(), key, to: volume.stateDir, json: report.json)
        }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the keys, their IPNS names, and what was published last.")

        @OptionGroup var volume: VolumeOption
        @OptionGroup var report: ReportOption

        func run() throws {
            try KeyRun.list(volume.stateDir, json: report.json)
        }
    }

    struct Export: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a key to a new file that only its owner can read.",
            discussion: "Whoever has the file can publish under the name.")

        @Argument(help: "How the key is called here.")
        var key: String = KeyStore.defaultLabel

        @Option(
            name: [.short, .long],
            help: ArgumentHelp(
                "The file to make; - is standard output.", valueName: "file"),
            completion: .file())
        var output: String

        @Option(
            help: ArgumentHelp(
                "As Kubo's key import takes it, or PKCS#8 in PEM.", valueName: "libp2p|pem"))
        var format: String = "libp2p"

        @OptionGroup var volume: VolumeOption

        func validate() throws {
            guard format == "libp2p" || format == "pem" else {
                throw ValidationError("--format '\(RawText.shown(format))': libp2p or pem")
            }
        }

        func run() throws {
            try KeyRun.export(key, to: output, isPEM: format == "pem", volume.stateDir)
        }
    }

    struct Import: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take over a key, and print its IPNS name.",
            discussion:
                "From libp2p's form, as Kubo exports it, or from PKCS#8 in PEM; Ed25519 only.")

        @Argument(help: "How the key is to be called here.")
        var key: String

        @Argument(help: "The file with the key.", completion: .file())
        var file: String

        @OptionGroup var volume: VolumeOption
        @OptionGroup var report: ReportOption

        func run() throws {
            try KeyRun.importKey(key, from: file, volume.stateDir, json: report.json)
        }
    }
}

/// What the commands for keys do once their arguments are read.
enum KeyRun {
    /// Opens the keys of a state directory; of the only mounted volume, or the default one, where none is given.
    static func open(_ stateDirectory: String?) throws(Failure) -> KeyStore {
        let choice = try VolumeChoice.find(stateDirectory: stateDirectory)
        let path = try VolumeAccess.checked(
            choice?.stateDirectory ?? VolumeAccess.defaultStateDirectory)
        let distrusted: (path: String, Distrust)?
        do throws(Errno) {
            distrusted = try ControlSocket.distrust(stateDirectory: path)
        } catch {
            throw Failure("\(RawText.shown(path)): \(error.reason)")
        }
        if let (path, distrust) = distrusted {
            throw Failure("\(RawText.shown(path)) \(distrust)", kind: .foreign)
        }
        return try Failure.naming { () throws(NamingError) in
            try KeyStore(stateDirectory: path)
        }
    }

    /// Refuses what cannot be a key's name.
    static func check(_ label: String) throws(Failure) {
        try Failure.ofUsage { () throws(NamingError) in try KeyStore.check(label: label) }
    }

    static func add(
        _ key: PrivateKey, _ label: String, to stateDirectory: String?, json: Bool
    ) throws(Failure) {
        try check(label)
        let keys = try open(stateDirectory)
        try Failure.naming { () throws(NamingError) in try keys.add(key, label: label) }
        let name = key.name.description
        try Output.line(
            json ? try ReportText.json(KeysReport.Key(key: label, name: name)) : name)
    }

    static func list(_ stateDirectory: String?, json: Bool) throws(Failure) {
        let keys = try open(stateDirectory)
        let entries = try Failure.naming { () throws(NamingError) in try keys.entries() }
        guard !json else {
            try Output.line(
                try ReportText.json(KeysReport(keys: entries.map { KeysReport.Key($0) })))
            return
        }
        for entry in entries {
            let last = entry.record.map { record in
                "\(record.value), sequence \(record.sequence), until \(Figures.time(record.validUntil))"
            }
            try Output.line(
                "\(entry.label) \(entry.name) \(RawText.shown(last ?? "nothing published"))")
        }
    }

    static func export(
        _ label: String, to output: String, isPEM: Bool, _ stateDirectory: String?
    ) throws(Failure) {
        try check(label)
        let keys = try open(stateDirectory)
        let found = try Failure.naming { () throws(NamingError) in
            try keys.key(labelled: label)
        }
        guard let key = found else {
            throw Failure(
                "there is no key '\(label)': registryfs key list shows them", kind: .absent)
        }
        let bytes = isPEM ? Array(key.pem.utf8) : key.protobuf
        guard output != "-" else {
            try bytes.withBytes { (bytes) throws(Failure) in try Output.bytes(bytes) }
            return
        }
        do throws(Errno) {
            // A new file: one that is there may be open to others.
            let file = try Sys.open(output, flags: O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
            try bytes.withBytes { [raw = file.raw] (bytes) throws(Errno) in
                try Sys.write(raw, at: 0, bytes)
            }
            try Sys.synchronize(file.raw)
        } catch {
            throw Failure("cannot write \(RawText.shown(output)): \(error.reason)")
        }
    }

    static func importKey(
        _ label: String, from file: String, _ stateDirectory: String?, json: Bool
    ) throws(Failure) {
        try check(label)
        let bytes: [UInt8]
        do throws(Errno) {
            bytes = try SystemFiles.read(file, byteCountMax: PrivateKey.fileLengthMax + 1)
        } catch {
            throw Failure("cannot read \(RawText.shown(file)): \(error.reason)")
        }
        guard bytes.count <= PrivateKey.fileLengthMax else {
            throw Failure("\(RawText.shown(file)) is too long for a key")
        }
        let key: PrivateKey
        do throws(NamingError) {
            key = try PrivateKey(file: bytes)
        } catch {
            throw Failure("\(RawText.shown(file)): \(error)")
        }
        try add(key, label, to: stateDirectory, json: json)
    }
}

/// What `key list --json` prints, and of one key `generate` and `import`. The keys are part of the program's interface.
struct KeysReport: Codable, Sendable {
    struct Key: Codable, Sendable {
        var key: String
        /// The IPNS name.
        var name: String
        /// What was published last.
        var value: String?
        var sequence: UInt64?
        var validUntil: String?

        init(key: String, name: String) {
            self.key = key
            self.name = name
        }

        init(_ entry: KeyStore.Entry) {
            key = entry.label
            name = entry.name.description
            value = entry.record?.value
            sequence = entry.record?.sequence
            validUntil = entry.record.map { Figures.time($0.validUntil) }
        }
    }

    var keys: [Key]
}
