#define _GNU_SOURCE
#include "content.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 64 * 1024, HOLE = 256 * 1024, ENTRIES = 8 };

struct entry {
  const char *name;
  mode_t type;
  mode_t mode;
  uint64_t hole; /* zero bytes before the content */
  uint64_t size; /* of the content */
  const char *target;
};

static void entries_of(long step, uint64_t bytes, struct entry out[ENTRIES]) {
  const struct entry all[ENTRIES] = {
      {"model.bin", S_IFREG, 0644, 0, bytes, NULL},
      {"optimizer", S_IFDIR, 0755, 0, 0, NULL},
      {"optimizer/state.bin", S_IFREG, 0644, 0, bytes / 2 + (uint64_t)(step * 7919 % 5000), NULL},
      {"optimizer/empty", S_IFDIR, 0755, 0, 0, NULL},
      {"data order \xc3\xa9 100%.txt", S_IFREG, 0600, 0, 100 + (uint64_t)(step % 7), NULL},
      {"sparse.bin", S_IFREG, 0644, HOLE, 4096, NULL},
      {"zero", S_IFREG, 0755, 0, 0, NULL},
      {"latest", S_IFLNK, 0777, 0, 0, "model.bin"},
  };
  memcpy(out, all, sizeof all);
}

static void fill(uint8_t *buffer, size_t length, long step, int entry, uint64_t offset) {
  /* splitmix64 of the position: any part can be made alone. */
  for (size_t i = 0; i < length; i += 8) {
    uint64_t z = (uint64_t)step * 0x9e3779b97f4a7c15u + (uint64_t)entry * 0xd1b54a32d192ed03u + (offset + i) + 1;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    memcpy(buffer + i, &z, length - i < 8 ? length - i : 8);
  }
}

static void die(const char *what, const char *path) {
  fprintf(stderr, "content: %s %s: %s\n", what, path, strerror(errno));
  exit(97);
}

static void write_file(const char *path, const struct entry *entry, long step, int number) {
  static uint8_t buffer[CHUNK];
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) die("open", path);
  if (entry->hole && ftruncate(fd, (off_t)(entry->hole + entry->size)) != 0) die("ftruncate", path);
  for (uint64_t done = 0; done < entry->size;) {
    size_t length = entry->size - done < CHUNK ? (size_t)(entry->size - done) : CHUNK;
    fill(buffer, length, step, number, done);
    if (pwrite(fd, buffer, length, (off_t)(entry->hole + done)) != (ssize_t)length) die("write", path);
    done += length;
  }
  if (fchmod(fd, entry->mode) != 0) die("chmod", path);
  if (close(fd) != 0) die("close", path);
}

void content_make(const char *directory, long step, uint64_t bytes) {
  struct entry entries[ENTRIES];
  char path[PATH_MAX], text[128];
  entries_of(step, bytes, entries);
  if (mkdir(directory, 0777) != 0 && errno != EEXIST) die("mkdir", directory);
  for (int i = 0; i < ENTRIES; i++) {
    snprintf(path, sizeof path, "%s/%s", directory, entries[i].name);
    if (entries[i].type == S_IFDIR && mkdir(path, entries[i].mode) != 0 && errno != EEXIST) die("mkdir", path);
    if (entries[i].type == S_IFLNK && symlink(entries[i].target, path) != 0 && errno != EEXIST) die("symlink", path);
    if (entries[i].type == S_IFREG) write_file(path, &entries[i], step, i);
  }
  snprintf(path, sizeof path, "%s/step.txt", directory);
  int length = snprintf(text, sizeof text, "step=%ld bytes=%llu\n", step, (unsigned long long)bytes);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || write(fd, text, (size_t)length) != length || close(fd) != 0) die("write", path);
}

