/*
 * A file system of our own between a trainer and a directory: it stands in for NFS, which cannot be mounted everywhere.
 *
 *   fusefs BACKING MOUNTPOINT        runs in the foreground; ends when it is unmounted (fusermount3 -u MOUNTPOINT)
 *
 * What it has of NFS: RENAME_NOREPLACE is EINVAL, there is no reflink and no copy on the server, a file removed while it
 * is open lives on under a hidden name (libfuse's .fuse_hidden, NFS's .nfs), names and attributes are cached for a second
 * (absent ones too), so two mounts of one BACKING see each other's changes late, as two clients do; errors of writes may
 * come at close(). Faults are those of killpoint.so loaded into this process: they hit the calls on BACKING.
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static char backing[PATH_MAX];

/* The path on the backing directory. Each function has its own buffer: libfuse calls from several threads. */
#define REAL(path)                                                          \
  char real[2 * PATH_MAX];                                                  \
  snprintf(real, sizeof real, "%s%s", backing, path)

static int checked(long result) { return result == -1 ? -errno : (int)result; }

static void *start(struct fuse_conn_info *connection, struct fuse_config *config) {
  (void)connection;
  config->use_ino = 1;
  config->nullpath_ok = 0;
  config->entry_timeout = 1;
  config->attr_timeout = 1;
  config->negative_timeout = 1;
  return NULL;
}

static int do_getattr(const char *path, struct stat *info, struct fuse_file_info *file) {
  REAL(path);
  return file ? checked(fstat((int)file->fh, info)) : checked(lstat(real, info));
}

static int do_readlink(const char *path, char *buffer, size_t size) {
  REAL(path);
  int length = checked(readlink(real, buffer, size - 1));
  if (length < 0) return length;
  buffer[length] = 0;
  return 0;
}

static int do_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *file,
                      enum fuse_readdir_flags flags) {
  REAL(path);
  (void)offset, (void)file, (void)flags;
  DIR *directory = opendir(real);
  if (!directory) return -errno;
  for (struct dirent *entry; (entry = readdir(directory));) {
    struct stat info = {.st_ino = entry->d_ino, .st_mode = (mode_t)entry->d_type << 12};
    if (fill(buffer, entry->d_name, &info, 0, 0)) break;
  }
  closedir(directory);
  return 0;
}

static int do_mkdir(const char *path, mode_t mode) { REAL(path); return checked(mkdir(real, mode)); }
static int do_unlink(const char *path) { REAL(path); return checked(unlink(real)); }
static int do_rmdir(const char *path) { REAL(path); return checked(rmdir(real)); }
static int do_symlink(const char *target, const char *path) { REAL(path); return checked(symlink(target, real)); }

static int do_rename(const char *from, const char *to, unsigned flags) {
  char real_from[2 * PATH_MAX];
  REAL(to);
  snprintf(real_from, sizeof real_from, "%s%s", backing, from);
  if (flags) return -EINVAL; /* as the NFS client says */
  return checked(rename(real_from, real));
}

static int do_link(const char *from, const char *to) {
  char real_from[2 * PATH_MAX];
  REAL(to);
  snprintf(real_from, sizeof real_from, "%s%s", backing, from);
  return checked(link(real_from, real));
}

static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *file) {
  REAL(path);
  return file ? checked(fchmod((int)file->fh, mode)) : checked(chmod(real, mode));
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *file) {
  REAL(path);
  return file ? checked(ftruncate((int)file->fh, size)) : checked(truncate(real, size));
}

static int do_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *file) {
  REAL(path);
  return file ? checked(futimens((int)file->fh, times)) : checked(utimensat(AT_FDCWD, real, times, AT_SYMLINK_NOFOLLOW));
}

static int do_open(const char *path, struct fuse_file_info *file) {
  REAL(path);
  int fd = open(real, file->flags & ~O_CREAT);
  if (fd < 0) return -errno;
  file->fh = (uint64_t)fd;
  return 0;
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *file) {
  REAL(path);
  int fd = open(real, file->flags | O_CREAT, mode);
  if (fd < 0) return -errno;
  file->fh = (uint64_t)fd;
  return 0;
}

static int do_read(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *file) {
  (void)path;
  return checked(pread((int)file->fh, buffer, size, offset));
}

static int do_write(const char *path, const char *buffer, size_t size, off_t offset, struct fuse_file_info *file) {
  (void)path;
  return checked(pwrite((int)file->fh, buffer, size, offset));
}

/* Called at each close(2) of the trainer; a second descriptor, so that the file stays open for others. */
static int do_flush(const char *path, struct fuse_file_info *file) {
  (void)path;
  return checked(close(dup((int)file->fh)));
}

static int do_release(const char *path, struct fuse_file_info *file) {
  (void)path;
  close((int)file->fh);
  return 0;
}

static int do_fsync(const char *path, int data_only, struct fuse_file_info *file) {
  (void)path;
  return checked(data_only ? fdatasync((int)file->fh) : fsync((int)file->fh));
}

static int do_fsyncdir(const char *path, int data_only, struct fuse_file_info *file) {
  REAL(path);
  (void)data_only, (void)file;
  int fd = open(real, O_RDONLY | O_DIRECTORY);
  if (fd < 0) return -errno;
  int result = checked(fsync(fd));
  close(fd);
  return result;
}

static int do_statfs(const char *path, struct statvfs *info) { REAL(path); return checked(statvfs(real, info)); }

static off_t do_lseek(const char *path, off_t offset, int whence, struct fuse_file_info *file) {
  (void)path;
  off_t result = lseek((int)file->fh, offset, whence);
  return result == -1 ? -errno : result;
}

static const struct fuse_operations operations = {
    .init = start, .getattr = do_getattr, .readlink = do_readlink, .readdir = do_readdir, .mkdir = do_mkdir,
    .unlink = do_unlink, .rmdir = do_rmdir, .symlink = do_symlink, .rename = do_rename, .link = do_link, .chmod = do_chmod,
    .truncate = do_truncate, .utimens = do_utimens, .open = do_open, .create = do_create, .read = do_read, .write = do_write,
    .flush = do_flush, .release = do_release, .fsync = do_fsync, .fsyncdir = do_fsyncdir, .statfs = do_statfs,
    .lseek = do_lseek};

int main(int count, char **arguments) {
  if (count < 3 || !realpath(arguments[1], backing)) {
    fprintf(stderr, "usage: fusefs BACKING MOUNTPOINT\n");
    return 2;
  }
  char *fuse_arguments[] = {arguments[0], (char *)"-f", (char *)"-o", (char *)"fsname=fusefs,default_permissions", arguments[2], NULL};
  umask(0);
  return fuse_main(5, fuse_arguments, &operations, NULL);
}
