internal import Base
internal import RegistryNames

// Which repositories there are: a walk below `repositories/`, which is begun where the page before ended.
//
// Order:  bytewise, of whole names: `a`, `a-b`, `a/c`, for `-` stands before `/`. So a directory is looked at as a repository where its
//         name stands, and gone into where its name with a slash stands. What waits for that are names that begin one another, the
//         longest of which comes first: a stack.
// Bounds: names of 255 bytes, so 128 directories deep; `looksMax`, `heldNamesMax` and `millisecondsMax` a request
//         (`RegistryLimits`). One that runs out of looks or time has found what it has found, and says where the next is to begin.

/// Finds repositories.
struct RegistryCatalog {
    /// What was found.
    struct Found {
        var names: [String] = []
        /// What the next page begins behind; nil at the end.
        var next: [UInt8]?
    }

    /// A directory that the walk is in.
    private struct Frame {
        /// Its name with a slash at its end; empty at the top.
        let prefix: [UInt8]
        let path: [[UInt8]]
        /// Its directories that may be part of a repository's name, in bytewise order.
        let names: [[UInt8]]
        /// The next one to be looked at.
        var index: Int
        /// Those that were looked at, and wait to be gone into; the next is the last. With it, what lies before is left out.
        var waiting: [(name: [UInt8], last: [UInt8]?)] = []
    }

    private let registry: RegistryTree
    private let cancellation: Cancellation?
    private let started: Int64
    private let limits: RegistryLimits

    private var frames: [Frame] = []
    private var listings = 0
    private var heldNames = 0
    /// The name that was looked at last.
    private var place: [UInt8]?

    init(
        _ registry: RegistryTree, limits: RegistryLimits, cancellation: Cancellation?
    ) {
        self.registry = registry
        self.cancellation = cancellation
        self.limits = limits
        started = MonotonicClock.milliseconds
    }

    /// The repositories of a page. Nothing is looked at twice in one walk but what has others below it.
    ///
    /// - Throws: `tooLarge` where more names would have to be held than may be.
    mutating func find(_ page: RegistryPage) throws(ServeFault) -> Found {
        var found = Found()
        guard page.count > 0, try enter(registry.repositories, prefix: [], last: page.last) else {
            return found
        }
        while let frame = frames.last {
            let next = frame.index < frame.names.count ? frame.names[frame.index] : nil
            if let first = frame.waiting.last,
                next.map({ (first.name + [Self.slash]).lexicographicallyPrecedes($0) }) ?? true
            {
                frames[frames.count - 1].waiting.removeLast()
                _ = try enter(
                    frame.path + [first.name], prefix: frame.prefix + first.name + [Self.slash],
                    last: first.last)
                continue
            }
            guard let next else {
                heldNames -= frame.names.count
                frames.removeLast()
                continue
            }
            // At least one name is looked at, so that pages come to an end.
            if let place, isOver {
                found.next = place
                return found
            }
            let kind = try look(at: frame.path + [next])
            let name = frame.prefix + next
            if kind.isRepository {
                guard found.names.count < page.count else {
                    found.next = found.names.last.map { Array($0.utf8) }
                    return found
                }
                found.names.append(String(decoding: name, as: UTF8.self))
            }
            place = name
            frames[frames.count - 1].index += 1
            if kind.hasDirectories { frames[frames.count - 1].waiting.append((next, nil)) }
        }
        return found
    }

    private static let slash = UInt8(ascii: "/")

    private var isOver: Bool {
        listings >= limits.looksMax || cancellation?.isCancelled ?? false
            || MonotonicClock.milliseconds - started >= limits.millisecondsMax
    }

    /// Whether a directory is a repository, and whether others may be below it.
    private mutating func look(
        at path: [[UInt8]]
    ) throws(ServeFault) -> (isRepository: Bool, hasDirectories: Bool) {
        listings += 1
        guard let names = try registry.names(at: path) else { return (false, false) }
        return (
            registry.isRepository(names),
            names.contains { registry.isComponent($0, isFirst: false) }
        )
    }

    /// Goes into a directory.
    ///
    /// - Parameter last: below it, what all that is looked at comes behind.
    private mutating func enter(
        _ path: [[UInt8]], prefix: [UInt8], last: [UInt8]?
    ) throws(ServeFault) -> Bool {
        listings += 1
        guard let listed = try registry.names(at: path) else { return false }
        var names: [[UInt8]] = []
        for entry in listed
        where registry.isComponent(entry, isFirst: prefix.isEmpty)
            && prefix.count + entry.name.count <= RegistryGrammar.nameLengthMax
        {
            names.append(entry.name)
        }
        heldNames += names.count
        guard heldNames <= limits.heldNamesMax else {
            throw .tooLarge(reason: "more than \(limits.heldNamesMax) names of directories at once")
        }
        var frame = Frame(
            prefix: prefix, path: path, names: names,
            index: SortedNames.index(behind: last, in: names))
        if let last { frame.waiting = Self.waiting(in: names, behind: last) }
        frames.append(frame)
        return true
    }

    /// What was looked at before a page began, but not gone into, or not to its end.
    private static func waiting(
        in names: [[UInt8]], behind last: [UInt8]
    ) -> [(name: [UInt8], last: [UInt8]?)] {
        var waiting: [(name: [UInt8], last: [UInt8]?)] = []
        // A name that came before, and that with a slash comes behind, begins `last`: none is longer than the first component.
        let component = last.prefix { $0 != slash }.prefix(RegistryGrammar.nameLengthMax)
        for count in 1...max(component.count, 1) where count <= component.count {
            let name = component.prefix(count)
            guard SortedNames.contains(name, in: names) else { continue }
            let rest = last.dropFirst(count)
            switch rest.first {
            case nil: waiting.append((Array(name), nil))
            case slash: waiting.append((Array(name), Array(rest.dropFirst())))
            case let byte? where byte < slash: waiting.append((Array(name), nil))
            default: break
            }
        }
        return waiting
    }
}

/// Finds tags.
enum RegistryTags {
    /// The tags of a page; nil where there is no such repository.
    static func find(
        _ page: RegistryPage, of repository: [[UInt8]], in registry: RegistryTree,
        limits: RegistryLimits
    ) throws(ServeFault) -> RegistryCatalog.Found? {
        var found = RegistryCatalog.Found()
        guard let listed = try registry.names(at: registry.tags(of: repository)) else {
            return try registry.hasRepository(repository) ? found : nil
        }
        guard page.count > 0 else { return found }
        let names = listed.filter(registry.isTag).map(\.name)
        let start = SortedNames.index(behind: page.last, in: names)
        for (looks, name) in names[start...].enumerated() {
            guard looks < limits.looksMax else {
                found.next = names[start + looks - 1]
                return found
            }
            guard try registry.hasTag(name, in: repository) else { continue }
            guard found.names.count < page.count else {
                found.next = found.names.last.map { Array($0.utf8) }
                return found
            }
            found.names.append(String(decoding: name, as: UTF8.self))
        }
        return found
    }
}
