#include "cscalls.h"

#include "csfork.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALL(type, name, parameters, ...)                                                                              \
    type cs_##name parameters {                                                                                        \
        int depth = cs_fork_pause();                                                                                   \
        type result = name(__VA_ARGS__);                                                                               \
        cs_fork_resume(depth);                                                                                         \
        return result;                                                                                                 \
    }

CALL(ssize_t, read, (int fd, void *buffer, size_t length), fd, buffer, length)
CALL(ssize_t, write, (int fd, const void *buffer, size_t length), fd, buffer, length)
CALL(ssize_t, pread, (int fd, void *buffer, size_t length, off_t offset), fd, buffer, length, offset)
CALL(ssize_t, pwrite, (int fd, const void *buffer, size_t length, off_t offset), fd, buffer, length, offset)
CALL(int, fsync, (int fd), fd)
CALL(int, fdatasync, (int fd), fd)
CALL(int, close, (int fd), fd)
CALL(int, ftruncate, (int fd, off_t length), fd, length)
CALL(off_t, lseek, (int fd, off_t offset, int whence), fd, offset, whence)
CALL(int, rename, (const char *from, const char *to), from, to)
CALL(int, renameat, (int directory, const char *from, int other, const char *to), directory, from, other, to)
CALL(int, link, (const char *from, const char *to), from, to)
CALL(int, linkat, (int directory, const char *from, int other, const char *to, int flags), directory, from, other, to, flags)
CALL(int, symlinkat, (const char *target, int directory, const char *path), target, directory, path)
CALL(int, unlink, (const char *path), path)
CALL(int, unlinkat, (int directory, const char *path, int flags), directory, path, flags)
CALL(int, mkdir, (const char *path, mode_t mode), path, mode)
CALL(int, mkdirat, (int directory, const char *path, mode_t mode), directory, path, mode)
CALL(int, rmdir, (const char *path), path)
CALL(int, stat, (const char *path, struct stat *info), path, info)
CALL(int, lstat, (const char *path, struct stat *info), path, info)
CALL(int, fstat, (int fd, struct stat *info), fd, info)
CALL(int, fstatat, (int directory, const char *path, struct stat *info, int flags), directory, path, info, flags)
CALL(int, statvfs, (const char *path, struct statvfs *info), path, info)
CALL(int, access, (const char *path, int mode), path, mode)
CALL(int, faccessat, (int directory, const char *path, int mode, int flags), directory, path, mode, flags)
CALL(ssize_t, readlink, (const char *path, char *buffer, size_t length), path, buffer, length)
CALL(ssize_t, readlinkat, (int directory, const char *path, char *buffer, size_t length), directory, path, buffer, length)
CALL(char *, realpath, (const char *path, char *resolved), path, resolved)
CALL(int, chmod, (const char *path, mode_t mode), path, mode)
CALL(int, fchmod, (int fd, mode_t mode), fd, mode)
CALL(int, fchmodat, (int directory, const char *path, mode_t mode, int flags), directory, path, mode, flags)
CALL(int, utimensat, (int directory, const char *path, const struct timespec times[2], int flags), directory, path, times, flags)
CALL(int, futimens, (int fd, const struct timespec times[2]), fd, times)
CALL(DIR *, opendir, (const char *path), path)
CALL(DIR *, fdopendir, (int fd), fd)
CALL(struct dirent *, readdir, (DIR *stream), stream)
CALL(int, closedir, (DIR *stream), stream)
CALL(int, waitpid, (int child, int *status, int options), child, status, options)
