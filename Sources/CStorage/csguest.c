#include "csguest.h"

#include <curl/curl.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

/* One bit per descriptor; the few beyond stay open in the child, which does no harm but to the other side's patience. */
#define SOCKETS 65536
static _Atomic uint64_t sockets[SOCKETS / 64];

static void mark(int socket, int is_open) {
    if (socket < 0 || socket >= SOCKETS) return;
    uint64_t bit = (uint64_t)1 << (socket % 64);
    if (is_open) atomic_fetch_or(&sockets[socket / 64], bit);
    else atomic_fetch_and(&sockets[socket / 64], ~bit);
}

static void after_fork_in_child(void) {
    /* Only the descriptors: what curl and TLS know of these connections is the parent's, and would speak on them. */
    for (int word = 0; word < SOCKETS / 64; word++) {
        uint64_t bits = atomic_exchange(&sockets[word], 0);
        for (int bit = 0; bits != 0; bit++, bits >>= 1) {
            if (bits & 1) close(64 * word + bit);
        }
    }
}

static void initialize(void) {
    /* Threads that still send at exit must not find OpenSSL taken down, and a host's openssl.cnf is not about us.
     * Only the first call decides, so nothing here may use OpenSSL's EVP before. */
    OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT | OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT | OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

__attribute__((constructor)) static void register_child(void) { pthread_atfork(NULL, NULL, after_fork_in_child); }

void cs_guest_end_thread(void) { OPENSSL_thread_stop(); }

void cs_guest_initialize(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, initialize);
}

int cs_guest_open_socket(int family, int type, int protocol) {
    int opened = socket(family, type | SOCK_CLOEXEC, protocol);
    mark(opened, 1);
    return opened;
}

int cs_guest_close_socket(int socket) {
    mark(socket, 0);
    shutdown(socket, SHUT_RDWR);
    return close(socket);
}
