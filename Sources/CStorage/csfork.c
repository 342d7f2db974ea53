#include "csfork.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

/* For so long nobody waits again. */
#define FORGET_NS 1000000000

/* Who is inside holds it for reading, who forks for writing. A waiting writer comes first: threads come back all the time. */
static pthread_rwlock_t gate = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static int limit_ms = 200;
/* When the last fork that waited in vain began, on CLOCK_MONOTONIC: what held it up may last, and a host forks many workers. */
static _Atomic int64_t missed_at = -FORGET_NS;
/* How many forks wait for the gate. */
static _Atomic int waiting;
static _Thread_local int inside;
static _Thread_local int has_gate;
static _Thread_local int was_inside;

static void before_fork(void) {
    struct timespec limit;
    clock_gettime(CLOCK_MONOTONIC, &limit);
    int64_t now = (int64_t)limit.tv_sec * 1000000000 + limit.tv_nsec;
    was_inside = cs_fork_pause();
    if (now - atomic_load(&missed_at) < FORGET_NS) {
        has_gate = pthread_rwlock_trywrlock(&gate) == 0;
        return;
    }
    limit.tv_sec += limit_ms / 1000;
    limit.tv_nsec += limit_ms % 1000 * 1000000L;
    if (limit.tv_nsec >= 1000000000) {
        limit.tv_nsec -= 1000000000;
        limit.tv_sec += 1;
    }
    atomic_fetch_add_explicit(&waiting, 1, memory_order_relaxed);
    /* Bounded: what our threads do is no reason for the host's fork to hang. */
    has_gate = pthread_rwlock_clockwrlock(&gate, CLOCK_MONOTONIC, &limit) == 0;
    atomic_fetch_sub_explicit(&waiting, 1, memory_order_relaxed);
    if (!has_gate) atomic_store(&missed_at, now);
}

static void after_fork(void) {
    if (has_gate) pthread_rwlock_unlock(&gate);
    has_gate = 0;
    cs_fork_resume(was_inside);
}

static void after_fork_in_child(void) {
    static const pthread_rwlock_t fresh = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
    memcpy(&gate, &fresh, sizeof gate);
    /* Other threads' forks may have been waiting: there are no other threads here. */
    atomic_store(&waiting, 0);
    has_gate = 0;
    cs_fork_resume(was_inside);
}

void cs_fork_limit(int milliseconds) { limit_ms = milliseconds; }

/* When the library is loaded: registered in the middle of a fork, handlers would run by halves, or twice. */
__attribute__((constructor)) static void initialize(void) { pthread_atfork(before_fork, after_fork, after_fork_in_child); }

void cs_fork_enter(void) {
    /* In this order: a signal's handler may fork in between. */
    if (inside == 0) pthread_rwlock_rdlock(&gate);
    inside++;
}

void cs_fork_leave(void) {
    if (inside == 1) pthread_rwlock_unlock(&gate);
    inside--;
}

int cs_fork_pause(void) {
    int depth = inside;
    if (depth == 0) return 0;
    inside = 0;
    pthread_rwlock_unlock(&gate);
    return depth;
}

void cs_fork_resume(int depth) {
    if (depth == 0) return;
    int kept = errno;
    pthread_rwlock_rdlock(&gate);
    inside = depth;
    errno = kept;
}

void cs_fork_yield(void) {
    if (atomic_load_explicit(&waiting, memory_order_relaxed) == 0) return;
    cs_fork_resume(cs_fork_pause());
}
