// What FuseSession sees of libfuse, of the kernel's FUSE protocol and of mount(2).
//
// libfuse's low-level API is asked for at version 3.14, the oldest that is supported. What Swift's
// importer cannot see (function-like macros, constants of an anonymous enum) or what differs
// between libfuse versions is wrapped here in functions with the prefix rfs_.
//
// _FILE_OFFSET_BITS must not be defined: with it `struct flock` here and in the Glibc module
// would be two types. On 64-bit Linux off_t has 64 bits without it.
#ifndef RFS_CFUSE_SHIM_H
#define RFS_CFUSE_SHIM_H

#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/// Makes a session; NULL where libfuse refuses the arguments or there is no memory.
static inline struct fuse_session *rfs_session_new(struct fuse_args *args,
                                                   const struct fuse_lowlevel_ops *operations,
                                                   void *userdata)
{
    return fuse_session_new(args, operations, sizeof(*operations), userdata);
}

/// Asks for a capability where the kernel offers it; nonzero if so.
///
/// libfuse 3.17 moved the bits to want_ext and wants its setter used; before that, `want` is the
/// whole of it.
static inline int rfs_want(struct fuse_conn_info *connection, uint64_t capability)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
    return fuse_set_feature_flag(connection, capability);
#else
    if ((connection->capable & capability) != capability)
        return 0;
    connection->want |= (unsigned)capability;
    return 1;
#endif
}

/// Takes back a capability that libfuse asks for by default.
static inline void rfs_refuse(struct fuse_conn_info *connection, uint64_t capability)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
    fuse_unset_feature_flag(connection, capability);
#else
    connection->want &= ~(unsigned)capability;
#endif
}

/// Asks for passthrough, where libfuse knows of it (3.17); before that, the answer to INIT is
/// mended.
static inline void rfs_want_passthrough(struct fuse_conn_info *connection)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
    if (fuse_set_feature_flag(connection, FUSE_CAP_PASSTHROUGH))
        connection->max_backing_stack_depth = 1;
#else
    (void)connection;
#endif
}

// Passthrough, since protocol 7.40: as with FUSE_STATX below, the header of the system may be older.

struct rfs_open_out {
    uint64_t fh;
    uint32_t open_flags;
    int32_t backing_id;
};

struct rfs_backing_map {
    int32_t fd;
    uint32_t flags;
    uint64_t padding;
};

/// Registers a backing file; its id, 1 or more, or a negative errno value.
static inline int rfs_backing_open(int device, int file)
{
    struct rfs_backing_map map = {.fd = file};
    int id = ioctl(device, _IOW(229, 1, struct rfs_backing_map), &map);
    return id < 0 ? -errno : id;
}

/// Ends a registration.
static inline void rfs_backing_close(int device, int32_t id)
{
    uint32_t number = (uint32_t)id;
    (void)ioctl(device, _IOW(229, 2, uint32_t), &number);
}

/// mount(2); 0 or an errno value.
static inline int rfs_mount(const char *source, const char *target, const char *type,
                            unsigned long flags, const char *data)
{
    return mount(source, target, type, flags, data) == 0 ? 0 : errno;
}

/// umount2(2) that follows no link at the end of the path; 0 or an errno value. With `detach`
/// the mount leaves the tree at once, and its last user ends it (MNT_DETACH).
static inline int rfs_unmount(const char *target, int detach)
{
    return umount2(target, UMOUNT_NOFOLLOW | (detach ? MNT_DETACH : 0)) == 0 ? 0 : errno;
}

/// syncfs(2), which <unistd.h> declares for _GNU_SOURCE only; 0 or -1.
static inline int rfs_syncfs(int descriptor)
{
    return (int)syscall(SYS_syncfs, descriptor);
}

/// Adds to a count that this thread alone changes and others may read at any moment.
static inline void rfs_count(uint64_t *count, uint64_t amount)
{
    __atomic_store_n(count, __atomic_load_n(count, __ATOMIC_RELAXED) + amount, __ATOMIC_RELAXED);
}

static inline uint64_t rfs_counted(const uint64_t *count)
{
    return __atomic_load_n(count, __ATOMIC_RELAXED);
}

static inline void rfs_nothing(int signal_number)
{
    (void)signal_number;
}

/// The signal that only interrupts a blocked read of our own threads; its handler does nothing.
static inline int rfs_wake_signal(void)
{
    return SIGRTMIN + 7;
}

/// Sets the handler of the wake signal, without SA_RESTART, so that it interrupts; 0 or -1.
static inline int rfs_install_wake_handler(void)
{
    struct sigaction action = {.sa_handler = rfs_nothing};
    sigemptyset(&action.sa_mask);
    return sigaction(rfs_wake_signal(), &action, NULL);
}

/// Blocks every signal but the wake signal in the calling thread; the old mask goes to `old`.
static inline int rfs_block_signals(sigset_t *old)
{
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, rfs_wake_signal());
    return pthread_sigmask(SIG_SETMASK, &all, old);
}

// FUSE_STATX, since protocol 7.39: the structs are here under names of ours, because the header
// of the system may be older. Layout: struct fuse_statx* of include/uapi/linux/fuse.h.

struct rfs_statx_in {
    uint32_t getattr_flags;
    uint32_t reserved;
    uint64_t fh;
    uint32_t sx_flags;
    uint32_t sx_mask;
};

struct rfs_statx_time {
    int64_t tv_sec;
    uint32_t tv_nsec;
    int32_t reserved;
};

struct rfs_statx_out {
    uint64_t attr_valid;
    uint32_t attr_valid_nsec;
    uint32_t flags;
    uint64_t spare_out[2];
    uint32_t mask;
    uint32_t blksize;
    uint64_t attributes;
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint16_t mode;
    uint16_t spare0;
    uint64_t ino;
    uint64_t size;
    uint64_t blocks;
    uint64_t attributes_mask;
    struct rfs_statx_time atime;
    struct rfs_statx_time btime;
    struct rfs_statx_time ctime;
    struct rfs_statx_time mtime;
    uint32_t rdev_major;
    uint32_t rdev_minor;
    uint32_t dev_major;
    uint32_t dev_minor;
    uint64_t spare2[14];
};

_Static_assert(sizeof(struct rfs_statx_in) == 24, "fuse_statx_in");
_Static_assert(sizeof(struct rfs_statx_out) == 288, "fuse_statx_out");
_Static_assert(sizeof(struct fuse_in_header) == 40, "fuse_in_header");
_Static_assert(sizeof(struct fuse_write_in) == 40, "fuse_write_in");
_Static_assert(sizeof(struct fuse_entry_out) == 128, "fuse_entry_out");
_Static_assert(sizeof(struct fuse_attr_out) == 104, "fuse_attr_out");
_Static_assert(sizeof(struct fuse_open_out) == sizeof(struct rfs_open_out), "fuse_open_out");

#endif
