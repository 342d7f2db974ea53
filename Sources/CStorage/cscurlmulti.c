/* A multi handle and the sockets that it waits for, by epoll.
 *
 * curl_multi_perform asks the kernel about every connection at every call, and each transfer about its own once more. Here
 * curl says which sockets it waits for, and hears of those that are ready. */
#include "cscurl.h"

#include "cscurltransfer.h"
#include "csfork.h"
#include "csguest.h"
#include "cstorage.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS 64

typedef struct {
    /* EPOLLIN, EPOLLOUT: what curl waits for, and what the kernel was told. */
    uint8_t wanted, told;
    /* Opened for a transfer, by `on_open_socket`. */
    uint8_t is_ours;
    /* It has been read from: connected, and from then on `on_close_socket` hears of its end. curl 7.88 closes what is still
     * connecting by itself. */
    uint8_t is_connected;
} socket_state;

typedef struct {
    CURLM *multi;
    int epoll;
    /* Written by other threads. */
    int wakeup;
    /* When curl wants to be called, in nanoseconds; -1: never. */
    int64_t due;
    /* Whether something came to an end while it was connecting. curl 7.88 goes on with the next address the next time that
     * the transfer is looked at, and asks neither for an event nor for a timer. */
    int looks_at_all;
    /* Whether the kernel did not take something. */
    int is_behind;
    /* By descriptor. */
    socket_state *sockets;
    size_t count;
    /* What the last wait has brought. */
    struct epoll_event events[EVENTS];
    int event_count;
} loop;

static socket_state *state_of(loop *self, int socket) {
    if (socket < 0) return NULL;
    size_t place = (size_t)socket;
    if (place >= self->count) {
        size_t count = 2 * place + 64;
        socket_state *longer = realloc(self->sockets, count * sizeof *longer);
        if (longer == NULL) return NULL;
        memset(longer + self->count, 0, (count - self->count) * sizeof *longer);
        self->sockets = longer;
        self->count = count;
    }
    return &self->sockets[place];
}

static void tell(loop *self, int socket, socket_state *state) {
    struct epoll_event event = {.events = state->wanted, .data.fd = socket};
    int operation = state->wanted == 0 ? EPOLL_CTL_DEL : state->told == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    int failed = epoll_ctl(self->epoll, operation, socket, &event);
    state->told = failed ? 0 : state->wanted;
    if (failed && state->wanted != 0) self->is_behind = 1;
}

static int on_socket(CURL *easy, curl_socket_t socket, int what, void *data, void *assigned) {
    (void)easy, (void)assigned;
    loop *self = data;
    socket_state *state = state_of(self, socket);
    if (state == NULL) return 0;
    /* Neither bit is in CURL_POLL_REMOVE. */
    state->wanted = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    if (state->wanted & EPOLLIN && state->is_ours) state->is_connected = 1;
    /* A connection is given back after each request and soon used by the next one: most wait for the same again. */
    if (state->wanted == 0 && state->is_connected && state->told == EPOLLIN) return 0;
    if (state->wanted != state->told) tell(self, socket, state);
    if (state->wanted == 0 && !state->is_connected) {
        self->looks_at_all |= state->is_ours;
        /* Closed already, for all we know, and its number may be anybody's. */
        *state = (socket_state){0};
    }
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *data) {
    (void)multi;
    loop *self = data;
    self->due = timeout_ms < 0 ? -1 : cs_monotonic_ns() + timeout_ms * 1000000;
    return 0;
}

static curl_socket_t on_open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address) {
    (void)purpose;
    int opened = cs_guest_open_socket(address->family, address->socktype, address->protocol);
    if (opened < 0) return CURL_SOCKET_BAD;
    socket_state *state = state_of(data, opened);
    if (state != NULL) *state = (socket_state){.is_ours = 1};
    return opened;
}

static int on_close_socket(void *data, curl_socket_t socket) {
    loop *self = data;
    socket_state *state = state_of(self, socket);
    if (state != NULL) {
        self->looks_at_all |= !state->is_connected;
        state->wanted = 0;
        /* A forked child may have a copy for a moment, and then closing alone does not take it out. */
        if (state->told != 0) tell(self, socket, state);
        *state = (socket_state){0};
    }
    return cs_guest_close_socket(socket);
}

