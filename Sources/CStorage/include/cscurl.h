/* Thin shims for libcurl: its options are variadic, its types are macros. One multi handle belongs to one thread. */
#ifndef CSCURL_H
#define CSCURL_H

#include <stddef.h>
#include <stdint.h>

/* One request. Strings are borrowed for the call that configures; the callbacks get `context`. */
typedef struct {
    void *context;
    size_t (*read)(char *buffer, size_t size, size_t count, void *context);
    int (*seek)(void *context, int64_t offset, int origin);
    size_t (*write)(char *buffer, size_t size, size_t count, void *context);
    size_t (*header)(char *buffer, size_t size, size_t count, void *context);
    const char *url;
    const char *method;
    /* Bytes that `read` gives; a few are read while the transfer is made. */
    int64_t body_length;
    /* About how many come back: how large a buffer is worth it. */
    int64_t expected_length;
    /* Lines `Name: value`. */
    const char *const *headers;
    size_t header_count;
    /* Milliseconds; 0: no limit. */
    long connect_timeout_ms;
    long total_timeout_ms;
    /* Bytes per second that are sent; 0: as fast as it goes. */
    int64_t send_limit;
    int fresh_connection;
    int bypass_proxy;
    int verify;
    /* NULL: none. */
    const char *ca_file;
    const char *ca_directory;
    /* A URL, "" for none, and the hosts that are reached without it; never the environment, which the host may be changing. */
    const char *proxy;
    const char *proxy_exceptions;
} cs_curl_request;

/* What curl knows of a transfer, also while it runs. */
typedef struct {
    long status;
    long connections;
    int64_t sent;
    int64_t received;
    /* Bytes that a response announced; -1: none. */
    int64_t announced;
} cs_curl_state;

/* What a read callback returns to end the transfer. */
size_t cs_curl_read_abort(void);

/* A configured transfer; NULL: no memory, or `read` did not give all of a small body. */
void *cs_curl_transfer_new(const cs_curl_request *request);
void cs_curl_transfer_free(void *transfer);
void cs_curl_transfer_state(void *transfer, cs_curl_state *state);
/* What went wrong, in curl's words, after it has ended; valid until the transfer is freed. */
const char *cs_curl_transfer_error(void *transfer, int code);

void *cs_curl_multi_new(long max_idle_connections);
void cs_curl_multi_free(void *multi);
/* 0: done. */
int cs_curl_multi_add(void *multi, void *transfer);
void cs_curl_multi_remove(void *multi, void *transfer);
/* Waits until a socket is ready, a wake-up comes or that time has passed; outside of the gate of csfork.h, which the thread
 * must have entered. Then do what there is to do. */
void cs_curl_multi_wait(void *multi, int timeout_ms);
void cs_curl_multi_act(void *multi);
/* The only call for other threads. */
void cs_curl_multi_wakeup(void *multi);
/* The next transfer that has ended: 1, its context and curl's code; 0: none. */
int cs_curl_multi_next(void *multi, void **context, int *code);

/* For build_info. */
const char *cs_http_version(void);

#endif
