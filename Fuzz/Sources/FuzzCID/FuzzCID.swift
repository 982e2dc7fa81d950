import Multiformats

/// A CID has one binary form and one text in each base, so whatever is accepted is written as it was
/// read.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafeRawPointer, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: start, count: count)
    checkBinary(input)
    checkText(String(decoding: input, as: UTF8.self))
    return 0
}

private func checkBinary(_ input: UnsafeRawBufferPointer) {
    guard let (cid, length) = try? CID.decodePrefix(input) else { return }
    precondition(cid.bytes == Array(input[..<length]), "the binary form is canonical")
    precondition(cid.byteCount == length)
    precondition(cid.asV1.asV0 ?? cid.asV1 == cid.asV0 ?? cid.asV1)
    precondition((try? CID(parsing: cid.description)) == cid, "a text names its CID")
    let rest = UnsafeRawBufferPointer(rebasing: input[length...])
    _ = try? cid.verify(rest)
}

private func checkText(_ text: String) {
    guard let cid = try? CID(parsing: text) else { return }
    precondition((try? CID(bytes: cid.bytes)) == cid)
    if cid.version == 0 {
        precondition(cid.description == text)
    } else if let base = text.utf8.first.flatMap(Multibase.init) {
        precondition(cid.encoded(in: base) == text, "a CID has one text in a base")
    }
}
