/// The bytes that hexadecimal digits stand for. Spaces are for the reader.
func hex(_ digits: String) -> [UInt8] {
    let values = digits.compactMap { $0.isWhitespace ? nil : $0.hexDigitValue }
    precondition(values.count % 2 == 0, "two digits a byte")
    return stride(from: 0, to: values.count, by: 2).map { UInt8(values[$0] * 16 + values[$0 + 1]) }
}
