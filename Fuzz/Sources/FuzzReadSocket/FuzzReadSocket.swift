import ReadSocket

/// Frames of the read socket, of both sides.
///
/// The first byte chooses the side by its lowest bit, and by the next what follows: frames as they are, or the body of one
/// whose kind is the second byte.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafeRawPointer, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let input = [UInt8](UnsafeRawBufferPointer(start: start, count: count))
    let isAnswer = input[0] & 1 != 0
    var bytes = Array(input[1...])
    if input[0] & 2 != 0 {
        let body = input[2...]
        let length = withUnsafeBytes(of: UInt32(body.count).littleEndian) { [UInt8]($0) }
        bytes = length + [input[1], 0, 0, 0] + body
    }
    let frameCount = isAnswer ? ReadSocketTrial.answers(bytes) : ReadSocketTrial.requests(bytes)
    precondition(frameCount <= bytes.count / 8, "a frame has a head")
    return 0
}
