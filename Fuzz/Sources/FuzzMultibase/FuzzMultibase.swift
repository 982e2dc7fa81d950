import Multiformats

/// Every value has one text in a base, and every text one value.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafeRawPointer, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: start, count: count)
    let text = String(decoding: input, as: UTF8.self)
    if let (base, bytes) = try? Multibase.decode(text) {
        precondition(base.encode(bytes) == text, "no second text has the same value")
    }
    if let first = input.first {
        let base = Multibase.allCases[Int(first) % Multibase.allCases.count]
        let bytes = Array(input.dropFirst())
        let written = base.encode(bytes)
        if written.utf8.count <= Multibase.digitCountMax {
            precondition((try? Multibase.decode(written))?.bytes == bytes)
        }
    }
    if let (value, length) = try? Varint.decode(input) {
        var bytes: [UInt8] = []
        Varint.append(value, to: &bytes)
        precondition(bytes == Array(input[..<length]), "a varint has one form")
    }
    return 0
}
