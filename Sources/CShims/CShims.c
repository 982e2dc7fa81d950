#define _GNU_SOURCE
#include "CShims.h"
#include <errno.h>

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

int rfs_openat(int directory, const char *path, int flags, mode_t mode) {
    return openat(directory, path, flags, mode);
}

int rfs_open_beneath(int directory, const char *path, int flags, mode_t mode) {
    // struct open_how of openat2(2), which the C library has no header for everywhere.
    struct { uint64_t flags, mode, resolve; } how = {
        .flags = (uint64_t)(unsigned int)flags,
        .mode = (flags & O_CREAT) ? mode : 0,
        .resolve = 0x08 | 0x04 | 0x02, // beneath, no symlinks, no magic links
    };
    return (int)syscall(437, directory, path, &how, sizeof how);
}

ssize_t rfs_copy_file_range(int source, int64_t *source_offset, int destination,
                            int64_t *destination_offset, size_t length, unsigned int flags) {
    off64_t from = source_offset ? *source_offset : 0;
    off64_t to = destination_offset ? *destination_offset : 0;
    ssize_t copied = copy_file_range(source, source_offset ? &from : NULL, destination,
                                     destination_offset ? &to : NULL, length, flags);
    if (source_offset) *source_offset = from;
    if (destination_offset) *destination_offset = to;
    return copied;
}

ssize_t rfs_write_durably(int fd, const void *bytes, size_t length, int64_t offset) {
    struct iovec part = {(void *)bytes, length};
    return pwritev2(fd, &part, 1, offset, RWF_DSYNC);
}

int rfs_open_direct(void) { return O_DIRECT; }

int rfs_open_no_access_time(void) { return O_NOATIME; }

int rfs_fallocate(int fd, int mode, int64_t offset, int64_t length) {
    return fallocate64(fd, mode, offset, length);
}

void rfs_set_thread_name(const char *name) { pthread_setname_np(pthread_self(), name); }

int rfs_lock_exclusively(int fd) { return flock(fd, LOCK_EX | LOCK_NB); }

int rfs_unlock(int fd) { return flock(fd, LOCK_UN); }

int rfs_sync_filesystem(int fd) { return syncfs(fd); }

int rfs_exchange(int directory, const char *one, const char *other) {
    return renameat2(directory, one, directory, other, RENAME_EXCHANGE);
}

int rfs_is_sole_user(int fd) {
    if (fcntl(fd, F_SETLEASE, F_WRLCK) != 0) return errno == EAGAIN ? 0 : -1;
    fcntl(fd, F_SETLEASE, F_UNLCK);
    return 1;
}

void rfs_condition_wait(void *condition, void *mutex, const void *deadline, void *guarded) {
    (void)guarded;
    if (deadline)
        pthread_cond_timedwait(condition, mutex, deadline);
    else
        pthread_cond_wait(condition, mutex);
}

int rfs_filesystem_type(int fd, uint64_t *type) {
    struct statfs status;
    if (fstatfs(fd, &status) != 0) return -1;
    *type = (uint64_t)status.f_type;
    return 0;
}