static bool same_file(const char *path, const struct entry *entry, long step, int number, const struct stat *info,
                      char *problem, size_t size) {
  static uint8_t have[CHUNK], want[CHUNK];
  uint64_t whole = entry->hole + entry->size;
  if ((uint64_t)info->st_size != whole) {
    snprintf(problem, size, "%s has %lld bytes, not %llu", path, (long long)info->st_size, (unsigned long long)whole);
    return false;
  }
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    snprintf(problem, size, "%s: %s", path, strerror(errno));
    return false;
  }
  for (uint64_t done = 0; done < whole;) {
    uint64_t end = done < entry->hole ? entry->hole : whole;
    size_t length = end - done < CHUNK ? (size_t)(end - done) : CHUNK;
    if (done < entry->hole) memset(want, 0, length);
    else fill(want, length, step, number, done - entry->hole);
    ssize_t count = pread(fd, have, length, (off_t)done);
    if (count != (ssize_t)length || memcmp(have, want, length) != 0) {
      size_t at = 0;
      while (count == (ssize_t)length && at < length && have[at] == want[at]) at++;
      snprintf(problem, size, "%s differs at byte %llu", path, (unsigned long long)(done + at));
      close(fd);
      return false;
    }
    done += length;
  }
  close(fd);
  return true;
}

static bool same_entry(const char *directory, const struct entry *entry, long step, int number, char *problem, size_t size) {
  char path[PATH_MAX], target[256];
  struct stat info;
  snprintf(path, sizeof path, "%s/%s", directory, entry->name);
  if (lstat(path, &info) != 0) {
    snprintf(problem, size, "%s: %s", path, strerror(errno));
    return false;
  }
  if ((info.st_mode & S_IFMT) != entry->type) {
    snprintf(problem, size, "%s is of another kind (%o)", path, info.st_mode);
    return false;
  }
  if (entry->type == S_IFREG && (info.st_mode & 07777) != entry->mode) {
    snprintf(problem, size, "%s has mode %o, not %o", path, info.st_mode & 07777, entry->mode);
    return false;
  }
  if (entry->type == S_IFREG) return same_file(path, entry, step, number, &info, problem, size);
  if (entry->type == S_IFLNK) {
    ssize_t length = readlink(path, target, sizeof target - 1);
    target[length > 0 ? length : 0] = 0;
    if (strcmp(target, entry->target) != 0) {
      snprintf(problem, size, "%s links to %s", path, target);
      return false;
    }
  }
  return true;
}

/* The first name in `relative` of `directory` that does not belong there. */
static bool only_known(const char *directory, const char *relative, const struct entry entries[ENTRIES], char *problem, size_t size) {
  char path[PATH_MAX], name[PATH_MAX + 300];
  snprintf(path, sizeof path, "%s/%s", directory, relative);
  DIR *stream = opendir(path);
  if (!stream) {
    snprintf(problem, size, "%s: %s", path, strerror(errno));
    return false;
  }
  bool good = true;
  for (struct dirent *found; good && (found = readdir(stream));) {
    if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0) continue;
    snprintf(name, sizeof name, "%s%s%s", relative, *relative ? "/" : "", found->d_name);
    bool known = strcmp(name, "step.txt") == 0 || strcmp(name, ".raystorage") == 0 || strcmp(name, ".metadata.json") == 0;
    for (int i = 0; i < ENTRIES; i++) known |= strcmp(name, entries[i].name) == 0;
    if (!known) snprintf(problem, size, "%s/%s does not belong there", directory, name);
    good = known;
  }
  closedir(stream);
  return good;
}

long content_check(const char *directory, char *problem, size_t size) {
  struct entry entries[ENTRIES];
  char path[PATH_MAX], text[128] = "";
  long step = -1;
  unsigned long long bytes = 0;
  snprintf(path, sizeof path, "%s/step.txt", directory);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  if (length <= 0 || sscanf(text, "step=%ld bytes=%llu", &step, &bytes) != 2) {
    snprintf(problem, size, "%s is missing or damaged", path);
    return -1;
  }
  entries_of(step, bytes, entries);
  for (int i = 0; i < ENTRIES; i++)
    if (!same_entry(directory, &entries[i], step, i, problem, size)) return -1;
  for (int i = -1; i < ENTRIES; i++) {
    if (i >= 0 && entries[i].type != S_IFDIR) continue;
    if (!only_known(directory, i < 0 ? "" : entries[i].name, entries, problem, size)) return -1;
  }
  return step;
}

void content_scribble(const char *directory) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/model.bin", directory);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd >= 0) {
    if (write(fd, "overwritten", 11) != 11) die("write", path);
    close(fd);
  }
  snprintf(path, sizeof path, "%s/optimizer/state.bin", directory);
  if (truncate(path, 1) != 0 && errno != ENOENT) die("truncate", path);
  content_remove(directory);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *place) {
  (void)info, (void)type, (void)place;
  return remove(path);
}

void content_remove(const char *directory) {
  nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
