/* Thin shims for what Swift cannot call: variadics, GNU-only names, macros, fork-safe slots, and ISA-L's CRC. */
#ifndef CSTORAGE_H
#define CSTORAGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* open(2) and fcntl(2) are variadic. All return -1 and set errno on failure. */
int cs_open(const char *path, int flags, mode_t mode);
int cs_openat(int directory, const char *name, int flags, mode_t mode);
/* A whole-file POSIX record lock (not inherited by fork, released by the kernel when the process dies).
 * 0: held; 1: another process holds it (its pid in *holder); -1: errno. */
int cs_lock_file(int fd, int exclusive, int wait, pid_t *holder);
/* Whether another process holds a lock (1) or none does (0); takes none. -1 with errno. */
int cs_lock_holder(int fd, pid_t *holder);
int cs_unlock_file(int fd);

/* FICLONE: share the extents of a whole file. */
int cs_reflink(int destination, int source);
ssize_t cs_copy_file_range(int source, int64_t *source_offset, int destination, int64_t *destination_offset, size_t length);
/* renameat2 with RENAME_NOREPLACE; errno EINVAL where the file system does not know it. */
int cs_rename_noreplace(const char *from, const char *to);
int cs_start_writeback(int fd);
int cs_syncfs(int fd);
/* f_type of statfs(2), for example 0x6969 for NFS. -1: errno. */
int64_t cs_filesystem_type(const char *path);
int cs_eventfd(void);

void cs_set_thread_name(const char *name);
/* Blocks every signal in the calling thread, so that handlers run in the host's own threads. */
void cs_block_signals(void);
/* Milliseconds of CLOCK_BOOTTIME, which goes on while the machine is suspended. */
int64_t cs_boottime_ns(void);
int64_t cs_monotonic_ns(void);
int64_t cs_realtime_ns(void);
int cs_random(void *buffer, size_t length);

/* One pointer per process id: a forked child sees NULL, without a lock that the parent may have held. */
void *cs_slot_get(void);
/* Stores value if the slot is empty for this process; returns what the slot holds then. */
void *cs_slot_set(void *value);
void cs_slot_clear(void);

/* RAYSTORAGE_VERSION as text that lives for ever. */
const char *cs_version(void);
/* Version of ISA-L's interface, compiler and C library, for build_info. */
const char *cs_compiler(void);

/* CRC-32C (Castagnoli) of RFC 3720 over length bytes, continuing from crc (0 to start). */
uint32_t cs_crc32c(uint32_t crc, const void *buffer, size_t length);

/* Starts a program found by PATH: standard output is `output`, standard input /dev/null, standard error the host's, every
 * other descriptor closed; a process group of its own, signals as at the start of a program. 0 or an errno. */
int cs_spawn(char *const arguments[], int output, pid_t *child);
int cs_pipe(int ends[2]);
/* The environment, NAME=VALUE, NULL behind the last one; NULL: none. Like getenv, not beside a thread that changes it. */
char *const *cs_environment(void);
int cs_set_nonblocking(int fd);

#endif
