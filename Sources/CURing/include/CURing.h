// What FuseSession sees of io_uring(7): one ring for one thread, for the commands of FUSE over
// io_uring. liburing's header stays out of here, because its types are those of another module too.
#ifndef RFS_CURING_H
#define RFS_CURING_H

#include <stddef.h>
#include <stdint.h>

// FUSE over io_uring, since protocol 7.42 (Linux 6.14): the structs are here under names of ours,
// because the header of the system may be older. Layout: struct fuse_uring_req_header with
// fuse_uring_ent_in_out, and fuse_uring_cmd_req, of include/uapi/linux/fuse.h.

struct rfs_ring_header {
    /// A request's struct fuse_in_header, an answer's struct fuse_out_header.
    uint8_t in_out[128];
    /// The fixed part of a request's body.
    uint8_t operation[128];
    uint64_t flags;
    uint64_t commit_id;
    uint32_t payload_size;
    uint32_t padding;
    uint64_t reserved;
};

struct rfs_ring_command {
    uint64_t flags;
    uint64_t commit_id;
    uint16_t queue;
    uint8_t padding[6];
};

_Static_assert(sizeof(struct rfs_ring_header) == 288, "fuse_uring_req_header");
_Static_assert(sizeof(struct rfs_ring_command) == 24, "fuse_uring_cmd_req");

enum rfs_ring_operation { RFS_RING_REGISTER = 1, RFS_RING_COMMIT_AND_FETCH = 2 };

struct rfs_ring;

/// Makes a ring for the calling thread alone; NULL with a negative errno value in `error`.
struct rfs_ring *rfs_ring_open(int *error);

/// Ends a ring, and what was asked for by it.
void rfs_ring_close(struct rfs_ring *ring);

/// Takes part in a queue of a FUSE device with two buffers, which stay the kernel's. It is asked for
/// with the next `rfs_ring_next`, as the others. 0, or -EBUSY where a command waits for that already.
int rfs_ring_register(struct rfs_ring *ring, int device, uint16_t queue, void *header, void *payload,
                      size_t payload_size);

/// Answers a request and takes part again. 0 or -EBUSY.
int rfs_ring_commit(struct rfs_ring *ring, int device, uint16_t queue, uint64_t commit_id);

/// Hands over what is asked for, and with `waits` blocks until a command has ended or a signal came.
/// 1 and the result of a command that has ended, 0 where none has, or a negative errno value.
int rfs_ring_next(struct rfs_ring *ring, int waits, int *result);

/// How many commands are not handed over yet.
unsigned rfs_ring_left(const struct rfs_ring *ring);

#endif
