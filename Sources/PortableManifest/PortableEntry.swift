package import Base
package import Multiformats

/// What inodes of every kind have.
package struct PortableAttributes: Hashable, Sendable {
    /// Permission bits with set-id and sticky, 07777.
    package var mode: UInt32
    package var uid: UInt32
    package var gid: UInt32
    /// Whole seconds of the last modification since 1970-01-01T00:00:00Z, rounded down; negative before.
    package var seconds: Int64
    /// Nanoseconds after that, below 1,000,000,000.
    package var nanoseconds: UInt32

    package init(mode: UInt32, uid: UInt32, gid: UInt32, seconds: Int64, nanoseconds: UInt32) {
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }

    package init(mode: UInt32, uid: UInt32, gid: UInt32, modified: Timestamp) {
        self.init(
            mode: mode, uid: uid, gid: gid, seconds: modified.seconds,
            nanoseconds: UInt32(modified.subsecondNanoseconds))
    }

    /// The time of the last modification; clamped to the range of a timestamp.
    package var modified: Timestamp {
        Timestamp(seconds: seconds, nanoseconds: Int64(nanoseconds))
    }
}

/// An extended attribute. ACLs are attributes in the kernel's form (linux/posix_acl_xattr.h).
package struct PortableExtendedAttribute: Hashable, Sendable {
    /// With its name space: `user.`, `trusted.`, `security.`, or one of the two of ACLs.
    package var name: [UInt8]
    /// Any bytes; whether an ACL is one is not looked at here.
    package var value: [UInt8]

    package init(name: [UInt8], value: [UInt8]) {
        self.name = name
        self.value = value
    }

    // Bounds of linux/limits.h: XATTR_NAME_MAX and XATTR_SIZE_MAX.
    package static let nameLengthMax = 255
    package static let valueLengthMax = 65_536

    private static let nameSpaces = ["user.", "trusted.", "security."]
    private static let aclNames = ["system.posix_acl_access", "system.posix_acl_default"]

    /// Whether a name may stand in a manifest.
    package static func isName(_ name: [UInt8]) -> Bool {
        (1...nameLengthMax).contains(name.count) && !name.contains(0)
            && (nameSpaces.contains { name.starts(with: $0.utf8) }
                || aclNames.contains { name.elementsEqual($0.utf8) })
    }
}

/// That several entries of a tree are one inode.
package struct PortableHardLinks: Hashable, Sendable {
    /// Of the entries of a tree, those with the same number are one inode: 1 to 2^63 - 1.
    package var group: UInt64
    /// How many entries of the tree are: 2 or more. So a directory that is looked into alone can tell it.
    package var count: UInt32

    package init(group: UInt64, count: UInt32) {
        self.group = group
        self.count = count
    }
}

/// An entry of a directory of the manifest.
package struct PortableEntry: Hashable, Sendable {
    /// 1 to 255 bytes, no `/`, no NUL, not `.` or `..`.
    package var name: [UInt8]
    package var kind: FileKind
    package var attributes: PortableAttributes
    /// In any order when they are written; sorted by name when they were read.
    package var extendedAttributes: [PortableExtendedAttribute]
    /// Nil for an inode with one link; never of a directory.
    package var hardLinks: PortableHardLinks?
    /// Which device a device node stands for, in the form of st_rdev: 12 bits of major and 20 of minor number,
    /// as the kernel has them. 0 for all else.
    package var rdev: UInt64
    /// The block of a directory's entries; nil for all else.
    package var directory: CID?

    package init(
        name: [UInt8], kind: FileKind, attributes: PortableAttributes,
        extendedAttributes: [PortableExtendedAttribute] = [], hardLinks: PortableHardLinks? = nil,
        rdev: UInt64 = 0, directory: CID? = nil
    ) {
        self.name = name
        self.kind = kind
        self.attributes = attributes
        self.extendedAttributes = extendedAttributes
        self.hardLinks = hardLinks
        self.rdev = rdev
        self.directory = directory
    }

    /// NAME_MAX of linux/limits.h.
    package static let nameLengthMax = 255

    /// Whether these bytes may be the name of an entry.
    package static func isName(_ name: [UInt8]) -> Bool {
        (1...nameLengthMax).contains(name.count) && !name.contains(0)
            && !name.contains(UInt8(ascii: "/"))
            && name != [UInt8(ascii: ".")] && name != [UInt8(ascii: "."), UInt8(ascii: ".")]
    }
}

extension FileKind {
    var isDevice: Bool { self == .characterDevice || self == .blockDevice }
}

extension PortableAttributes {
    var fault: PortableEntryFault? {
        if mode > 0o7777 { return .badMode(UInt64(mode)) }
        if nanoseconds >= 1_000_000_000 { return .badTime(nanoseconds: UInt64(nanoseconds)) }
        return nil
    }
}

extension PortableEntry {
    /// What may not be so; nil where all may. Looked at when an entry is written, and again when it was read.
    var fault: PortableEntryFault? {
        if !Self.isName(name) { return .badName }
        if let fault = attributes.fault { return fault }
        if (kind == .directory) != (directory != nil) {
            return directory == nil ? .missingField("dir") : .misplacedField("dir")
        }
        if let directory, !PortableManifest.canBe(directory) { return .badLink(directory) }
        if rdev != 0, !kind.isDevice { return .misplacedField("rdev") }
        // The bits of a dev_t that the kernel has (new_encode_dev of linux/kdev_t.h).
        if rdev > UInt64(UInt32.max) { return .badDevice }
        if let hardLinks {
            if kind == .directory { return .misplacedField("links") }
            guard (1...UInt64(Int64.max)).contains(hardLinks.group), hardLinks.count >= 2 else {
                return .badHardLinks
            }
        }
        return nil
    }

    var major: UInt64 { rdev >> 8 & 0xfff }
    var minor: UInt64 { rdev & 0xff | rdev >> 12 & 0xf_ff00 }

    /// st_rdev of a device; nil where the kernel has no such numbers.
    static func rdev(major: UInt64, minor: UInt64) -> UInt64? {
        guard major <= 0xfff, minor <= 0xf_ffff else { return nil }
        return minor & 0xff | major << 8 | (minor & 0xf_ff00) << 12
    }
}
