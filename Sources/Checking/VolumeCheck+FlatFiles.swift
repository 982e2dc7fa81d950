internal import Base

internal import struct SystemPackage.Errno

extension VolumeCheck {
    /// Finds what stands in the folder of flat files and belongs to no object. The layout is
    /// ObjectStore's: 16 hexadecimal digits in a folder that is named by the first 13.
    func checkFlatFiles() throws(CheckFailure) {
        let buckets: [String]
        do throws(Errno) {
            buckets = try Sys.names(in: stateDirectory, path: "objects").sorted()
        } catch {
            return try manifest.report("objects: the folder cannot be read: \(error)")
        }
        for bucket in buckets {
            let path = "objects/\(bucket)"
            guard Self.isHexadecimal(bucket, digits: 13), isDirectory(path) else {
                try reportForeign(path)
                continue
            }
            let names: [String]
            do throws(Errno) {
                names = try Sys.names(in: stateDirectory, path: path).sorted()
            } catch {
                try manifest.report("\(path): the folder cannot be read: \(error)")
                continue
            }
            for name in names { try checkFlatFile(name, in: bucket) }
        }
    }

    private func checkFlatFile(_ name: String, in bucket: String) throws(CheckFailure) {
        let path = "objects/\(bucket)/\(name)"
        guard Self.isHexadecimal(name, digits: 16), name.hasPrefix(bucket),
            let number = UInt64(name, radix: 16)
        else { return try reportForeign(path) }
        let object = Int64(bitPattern: number)
        let isFlat = try manifest.isFlat(object: object)
        if isFlat == true { return }
        if isFlat == nil {
            if try manifest.isDeleted(object: object) { return }
            // Made after the last commit; the next mount of a volume that was not closed properly
            // removes it.
            if let volume = manifest.volume, !volume.isClean, object >= volume.nextObject {
                pending.unnamedFiles += 1
                return
            }
        }
        try report("\(path): a flat file of no object") { text in
            .remove(path: path, text: text)
        }
    }

    /// What is not ours is not ours to remove.
    private func reportForeign(_ path: String) throws(CheckFailure) {
        try manifest.report("\(shown(Array(path.utf8))): no flat file of an object has such a name")
    }

    private func isDirectory(_ path: String) -> Bool {
        guard let status = try? Sys.status(of: path, in: stateDirectory) else { return false }
        return FileKind(mode: status.mode) == .directory
    }

    private static func isHexadecimal(_ name: String, digits: Int) -> Bool {
        name.utf8.count == digits
            && name.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }
}
