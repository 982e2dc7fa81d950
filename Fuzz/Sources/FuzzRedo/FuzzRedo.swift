import Checking

/// The redo log's reader, and SQLite's being told of what it read.
///
/// The first byte chooses: the rest is the payload of one record with a right head; a recipe of several
/// records at places of a log; or a whole log. Its highest bit chooses the form of the payloads.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafeRawPointer, _ count: Int) -> CInt {
    guard count > 0 else { return 0 }
    let input = UnsafeRawBufferPointer(start: start, count: count)
    let rest = UnsafeRawBufferPointer(rebasing: input[1...])
    let isFormer = input[0] < 128
    var log: [UInt8]
    switch input[0] % 3 {
    case 0:
        log = RedoLogTrial.record(payload: rest, number: 1, before: 0, isFormer: isFormer)
        // The second segment, empty.
        log += [UInt8](repeating: 0, count: log.count)
    case 1: log = recipe(rest, isFormer: isFormer)
    default: log = Array(rest)
    }
    let (commits, isTaken) = log.withUnsafeBytes { trial.read(log: $0, applied: 0) }
    precondition(commits > 0 || isTaken, "nothing is always taken")
    _ = log.withUnsafeBytes { trial.read(log: $0, applied: .max) }
    return 0
}

private nonisolated(unsafe) let trial: RedoLogTrial = {
    guard let trial = try? RedoLogTrial() else { preconditionFailure("no database in memory") }
    return trial
}()

/// Each record takes four bytes: its number, the number before, its place in blocks of 8 bytes, and the
/// length of its payload; what is left at the end damages the log, a place and a byte at a time.
private func recipe(_ input: UnsafeRawBufferPointer, isFormer: Bool) -> [UInt8] {
    var log = [UInt8](repeating: 0, count: 16 << 10)
    var offset = 0
    func byte() -> UInt8 {
        guard offset < input.count else { return 0 }
        defer { offset += 1 }
        return input[offset]
    }
    for _ in 0..<(byte() % 6) {
        let number = byte() == 255 ? UInt64.max : UInt64(byte())
        let before = UInt64(byte())
        let place = Int(byte()) * 64
        let length = min(Int(byte()) * 4, input.count - min(offset, input.count))
        let payload = UnsafeRawBufferPointer(
            rebasing: input[min(offset, input.count)..<min(offset, input.count) + length])
        offset += length
        let record = RedoLogTrial.record(
            payload: payload, number: number, before: before, isFormer: isFormer)
        for (index, value) in record.enumerated() where place + index < log.count {
            log[place + index] = value
        }
    }
    while offset + 2 < input.count {
        log[(Int(byte()) << 8 | Int(byte())) % log.count] ^= byte()
    }
    return log
}
