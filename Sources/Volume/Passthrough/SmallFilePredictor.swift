internal import Base

/// Tells of a file that is opened to be written whether it will most likely stay small, by what became
/// of others of such a name.
///
/// A backing file costs a small file more than it gains: what was written is read back and emptied again,
/// and looking at its times makes the kernel move those of the redo log more often, whose inode some
/// filesystems then write with it (multigrain timestamps, Linux 6.13). A registry makes thousands of
/// small files, all of the same few names; so names are what tells.
///
/// A wrong guess costs time, not content: a large file that was taken for a small one is written by
/// requests until it is closed.
struct SmallFilePredictor {
    /// Names that differ only in their numbers, a UUID or a digest have the same.
    struct NameClass: Hashable {
        private let number: UInt64

        /// A run of letters and digits counts as one character where it is a hexadecimal number, and
        /// else each run of digits in it does. FNV-1a of the rest; two classes of one number share what
        /// is known of them, and nothing worse.
        init(of name: FileName) {
            var hash: UInt64 = 0xcbf2_9ce4_8422_2325
            func add(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
            let bytes = name.bytes
            var start = 0
            while start < bytes.count {
                var end = start
                while end < bytes.count, bytes[end].isLetterOrDigit { end += 1 }
                guard end > start else {
                    add(bytes[start])
                    start += 1
                    continue
                }
                let word = bytes[start..<end]
                if word.contains(where: \.isDigit), word.allSatisfy(\.isHexDigit) {
                    add(Self.numberMark)
                } else {
                    var isInNumber = false
                    for byte in word {
                        if !byte.isDigit { add(byte) } else if !isInNumber { add(Self.numberMark) }
                        isInNumber = byte.isDigit
                    }
                }
                start = end
            }
            number = hash
        }

        /// Stands for a number; no byte of a name.
        private static let numberMark: UInt8 = 0
    }

    private struct History {
        /// Files that were small when they were closed, since the last one that was not.
        var smallCount: UInt32 = 0
        var hadLarge = false
    }

    /// So many small ones of a name tell of the next one.
    static let smallCountMin: UInt32 = 16
    /// And so many where one of that name was large once.
    static let smallCountAfterLargeMin: UInt32 = 1024

    private var histories = Recent<NameClass, History>(countMax: 512)
    /// Files that were made lately, which are those that are opened to be written.
    private var made = Recent<UInt64, NameClass>(countMax: 2048)

    /// Notes the name under which a file was made.
    mutating func noteMade(_ inode: Inode, _ nameClass: NameClass) {
        made.note(inode.number, nameClass)
    }

    /// What the name tells under which a file was made; nil where that was long ago, or nobody saw it.
    func nameClass(of inode: Inode) -> NameClass? { made[inode.number] }

    func isSmall(_ nameClass: NameClass) -> Bool {
        guard let history = histories[nameClass] else { return false }
        let countMin = history.hadLarge ? Self.smallCountAfterLargeMin : Self.smallCountMin
        return history.smallCount >= countMin
    }

    /// Notes how large a file was when its last writer closed it.
    mutating func note(_ nameClass: NameClass, isSmall: Bool) {
        var history = histories[nameClass] ?? History()
        if isSmall {
            history.smallCount = min(history.smallCount + 1, Self.smallCountAfterLargeMin)
        } else {
            history.smallCount = 0
            history.hadLarge = true
        }
        histories.note(nameClass, history)
    }
}

extension UInt8 {
    fileprivate var isDigit: Bool { self &- 0x30 < 10 }
    fileprivate var isLetterOrDigit: Bool { isDigit || (self | 0x20) &- 0x61 < 26 }
    fileprivate var isHexDigit: Bool { isDigit || (self | 0x20) &- 0x61 < 6 }
}
