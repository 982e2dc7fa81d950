import Base
import Volume
import Logging
import Glibc
import struct SystemPackage.Errno
func now() -> Double { var t = timespec(); clock_gettime(CLOCK_MONOTONIC, &t); return Double(t.tv_sec) + Double(t.tv_nsec) / 1e9 }
func rss() -> Int { var u = rusage(); getrusage(Int32(0), &u); return u.ru_maxrss / 1024 }
func cpu() -> Double { var u = rusage(); getrusage(Int32(0), &u); return Double(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + Double(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6 }
let dir = CommandLine.arguments[1]
let v = try Volume.open(stateDirectory: dir, options: VolumeOptions(), log: Logger(label: "b"))
let c = Caller(uid: 0, gid: 0, pid: 1, umask: 0o022)
func time(_ name: String, _ n: Int, _ body: () throws -> Void) rethrows {
    let t = now(), k = cpu(); try body(); let e = now() - t
    print("\(name): \(Int(Double(n) / e))/s  \(e)s cpu \(cpu() - k) rss \(rss())")
}
let d = try v.makeDirectory(FileName("d"), in: .root, mode: 0o755, caller: c).inode
let content = [UInt8](repeating: 65, count: 71)
try time("create+write71", 20000) {
    for i in 0..<20000 {
        let (a, o) = try v.create(FileName("f\(i)"), in: d, mode: 0o644, flags: OpenFlags(rawValue: 1), caller: c)
        _ = try content.withUnsafeBytes { try v.write(o.handle, at: 0, $0, clearSetID: false) }
        v.release(o.handle); v.forget(a.inode, count: 1)
    }
}
try time("stat", 200000) { for i in 0..<200000 { let a = try v.lookup(FileName("f\(i % 20000)"), in: d); v.forget(a.inode, count: 1) } }
try time("list", 20000) { try v.readDirectoryPlus(d, from: 0) { _, _ in true } }
try time("sync", 1) { try v.synchronizeAll() }
if false { try time("putcontent", 5000) {
    for i in 0..<5000 {
        let (a, o) = try v.create(FileName("t\(i)"), in: d, mode: 0o644, flags: OpenFlags(rawValue: 1), caller: c)
        _ = try content.withUnsafeBytes { try v.write(o.handle, at: 0, $0, clearSetID: false) }
        try v.synchronize(o.handle, dataOnly: false)
        v.release(o.handle); v.forget(a.inode, count: 1)
        try v.rename(FileName("t\(i)"), in: d, to: FileName("g\(i)"), in: d, flags: [])
        try v.synchronizeDirectory(d)
    }
}
}
try time("root cid", 1) { print(try v.cid(of: .root)) }
try time("root cid again", 1) { print(try v.cid(of: .root)) }
let mb = [UInt8](repeating: 7, count: 32768)
let (a, o) = try v.create(FileName("big"), in: .root, mode: 0o644, flags: OpenFlags(rawValue: 1), caller: c)
try time("write 1GiB 32k (MiB)", 1024) { for i in 0..<32768 { _ = try mb.withUnsafeBytes { try v.write(o.handle, at: UInt64(i) * 32768, $0, clearSetID: false) } } }
v.release(o.handle)
try time("seal 1GiB (MiB)", 1024) { print(try v.cid(of: a.inode)) }
try time("unlink", 20000) { for i in 0..<20000 { try v.unlink(FileName("f\(i)"), in: d) } }
try time("sync", 1) { try v.synchronizeAll() }
try time("close", 1) { try v.close() }
