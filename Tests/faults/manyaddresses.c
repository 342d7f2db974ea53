/* LD_PRELOAD: the host "many.raystorage.test" has forty addresses of this machine, 127.0.53.101 to 127.0.53.140, and 127.0.0.1
 * behind them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

typedef int resolve(const char *, const char *, const struct addrinfo *, struct addrinfo **);

__attribute__((visibility("default"))) int getaddrinfo(
    const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    resolve *real = (resolve *)dlsym(RTLD_NEXT, "getaddrinfo");
    if (node == NULL || strcmp(node, "many.raystorage.test") != 0) return real(node, service, hints, result);
    /* glibc's lists are freed one by one, so they may be tied together. */
    struct addrinfo **end = result;
    *result = NULL;
    for (int number = 101; number <= 141; number++) {
        char address[32] = "127.0.0.1";
        if (number <= 140) snprintf(address, sizeof address, "127.0.53.%d", number);
        int code = real(address, service, hints, end);
        if (code != 0) return code;
        while (*end != NULL) end = &(*end)->ai_next;
    }
    return 0;
}
