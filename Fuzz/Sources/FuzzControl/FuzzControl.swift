/// Reads one byte too many if the input begins with "bug", so that a run can show that it would find
/// such a thing.
///
/// Guessing three bytes takes too long; a run only gets there if it is led by what the code does,
/// which also shows that the code is instrumented.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafeRawPointer, _ count: Int) -> CInt {
    guard count > 2, start.load(as: UInt8.self) == 0x62 else { return 0 }
    return second(start, count)
}

@inline(never)
private func second(_ start: UnsafeRawPointer, _ count: Int) -> CInt {
    guard start.load(fromByteOffset: 1, as: UInt8.self) == 0x75 else { return 0 }
    return third(start, count)
}

@inline(never)
private func third(_ start: UnsafeRawPointer, _ count: Int) -> CInt {
    guard start.load(fromByteOffset: 2, as: UInt8.self) == 0x67 else { return 0 }
    return start.load(fromByteOffset: count, as: UInt8.self) == 0 ? 0 : -1
}
