/* System calls that a slow disk or server may hold up: as those of their names, but fork() does not wait for them
 * (csfork.h). Swift calls these, and never those of the C library. */
#ifndef CSCALLS_H
#define CSCALLS_H

#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

ssize_t cs_read(int fd, void *buffer, size_t length);
ssize_t cs_write(int fd, const void *buffer, size_t length);
ssize_t cs_pread(int fd, void *buffer, size_t length, off_t offset);
ssize_t cs_pwrite(int fd, const void *buffer, size_t length, off_t offset);
int cs_fsync(int fd);
int cs_fdatasync(int fd);
int cs_close(int fd);
int cs_ftruncate(int fd, off_t length);
off_t cs_lseek(int fd, off_t offset, int whence);

int cs_rename(const char *from, const char *to);
int cs_renameat(int directory, const char *from, int other, const char *to);
int cs_link(const char *from, const char *to);
int cs_linkat(int directory, const char *from, int other, const char *to, int flags);
int cs_symlinkat(const char *target, int directory, const char *path);
int cs_unlink(const char *path);
int cs_unlinkat(int directory, const char *path, int flags);
int cs_mkdir(const char *path, mode_t mode);
int cs_mkdirat(int directory, const char *path, mode_t mode);
int cs_rmdir(const char *path);

int cs_stat(const char *path, struct stat *info);
int cs_lstat(const char *path, struct stat *info);
int cs_fstat(int fd, struct stat *info);
int cs_fstatat(int directory, const char *path, struct stat *info, int flags);
int cs_statvfs(const char *path, struct statvfs *info);
int cs_access(const char *path, int mode);
int cs_faccessat(int directory, const char *path, int mode, int flags);
ssize_t cs_readlink(const char *path, char *buffer, size_t length);
ssize_t cs_readlinkat(int directory, const char *path, char *buffer, size_t length);
char *cs_realpath(const char *path, char *resolved);

int cs_chmod(const char *path, mode_t mode);
int cs_fchmod(int fd, mode_t mode);
int cs_fchmodat(int directory, const char *path, mode_t mode, int flags);
int cs_utimensat(int directory, const char *path, const struct timespec times[2], int flags);
int cs_futimens(int fd, const struct timespec times[2]);

DIR *cs_opendir(const char *path);
DIR *cs_fdopendir(int fd);
struct dirent *cs_readdir(DIR *stream);
int cs_closedir(DIR *stream);

int cs_waitpid(int child, int *status, int options);

#endif
