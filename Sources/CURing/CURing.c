#include "CURing.h"
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

struct rfs_ring {
    struct io_uring ring;
    struct iovec buffers[2];
};

struct rfs_ring *rfs_ring_open(int *error) {
    struct rfs_ring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL) {
        *error = -ENOMEM;
        return NULL;
    }
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    *error = io_uring_queue_init_params(2, &ring->ring, &parameters);
    if (*error < 0) {
        free(ring);
        return NULL;
    }
    // Saves a look at the table of descriptors with each call; it goes without, too.
    (void)io_uring_register_ring_fd(&ring->ring);
    return ring;
}

void rfs_ring_close(struct rfs_ring *ring) {
    io_uring_queue_exit(&ring->ring);
    free(ring);
}

static int rfs_ring_queue(struct rfs_ring *ring, int device, enum rfs_ring_operation operation,
                          const struct rfs_ring_command *command, const struct iovec *buffers) {
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring->ring);
    if (entry == NULL) return -EBUSY;
    // The command's own bytes are the second half of the 128.
    const size_t command_offset = 48;
    memset(entry, 0, 128);
    entry->opcode = IORING_OP_URING_CMD;
    entry->fd = device;
    entry->cmd_op = operation;
    if (buffers != NULL) {
        entry->addr = (uint64_t)(uintptr_t)buffers;
        entry->len = 2;
    }
    memcpy((char *)entry + command_offset, command, sizeof(*command));
    return 0;
}

int rfs_ring_register(struct rfs_ring *ring, int device, uint16_t queue, void *header, void *payload,
                      size_t payload_size) {
    struct rfs_ring_command command = {.queue = queue};
    ring->buffers[0] = (struct iovec){header, sizeof(struct rfs_ring_header)};
    ring->buffers[1] = (struct iovec){payload, payload_size};
    return rfs_ring_queue(ring, device, RFS_RING_REGISTER, &command, ring->buffers);
}

int rfs_ring_commit(struct rfs_ring *ring, int device, uint16_t queue, uint64_t commit_id) {
    struct rfs_ring_command command = {.queue = queue, .commit_id = commit_id};
    return rfs_ring_queue(ring, device, RFS_RING_COMMIT_AND_FETCH, &command, NULL);
}

int rfs_ring_next(struct rfs_ring *ring, int waits, int *result) {
    struct io_uring_cqe *completion;
    int code = waits ? io_uring_submit_and_wait(&ring->ring, 1) : io_uring_submit(&ring->ring);
    // Without memory for the command it stays queued, and the next call hands it over.
    if (code < 0 && code != -EINTR && code != -EAGAIN && code != -EBUSY) return code;
    if (io_uring_peek_cqe(&ring->ring, &completion) != 0) return 0;
    *result = completion->res;
    io_uring_cqe_seen(&ring->ring, completion);
    return 1;
}

unsigned rfs_ring_left(const struct rfs_ring *ring) { return io_uring_sq_ready(&ring->ring); }
