/// Bytes of a name as text: what is not UTF-8, or moves the cursor, as \xNN.
package func shown(_ bytes: [UInt8]) -> String {
    let text = String(validating: bytes, as: UTF8.self)
    if let text, !text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7f }) {
        return text
    }
    return bytes.map { byte in
        if (0x20..<0x7f).contains(byte) { return String(Unicode.Scalar(byte)) }
        return "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }.joined()
}