int rfs_begin_writeback(int fd) {
    return sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

void rfs_lower_priority(void) {
    // A nice value is a thread's on Linux; 0 is the calling one.
    (void)setpriority(PRIO_PROCESS, 0, 10);
}

// Where threads of the process may run that are not pinned; NULL until one is.
static cpu_set_t *unpinned;
static size_t unpinned_size;
static pthread_once_t unpinned_once = PTHREAD_ONCE_INIT;

static void rfs_note_unpinned(void) {
    // The kernel refuses a set that is smaller than its own.
    for (int count = 1024; count <= 1 << 16; count *= 2) {
        cpu_set_t *set = CPU_ALLOC(count);
        if (set == NULL) return;
        if (sched_getaffinity(0, CPU_ALLOC_SIZE(count), set) == 0) {
            unpinned_size = CPU_ALLOC_SIZE(count);
            __atomic_store_n(&unpinned, set, __ATOMIC_RELEASE);
            return;
        }
        CPU_FREE(set);
    }
}

int rfs_pin_to_processor(int processor) {
    pthread_once(&unpinned_once, rfs_note_unpinned);
    cpu_set_t *set = CPU_ALLOC(processor + 1);
    if (set == NULL) return -1;
    size_t size = CPU_ALLOC_SIZE(processor + 1);
    CPU_ZERO_S(size, set);
    CPU_SET_S(processor, size, set);
    int code = sched_setaffinity(0, size, set);
    CPU_FREE(set);
    return code;
}

// 0 nanoseconds stand for the system's own slice.
static int rfs_set_policy(int thread, int policy, uint64_t slice_nanoseconds) {
    // struct sched_attr in its first version; glibc 2.36 does not declare it.
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {.size = 48, .policy = (uint32_t)policy, .runtime = slice_nanoseconds};
    attributes.nice = getpriority(PRIO_PROCESS, (id_t)thread);
    return (int)syscall(SYS_sched_setattr, thread, &attributes, 0);
}

int rfs_prefer_latency(int thread) { return rfs_set_policy(thread, SCHED_OTHER, 100000); }

int rfs_go_behind(int thread) { return rfs_set_policy(thread, SCHED_IDLE, 0); }

int rfs_current_thread(void) { return gettid(); }

void rfs_unpin(void) {
    const cpu_set_t *set = __atomic_load_n(&unpinned, __ATOMIC_ACQUIRE);
    if (set == NULL) return;
    (void)sched_setaffinity(0, unpinned_size, set);
    (void)rfs_set_policy(0, SCHED_OTHER, 0);
}

int rfs_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
int rfs_not_dumpable(void) { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }
int rfs_end_with_parent(void) { return prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0); }
int rfs_end_io_flusher(void) { return prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0); }

int rfs_spawn_closes_others(void *actions) {
    return posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
}

int rfs_become_io_flusher(void) { return prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); }

void rfs_bound_heap(int arenas, int trim_threshold) {
    mallopt(M_ARENA_MAX, arenas);
    mallopt(M_TRIM_THRESHOLD, trim_threshold);
}

void rfs_trim_heap(void) { malloc_trim(0); }

int rfs_accept(int socket) { return accept4(socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); }

int rfs_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC | O_NONBLOCK); }

int rfs_peer(int socket, int *process, unsigned int *user) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return -1;
    *process = peer.pid;
    *user = peer.uid;
    return 0;
}

ssize_t rfs_send_with_descriptors(int socket, const void *bytes, size_t length,
                                  const int *descriptors, int count) {
    if (count < 0 || count > RFS_DESCRIPTORS_MAX) {
        errno = EINVAL;
        return -1;
    }
    union {
        char bytes[CMSG_SPACE(RFS_DESCRIPTORS_MAX * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    memset(&control, 0, sizeof control);
    struct iovec part = {(void *)bytes, length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
        memcpy(CMSG_DATA(head), descriptors, (size_t)count * sizeof(int));
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL);
}

ssize_t rfs_receive_with_descriptors(int socket, void *bytes, size_t length,
                                     int descriptors[RFS_DESCRIPTORS_MAX], int *count,
                                     int *is_cut) {
    union {
        char bytes[CMSG_SPACE(RFS_DESCRIPTORS_MAX * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec part = {bytes, length};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    *count = 0;
    *is_cut = 0;
    ssize_t received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (received < 0) return -1;
    *is_cut = (message.msg_flags & MSG_CTRUNC) != 0;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
        size_t found = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t index = 0; index < found; index++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(head) + index * sizeof(int), sizeof(int));
            if (*count < RFS_DESCRIPTORS_MAX)
                descriptors[(*count)++] = descriptor;
            else
                close(descriptor);
        }
    }
    return received;
}
