#include "csguest.h"

#include <curl/curl.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* One bit per descriptor; the few beyond stay open in the child, which does no harm but to the other side's patience. */
#define SOCKETS 65536
static _Atomic uint64_t sockets[SOCKETS / 64];
/* Which sockets they are: curl closes some without a word, and their numbers are the host's then. */
static _Atomic uint64_t inodes[SOCKETS];

static int is_socket(int descriptor, uint64_t *inode) {
    struct stat status;
    if (fstat(descriptor, &status) != 0 || !S_ISSOCK(status.st_mode)) return 0;
    *inode = (uint64_t)status.st_ino;
    return 1;
}

static void mark(int socket, int is_open) {
    if (socket < 0 || socket >= SOCKETS) return;
    uint64_t inode = 0, bit = (uint64_t)1 << (socket % 64);
    if (is_open && is_socket(socket, &inode)) {
        atomic_store(&inodes[socket], inode);
        atomic_fetch_or(&sockets[socket / 64], bit);
    } else {
        atomic_fetch_and(&sockets[socket / 64], ~bit);
    }
}

static void after_fork_in_child(void) {
    /* Only the descriptors: what curl and TLS know of these connections is the parent's, and would speak on them. */
    for (int word = 0; word < SOCKETS / 64; word++) {
        uint64_t bits = atomic_exchange(&sockets[word], 0);
        for (int bit = 0; bits != 0; bit++, bits >>= 1) {
            int descriptor = 64 * word + bit;
            uint64_t inode = 0;
            if (bits & 1 && is_socket(descriptor, &inode) && inode == atomic_load(&inodes[descriptor])) close(descriptor);
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
