#include "CResolv.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <errno.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <string.h>

int rfs_resolve_txt(const char *name, unsigned char *answer, size_t size, int seconds) {
    // A state of its own: that of the thread is anybody's.
    struct __res_state state;
    memset(&state, 0, sizeof state);
    if (res_ninit(&state) != 0) return -1;
    // All servers are asked once, each for `retrans` seconds, and then once more, twice as long for all of
    // them together (res_send.c of glibc).
    int servers = state.nscount < 1 ? 1 : state.nscount;
    state.retrans = seconds / (servers + 2);
    if (state.retrans < 1) state.retrans = 1;
    state.retry = 2;
    unsigned char query[NS_MAXDNAME + 64];
    // res_nquery(3) is these two calls, and keeps the packet of a negative answer to itself, which says how
    // long that holds.
    int length = res_nmkquery(
        &state, ns_o_query, name, ns_c_in, ns_t_txt, NULL, 0, NULL, query, sizeof query);
    if (length < 0) {
        errno = EINVAL;
    } else {
        errno = 0;
        length = res_nsend(&state, query, length, answer, size > 65535 ? 65535 : (int)size);
        if (length < 0 && errno == 0) errno = ECONNREFUSED;
    }
    int error = errno;
    res_nclose(&state);
    errno = error;
    return length;
}

void rfs_resolver_servers(char *text, size_t size) {
    struct __res_state state;
    if (size == 0) return;
    text[0] = 0;
    memset(&state, 0, sizeof state);
    if (res_ninit(&state) != 0) return;
    size_t used = 0;
    for (int index = 0; index < state.nscount && index < MAXNS; index++) {
        char address[INET6_ADDRSTRLEN] = "";
        const struct sockaddr_in *version4 = &state.nsaddr_list[index];
        const struct sockaddr_in6 *version6 = state._u._ext.nsaddrs[index];
        if (version4->sin_family == AF_INET) {
            inet_ntop(AF_INET, &version4->sin_addr, address, sizeof address);
        } else if (version6) {
            inet_ntop(AF_INET6, &version6->sin6_addr, address, sizeof address);
        }
        if (!address[0] || used + strlen(address) + 2 > size) continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s", used ? " " : "", address);
    }
    res_nclose(&state);
}
