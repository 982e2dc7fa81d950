// What Naming sees of the system's resolver (resolver(3)): one question and the packet that answers it. The
// resolver's header stays out of here, because its macros and its state are nothing that Swift can use.
#ifndef RFS_CRESOLV_H
#define RFS_CRESOLV_H

#include <stddef.h>

/// Asks the servers of /etc/resolv.conf for the TXT records of a name, which is taken as it is: no search
/// list. Blocks; by TCP where the answer by UDP is truncated.
///
/// @param seconds about how long all of it may take, at least 1
/// @return the length of the packet, which may be one that says that there is no such name; or -1, with
///         errno, where no server answers, or there is none.
int rfs_resolve_txt(const char *name, unsigned char *answer, size_t size, int seconds);

/// The servers of /etc/resolv.conf as texts, for people, in `text`, separated by spaces.
void rfs_resolver_servers(char *text, size_t size);

#endif
