/*
 * Keeps libraystorage.so loadable with glibc 2.34. The Swift runtime calls hypotf, which got a second symbol version in
 * 2.35 (it no longer sets errno); linked with --wrap=hypotf, its calls come here and go on to the first version.
 */
__asm__(".symver first_hypotf, hypotf@GLIBC_2.2.5");
float first_hypotf(float x, float y);
float __wrap_hypotf(float x, float y);
float __wrap_hypotf(float x, float y) { return first_hypotf(x, y); }
