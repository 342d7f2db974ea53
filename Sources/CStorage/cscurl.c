#include "cscurl.h"

#include "../../include/raystorage.h"
#include "cscurltransfer.h"
#include "csguest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* 7.88 takes 512 KiB at most for what is received. A small request is not worth pages that are cleared for it. What is sent is
 * read from the page cache and goes to the socket at once: larger than a share of a core's second-level cache it is read from
 * memory once more, which took 10 % more of the processor at 1 MiB. */
#define SMALLEST_BUFFER (16L * 1024)
#define LARGEST_RECEIVE_BUFFER (512L * 1024)
#define LARGEST_SEND_BUFFER (256L * 1024)
/* A body of fewer bytes goes out with its request's head, by one call and often in one packet: MAX_INITIAL_POST_SIZE. */
#define BODY_BESIDE_HEAD (64L * 1024)
#define HEAD_AT_MOST (8L * 1024)

static long clamp(int64_t value, long least, long most) {
    return value < least ? least : value > most ? most : (long)value;
}

static int on_seek(void *data, curl_off_t offset, int origin) {
    cs_transfer *self = data;
    return self->seek(self->context, (int64_t)offset, origin) == 0 ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
}

size_t cs_curl_read_abort(void) { return CURL_READFUNC_ABORT; }

static int add_header(cs_transfer *self, const char *line) {
    struct curl_slist *longer = curl_slist_append(self->headers, line);
    if (longer == NULL) return 0;
    self->headers = longer;
    return 1;
}

static int add_headers(cs_transfer *self, const cs_curl_request *request) {
    int has_type = 0;
    for (size_t index = 0; index < request->header_count; index++) {
        if (!add_header(self, request->headers[index])) return 0;
        if (strncasecmp(request->headers[index], "Content-Type:", 13) == 0) has_type = 1;
    }
    /* An empty value takes away what curl would add by itself. */
    return add_header(self, "Expect:") && add_header(self, "Accept:") && (has_type || add_header(self, "Content-Type:"));
}

static int goes_beside_head(const cs_curl_request *request) {
    return request->body_length > 0 && request->body_length < BODY_BESIDE_HEAD && request->send_limit == 0;
}

/* curl sends only the fields of a POST along with the head, and the method is ours to name. */
static int set_small_body(cs_transfer *self, const cs_curl_request *request) {
    size_t length = (size_t)request->body_length, done = 0;
    self->body = malloc(length);
    while (self->body != NULL && done < length) {
        size_t count = request->read(self->body + done, 1, length - done, request->context);
        if (count == 0 || count > length - done) return 0;
        done += count;
    }
    if (self->body == NULL) return 0;
    curl_easy_setopt(self->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)length);
    curl_easy_setopt(self->easy, CURLOPT_POSTFIELDS, self->body);
    curl_easy_setopt(self->easy, CURLOPT_CUSTOMREQUEST, request->method);
    return 1;
}

static void set_method(CURL *easy, const cs_curl_request *request) {
    int is_write = strcmp(request->method, "PUT") == 0 || strcmp(request->method, "POST") == 0;
    if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (is_write || request->body_length > 0) {
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body_length);
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    } else {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
        if (strcmp(request->method, "GET") != 0) curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    }
}

void *cs_curl_transfer_new(const cs_curl_request *request) {
    cs_guest_initialize();
    cs_transfer *self = calloc(1, sizeof *self);
    if (self == NULL) return NULL;
    self->context = request->context;
    self->seek = request->seek;
    CURL *easy = self->easy = curl_easy_init();
    if (easy == NULL || !add_headers(self, request)
        || curl_easy_setopt(easy, CURLOPT_URL, request->url) != CURLE_OK) {
        cs_curl_transfer_free(self);
        return NULL;
    }
    curl_easy_setopt(easy, CURLOPT_PRIVATE, self);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, self->error);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, self->headers);
    /* The host's signals and handlers are left alone; time-outs of the resolver come from its thread. */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* No waiting for a name server that does not answer, neither by us nor by who forks. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, clamp(request->expected_length, SMALLEST_BUFFER, LARGEST_RECEIVE_BUFFER));
    int64_t piece = request->body_length;
    if (goes_beside_head(request)) piece += HEAD_AT_MOST;
    if (request->send_limit > 0) {
        /* Four times a second, so that a slow transfer is no stalled one. */
        piece = piece < request->send_limit / 4 ? piece : request->send_limit / 4;
        curl_easy_setopt(easy, CURLOPT_MAX_SEND_SPEED_LARGE, (curl_off_t)request->send_limit);
    }
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, clamp(piece, SMALLEST_BUFFER, LARGEST_SEND_BUFFER));
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "raystorage/" RAYSTORAGE_VERSION);
    /* What a proxy says to CONNECT is no answer of the store. */
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, request->proxy != NULL ? request->proxy : "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, request->proxy_exceptions != NULL ? request->proxy_exceptions : "");
    /* A store has many addresses: each look-up begins with another. */
    curl_easy_setopt(easy, CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, request->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, request->total_timeout_ms);
    if (request->fresh_connection) {
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
    }
    if (request->bypass_proxy) curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, request->verify ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, request->verify ? 2L : 0L);
    /* NULL takes away what was compiled in: only the caller's word counts. */
    curl_easy_setopt(easy, CURLOPT_CAINFO, request->ca_file);
    curl_easy_setopt(easy, CURLOPT_CAPATH, request->ca_directory);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, request->read);
    curl_easy_setopt(easy, CURLOPT_READDATA, request->context);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, self);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, request->write);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, request->context);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, request->header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, request->context);
    if (!goes_beside_head(request)) {
        set_method(easy, request);
    } else if (!set_small_body(self, request)) {
        cs_curl_transfer_free(self);
        return NULL;
    }
    return self;
}

void cs_curl_transfer_free(void *pointer) {
    cs_transfer *self = pointer;
    if (self == NULL) return;
    if (self->easy != NULL) curl_easy_cleanup(self->easy);
    curl_slist_free_all(self->headers);
    free(self->body);
    free(self);
}

void cs_curl_transfer_state(void *pointer, cs_curl_state *state) {
    cs_transfer *self = pointer;
    curl_off_t sent = 0, received = 0, announced = -1;
    memset(state, 0, sizeof *state);
    curl_easy_getinfo(self->easy, CURLINFO_RESPONSE_CODE, &state->status);
    curl_easy_getinfo(self->easy, CURLINFO_NUM_CONNECTS, &state->connections);
    curl_easy_getinfo(self->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    curl_easy_getinfo(self->easy, CURLINFO_SIZE_DOWNLOAD_T, &received);
    curl_easy_getinfo(self->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
    state->sent = sent;
    state->received = received;
    state->announced = announced;
}

const char *cs_curl_transfer_error(void *pointer, int code) {
    cs_transfer *self = pointer;
    return self->error[0] != 0 ? self->error : curl_easy_strerror((CURLcode)code);
}

const char *cs_http_version(void) { return curl_version(); }
