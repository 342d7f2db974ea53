/*
 * Keeps libraystorage.so loadable with glibc 2.34. The Swift runtime calls hypotf, which got a second symbol version in
 * 2.35 (it no longer sets errno); linked with --wrap=hypotf, its calls come here and go on to the first version.
 */
__asm__(".symver first_hypotf, hypotf@GLIBC_2.2.5");
float first_hypotf(float x, float y);
float __wrap_hypotf(float x, float y);
float __wrap_hypotf(float x, float y) { return first_hypotf(x, y); }

/* Expat salts its hash tables with arc4random_buf, which glibc has since 2.36. */
#include <stddef.h>
#include <sys/random.h>
#include <sys/types.h>

void __wrap_arc4random_buf(void *buffer, size_t length);
void __wrap_arc4random_buf(void *buffer, size_t length) {
    unsigned char *place = buffer;
    while (length > 0) {
        /* Fails only when a signal comes before there is any entropy: again. */
        ssize_t count = getrandom(place, length, 0);
        if (count > 0) {
            place += count;
            length -= (size_t)count;
        }
    }
}
