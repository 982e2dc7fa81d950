// What HTTP sees of libcurl, 7.68 or newer (for curl_multi_wakeup).
//
// curl_easy_setopt and curl_easy_getinfo are variadic, which Swift cannot call: each kind of value
// has a function here, with the prefix rfs_. The header's type checks are macros for C callers.
#ifndef RFS_CCURL_SHIM_H
#define RFS_CCURL_SHIM_H

#define CURL_DISABLE_TYPECHECK

#include <curl/curl.h>
#include <stddef.h>
#include <stdint.h>

/// The form of CURLOPT_WRITEFUNCTION, CURLOPT_READFUNCTION and CURLOPT_HEADERFUNCTION.
typedef size_t (*rfs_curl_transfer)(char *bytes, size_t size, size_t count, void *context);

/// The form of CURLOPT_SEEKFUNCTION.
typedef int (*rfs_curl_seek)(void *context, curl_off_t offset, int origin);

/// curl_global_init(3) with all there is; 0 or an error.
static inline CURLcode rfs_curl_global_init(void)
{
    return curl_global_init(CURL_GLOBAL_ALL);
}

static inline CURLcode rfs_curl_set_long(void *easy, CURLoption option, long value)
{
    return curl_easy_setopt((CURL *)easy, option, value);
}

static inline CURLcode rfs_curl_set_offset(void *easy, CURLoption option, int64_t value)
{
    return curl_easy_setopt((CURL *)easy, option, (curl_off_t)value);
}

/// curl copies the text.
static inline CURLcode rfs_curl_set_text(void *easy, CURLoption option, const char *value)
{
    return curl_easy_setopt((CURL *)easy, option, value);
}

/// Where curl writes the reason of a failure, CURL_ERROR_SIZE bytes that outlive the handle.
static inline CURLcode rfs_curl_set_error_buffer(void *easy, char *buffer)
{
    return curl_easy_setopt((CURL *)easy, CURLOPT_ERRORBUFFER, buffer);
}

static inline CURLcode rfs_curl_set_list(void *easy, CURLoption option, struct curl_slist *value)
{
    return curl_easy_setopt((CURL *)easy, option, value);
}

/// Sets the callbacks of one transfer and the context that all of them are given.
static inline void rfs_curl_set_callbacks(void *easy, rfs_curl_transfer write,
                                          rfs_curl_transfer read, rfs_curl_transfer header,
                                          rfs_curl_seek seek, void *context)
{
    (void)curl_easy_setopt((CURL *)easy, CURLOPT_WRITEFUNCTION, write);
    (void)curl_easy_setopt((CURL *)easy, CURLOPT_WRITEDATA, context);
    (void)curl_easy_setopt((CURL *)easy, CURLOPT_READFUNCTION, read);
    (void)curl_easy_setopt((CURL *)easy, CURLOPT_READDATA, context);
    (void)curl_easy_setopt((CURL *)easy, CURLOPT_HEADERFUNCTION, header);
    (void)curl_easy_setopt((CURL *)easy, CURLOPT_HEADERDATA, context);
    (void)curl_easy_setopt((CURL *)easy, CURLOPT_SEEKFUNCTION, seek);
    (void)curl_easy_setopt((CURL *)easy, CURLOPT_SEEKDATA, context);
}

/// The form of CURLOPT_OPENSOCKETFUNCTION.
typedef curl_socket_t (*rfs_curl_open_socket)(void *context, curlsocktype purpose,
                                              struct curl_sockaddr *address);

/// Has a function make the sockets of a handle, whose address it sees; NULL for curl's own way.
static inline void rfs_curl_set_open_socket(void *easy, rfs_curl_open_socket open, void *context)
{
    (void)curl_easy_setopt((CURL *)easy, CURLOPT_OPENSOCKETFUNCTION, open);
    (void)curl_easy_setopt((CURL *)easy, CURLOPT_OPENSOCKETDATA, context);
}

/// Where the address itself begins, of which there are `addrlen` bytes.
static inline const void *rfs_curl_address(const struct curl_sockaddr *address)
{
    return &address->addr;
}

/// A number that curl_easy_getinfo(3) gives as curl_off_t; -1 where there is none.
static inline int64_t rfs_curl_offset(void *easy, CURLINFO what)
{
    curl_off_t value = -1;
    return curl_easy_getinfo((CURL *)easy, what, &value) == CURLE_OK ? (int64_t)value : -1;
}

/// A number that curl_easy_getinfo(3) gives as long; -1 where there is none.
static inline long rfs_curl_long(void *easy, CURLINFO what)
{
    long value = -1;
    return curl_easy_getinfo((CURL *)easy, what, &value) == CURLE_OK ? value : -1;
}

/// A text that curl_easy_getinfo(3) gives, valid until the handle's next transfer; NULL where there is none.
static inline const char *rfs_curl_text(void *easy, CURLINFO what)
{
    char *value = NULL;
    return curl_easy_getinfo((CURL *)easy, what, &value) == CURLE_OK ? value : NULL;
}

/// Lets a handle speak http and https alone, in the way that this version of libcurl has for it.
static inline CURLcode rfs_curl_speak_http_only(void *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    return curl_easy_setopt((CURL *)easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    return curl_easy_setopt((CURL *)easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

/// curl_multi_setopt(3) with a number.
static inline CURLMcode rfs_curl_multi_set_long(void *multi, CURLMoption option, long value)
{
    return curl_multi_setopt((CURLM *)multi, option, value);
}

/// Whether a transfer of this handle has ended; if so, how.
static inline int rfs_curl_ended(void *multi, CURLcode *result)
{
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read((CURLM *)multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            *result = message->data.result;
            return 1;
        }
    }
    return 0;
}

#endif
