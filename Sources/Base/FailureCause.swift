internal import Glibc

public import struct SystemPackage.Errno

/// Why an operation fails, in words, beside the errno that says so.
///
/// An errno is all that a program gets. Whoever turns a richer error into one leaves the cause behind
/// with the thread, and whoever answers the program takes it and logs it. So a cause costs nothing
/// where nothing fails. Work that another thread does hands its cause over with its failure. The last
/// one counts: an attempt that was made up for by the next leaves one, too.
public enum FailureCause {
    private final class Box {
        let text: String
        init(_ text: String) { self.text = text }
    }

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let code = pthread_key_create(&key) { box in
            if let box { Unmanaged<Box>.fromOpaque(box).release() }
        }
        precondition(code == 0, "the process has no thread-specific key left")
        return key
    }()

    /// Leaves a cause behind for the calling thread, in place of the one before.
    ///
    /// - Parameter text: part of a line: what, where, and why. What others wrote may stand in it as it
    ///   is; whoever shows it escapes it.
    public static func note(_ text: String) {
        _ = take()
        pthread_setspecific(key, Unmanaged.passRetained(Box(text)).toOpaque())
    }

    /// Takes what was left behind, so that it is told once; nil where nothing was.
    @discardableResult
    public static func take() -> String? {
        guard let box = pthread_getspecific(key) else { return nil }
        pthread_setspecific(key, nil)
        return Unmanaged<Box>.fromOpaque(box).takeRetainedValue().text
    }

    /// An error with its cause, for whoever tells both in one text; takes the cause.
    public static func words(for error: Errno) -> String {
        take().map { "\(error): \($0)" } ?? "\(error)"
    }
}

extension Errno {
    /// The same errno, with its cause left behind for whoever answers.
    public func because(_ cause: String) -> Errno {
        FailureCause.note(cause)
        return self
    }

    /// Whether an operation may end with it while all is well: it tells of what was asked for, not of
    /// what is broken. errno(3).
    public var isOrdinary: Bool {
        switch self {
        case .noSuchFileOrDirectory, .fileExists, .notDirectory, .isDirectory, .directoryNotEmpty,
            .invalidArgument, .fileNameTooLong, .notPermitted, .permissionDenied,
            .readOnlyFileSystem, .outOfRange, .argListTooLong, .fileTooLarge,
            .noSuchAddressOrDevice, .tooManySymbolicLinkLevels, .tooManyLinks, .interrupted,
            .noFunction, .notSupportedOnSocket, .noData, .improperLink,
            .inappropriateIOCTLForDevice:
            true
        default:
            false
        }
    }
}
