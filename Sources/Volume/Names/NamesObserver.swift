public import Base

extension Volume {
    /// Has it told that a name stands for something else now, without the kernel's doing.
    func nameChanged(_ name: FileName, in parent: Inode) {
        kernel.names.withLock { $0 }?.nameChanged(name, in: parent)
    }

    /// Has somebody told of names that change without their doing.
    public func observeNames(_ observer: any NamesObserver) {
        kernel.names.withLock { $0 = observer }
    }
}

/// Somebody who remembers what names stand for (the kernel), and must be told when one changes that
/// they did not change themselves.
public protocol NamesObserver: Sendable {
    /// A name came, went, or stands for another inode; the entries of its directory are others then.
    /// Called without any lock.
    func nameChanged(_ name: FileName, in parent: Inode)
}
