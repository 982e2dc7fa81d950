/// A text of somebody else's on one line of bounded length, for people: control characters and what
/// ends a line become spaces.
///
/// - Parameter lengthMax: in bytes; what is longer ends in `…`.
public func oneLine(_ text: String, lengthMax: Int = 500) -> String {
    var line = ""
    var length = 0
    for scalar in text.unicodeScalars {
        // C0, DEL, C1, and the two separators that end a line.
        let isControl =
            scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value)
            || scalar.value == 0x2028 || scalar.value == 0x2029
        let shown: Unicode.Scalar = isControl ? " " : scalar
        length += UTF8.width(shown)
        guard length <= lengthMax - 3 else { return line + "…" }
        line.unicodeScalars.append(shown)
    }
    return line
}
