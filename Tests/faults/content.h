/* Checkpoints whose every byte follows from the step, so that a checker needs nothing but the directory. */
#ifndef CONTENT_H
#define CONTENT_H

#include <stddef.h>
#include <stdint.h>

/* Makes the directory (new or empty) of one step: a large file, a nested one, a sparse one, an empty directory, a link,
 * odd names and modes; `bytes` is the size of the largest. Dies with a message when it cannot. */
void content_make(const char *directory, long step, uint64_t bytes);

/* The step whose checkpoint this directory is, bit for bit and nothing more or less; -1 with the reason in `problem`.
 * Leaves out .raystorage and .metadata.json at the top. */
long content_check(const char *directory, char *problem, size_t problem_size);

/* Overwrites, truncates and deletes what content_make() made: a caller who uses its directory again at once. */
void content_scribble(const char *directory);

/* Removes a directory and all that is in it; nothing there is fine. */
void content_remove(const char *directory);

#endif
