// Thin C helpers for what Swift's importer cannot see: variadic calls and function-like macros.
// Everything here carries the prefix rfs_.
#ifndef RFS_CSHIMS_H
#define RFS_CSHIMS_H

#include <stdint.h>
#include <sys/types.h>

/// openat(2) with a mode; the C function is variadic.
int rfs_openat(int directory, const char *path, int flags, mode_t mode);

/// openat2(2) below a directory; no part of the path may be a symlink.
int rfs_open_beneath(int directory, const char *path, int flags, mode_t mode);

/// copy_file_range(2).
ssize_t rfs_copy_file_range(int source, int64_t *source_offset, int destination,
                            int64_t *destination_offset, size_t length, unsigned int flags);

/// pwritev2(2) with RWF_DSYNC.
ssize_t rfs_write_durably(int fd, const void *bytes, size_t length, int64_t offset);

/// O_DIRECT of open(2), which only _GNU_SOURCE declares.
int rfs_open_direct(void);

/// O_NOATIME of open(2), which only _GNU_SOURCE declares.
int rfs_open_no_access_time(void);

/// fallocate(2).
int rfs_fallocate(int fd, int mode, int64_t offset, int64_t length);

/// Names the calling thread, as seen in /proc/PID/task/TID/comm (15 bytes at most).
void rfs_set_thread_name(const char *name);

/// flock(2) with LOCK_EX | LOCK_NB; 0 or -1 with errno.
int rfs_lock_exclusively(int fd);

/// flock(2) with LOCK_UN; 0 or -1 with errno.
int rfs_unlock(int fd);

/// syncfs(2).
int rfs_sync_filesystem(int fd);

/// renameat2(2) with RENAME_EXCHANGE; 0 or -1 with errno.
int rfs_exchange(int directory, const char *one, const char *other);

/// Takes a write lease (F_SETLEASE of fcntl(2)) and gives it back at once; 1 where that went, 0
/// where it did not.
int rfs_is_sole_user(int fd);

/// pthread_cond_wait, or with a deadline pthread_cond_timedwait; says to the compiler that what
/// the mutex guards changes meanwhile. The pointers have no types, as a header that includes
/// <pthread.h> would take its types away from the Glibc module.
void rfs_condition_wait(void *condition, void *mutex, const void *deadline, void *guarded);

/// f_type of fstatfs(2), whose header the importer does not see; 0 or -1 with errno.
int rfs_filesystem_type(int fd, uint64_t *type);

/// sync_file_range(2) of a whole file with SYNC_FILE_RANGE_WRITE; 0 or -1 with errno.
int rfs_begin_writeback(int fd);

/// setpriority(2) of the calling thread to nice value 10.
void rfs_lower_priority(void);

/// sched_setaffinity(2) of the calling thread to one processor; 0 or -1 with errno.
int rfs_pin_to_processor(int processor);

/// Lets the calling thread run where those run that no thread of the process has pinned, with the usual
/// policy and slice: a new thread has its starter's. Does nothing where no thread was ever pinned.
void rfs_unpin(void);

/// gettid(2).
int rfs_current_thread(void);

/// sched_setattr(2) of a thread: SCHED_OTHER, with a slice of a tenth of a millisecond, the shortest
/// that the scheduler gives (Linux 6.12 and later); 0 or -1 with errno.
int rfs_prefer_latency(int thread);

/// sched_setattr(2) of a thread: SCHED_IDLE; 0 or -1 with errno.
int rfs_go_behind(int thread);

/// prctl(2) with PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE 0, PR_SET_PDEATHSIG with SIGTERM, and PR_SET_IO_FLUSHER 0;
/// each 0 or -1 with errno.
int rfs_no_new_privileges(void);
int rfs_not_dumpable(void);
int rfs_end_with_parent(void);
int rfs_end_io_flusher(void);

/// posix_spawn_file_actions_addclosefrom_np(3) (glibc 2.34) from the first descriptor that is no standard one. The pointer
/// is to file actions of <spawn.h>.
int rfs_spawn_closes_others(void *actions);

/// prctl(2) with PR_SET_IO_FLUSHER, for this thread and all that it starts; 0 or -1 with errno.
int rfs_become_io_flusher(void);

/// mallopt(3) with M_ARENA_MAX and M_TRIM_THRESHOLD.
void rfs_bound_heap(int arenas, int trim_threshold);

/// accept4(2) with SOCK_CLOEXEC and SOCK_NONBLOCK.
int rfs_accept(int socket);

/// pipe2(2) with O_CLOEXEC and O_NONBLOCK: the end to read, and the end to write.
int rfs_pipe(int ends[2]);

/// SO_PEERCRED of unix(7), whose struct only _GNU_SOURCE declares; 0 or -1 with errno.
int rfs_peer(int socket, int *process, unsigned int *user);

/// The most descriptors that go with one message here.
#define RFS_DESCRIPTORS_MAX 4

/// sendmsg(2) with MSG_NOSIGNAL, and with descriptors (SCM_RIGHTS of unix(7)) where count is not 0.
ssize_t rfs_send_with_descriptors(int socket, const void *bytes, size_t length,
                                  const int *descriptors, int count);

/// recvmsg(2) with MSG_CMSG_CLOEXEC. The descriptors that came are the caller's to close, also where the
/// kernel had no room for all of them (`is_cut`).
ssize_t rfs_receive_with_descriptors(int socket, void *bytes, size_t length,
                                     int descriptors[RFS_DESCRIPTORS_MAX], int *count,
                                     int *is_cut);

/// malloc_trim(3): gives the free pages of all arenas back.
void rfs_trim_heap(void);

#endif