void *cs_curl_multi_new(long max_idle_connections) {
    cs_guest_initialize();
    loop *self = calloc(1, sizeof *self);
    if (self == NULL) return NULL;
    self->due = -1;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = self->wakeup};
    if (self->epoll >= 0 && self->wakeup >= 0
        && epoll_ctl(self->epoll, EPOLL_CTL_ADD, self->wakeup, &event) == 0) {
        self->multi = curl_multi_init();
    }
    if (self->multi == NULL) {
        cs_curl_multi_free(self);
        return NULL;
    }
    curl_multi_setopt(self->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(self->multi, CURLMOPT_MAXCONNECTS, max_idle_connections);
    curl_multi_setopt(self->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(self->multi, CURLMOPT_SOCKETDATA, self);
    curl_multi_setopt(self->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(self->multi, CURLMOPT_TIMERDATA, self);
    return self;
}

void cs_curl_multi_free(void *pointer) {
    loop *self = pointer;
    /* Closes its connections, which are looked up in the table. */
    if (self->multi != NULL) curl_multi_cleanup(self->multi);
    if (self->epoll >= 0) close(self->epoll);
    if (self->wakeup >= 0) close(self->wakeup);
    free(self->sockets);
    free(self);
}

int cs_curl_multi_add(void *pointer, void *added) {
    loop *self = pointer;
    cs_transfer *transfer = added;
    /* Its connections stay here when it has ended. */
    curl_easy_setopt(transfer->easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(transfer->easy, CURLOPT_OPENSOCKETDATA, self);
    curl_easy_setopt(transfer->easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
    curl_easy_setopt(transfer->easy, CURLOPT_CLOSESOCKETDATA, self);
    return curl_multi_add_handle(self->multi, transfer->easy);
}

void cs_curl_multi_remove(void *pointer, void *removed) {
    cs_transfer *transfer = removed;
    curl_multi_remove_handle(((loop *)pointer)->multi, transfer->easy);
}

void cs_curl_multi_wait(void *pointer, int timeout_ms) {
    loop *self = pointer;
    if (self->due >= 0) {
        int64_t left = (self->due - cs_monotonic_ns() + 999999) / 1000000;
        if (left < timeout_ms) timeout_ms = left > 0 ? (int)left : 0;
    }
    if (self->looks_at_all) timeout_ms = 0;
    int depth = cs_fork_pause();
    self->event_count = epoll_wait(self->epoll, self->events, EVENTS, timeout_ms);
    cs_fork_resume(depth);
}

static void look_at_all(loop *self) {
    int running = 0;
    /* It was deprecated for its cost. Nothing else tells curl to look at a transfer without a reason, and then of its sockets. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    curl_multi_socket_all(self->multi, &running);
#pragma GCC diagnostic pop
}

void cs_curl_multi_act(void *pointer) {
    loop *self = pointer;
    int running = 0;
    for (int index = 0; index < self->event_count; index++) {
        int socket = self->events[index].data.fd;
        uint32_t happened = self->events[index].events;
        if (socket == self->wakeup) {
            uint64_t times;
            (void)!read(self->wakeup, &times, sizeof times);
            continue;
        }
        socket_state *state = state_of(self, socket);
        if (state != NULL && state->wanted == 0) {
            /* The other side speaks, or hangs up, on a connection that nobody uses: curl looks when it wants it again. */
            if (state->told != 0) tell(self, socket, state);
            continue;
        }
        /* An error is told by what reads or writes: what a server said before it hung up counts. */
        int ready = (happened & (EPOLLIN | EPOLLHUP | EPOLLERR) ? CURL_CSELECT_IN : 0)
                    | (happened & EPOLLOUT ? CURL_CSELECT_OUT : 0);
        curl_multi_socket_action(self->multi, socket, ready, &running);
    }
    if (self->looks_at_all) {
        self->looks_at_all = 0;
        look_at_all(self);
    }
    if (self->due >= 0 && cs_monotonic_ns() >= self->due) {
        self->due = -1;
        curl_multi_socket_action(self->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    if (self->is_behind) {
        self->is_behind = 0;
        for (size_t place = 0; place < self->count; place++) {
            socket_state *state = &self->sockets[place];
            if (state->wanted != 0 && state->told != state->wanted) tell(self, (int)place, state);
        }
    }
}

void cs_curl_multi_wakeup(void *pointer) {
    uint64_t once = 1;
    (void)!write(((loop *)pointer)->wakeup, &once, sizeof once);
}

int cs_curl_multi_next(void *pointer, void **context, int *code) {
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read(((loop *)pointer)->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE) continue;
        char *data = NULL;
        *code = (int)message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &data);
        if (data == NULL) continue;
        *context = ((cs_transfer *)(void *)data)->context;
        return 1;
    }
    return 0;
}
