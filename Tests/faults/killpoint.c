/*
 * killpoint.so: a library for LD_PRELOAD that looks at the file system calls of a process and kills it, stops it or makes
 * a call fail at a chosen one. For tests only.
 *
 *   RAYSTORAGE_FAULTS=RULE[;RULE...]     RULE: fields separated by blanks, all optional but `do`
 *     call=NAME[|NAME...]   functions, by the names in `enum call` below; `any` (the default) is every one that changes
 *                           something; reading ones (open for reading, read, stat, list) match only by name
 *     path=PATTERN          fnmatch pattern, `*` matches `/` too; without `*` or `?`: a part of the path. Of a rename or
 *                           link both paths are looked at, and the pattern may span them: "FROM -> TO"
 *     exact=PATTERN         the same, but `*` and `?` do not match `/`
 *     hit=N                 the N-th call that matches, from 1 (default); `N+`: that one and all later ones
 *     do=ACTION             kill, kill-after        SIGKILL to the own process, before or after the call
 *                           stop, stop-after        SIGSTOP; when continued, the process goes on as if nothing was
 *                           error:ERRNO             the call does nothing and fails; close() does close
 *                           error-after:ERRNO       the call is carried out and then reported as failed (a lost reply)
 *                           lose:ERRNO              like error, for fsync and fdatasync: and what was written is gone, as
 *                                                   after a real failed writeback (the file's last 4 KiB become zero)
 *                           hold                    the call waits until the file RAYSTORAGE_FAULT_GATE exists, a minute at most
 *                           short                   half of the bytes of a write are written
 *                           exit                    the call does nothing, the process ends with _exit(99)
 *   RAYSTORAGE_FAULT_ROOT=PART           calls whose path does not contain PART are neither logged nor matched
 *   RAYSTORAGE_FAULT_LOG=FILE            one line per call that changes something: NUMBER CALL PATH; a rule that fires
 *                                        writes "! RULE-NUMBER CALL PATH" first. Newlines in paths become '?'.
 *
 * ERRNO is a name (EIO, ENOSPC, EDQUOT, ESTALE, EINVAL, EINTR, EROFS, EACCES, EMFILE, EXDEV, EOPNOTSUPP, ENOSYS) or a number.
 * Paths are those of the call; for descriptors what /proc/self/fd says. Counting is per process and per rule.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef FICLONE
#define FICLONE _IOW(0x94, 9, int)
#endif
#ifndef FICLONERANGE
#define FICLONERANGE 0x4020940d
#endif

enum call {
  CALL_CREATE, CALL_WRITE, CALL_CLOSE, CALL_FSYNC, CALL_FDATASYNC, CALL_SYNCFS, CALL_SYNC_FILE_RANGE, CALL_RENAME,
  CALL_RENAME_NOREPLACE, CALL_LINK, CALL_SYMLINK, CALL_UNLINK, CALL_RMDIR, CALL_MKDIR, CALL_COPY_FILE_RANGE, CALL_REFLINK,
  CALL_UTIMENS, CALL_CHMOD, CALL_TRUNCATE, CALL_FALLOCATE,
  CALL_OPEN, CALL_READ, CALL_STAT, CALL_LIST, CALL_CLOSE_READ, /* from here on: changes nothing */
  CALL_COUNT
};
static const char *const call_names[CALL_COUNT] = {
    "create", "write", "close", "fsync", "fdatasync", "syncfs", "sync_file_range", "rename",
    "rename_noreplace", "link", "symlink", "unlink", "rmdir", "mkdir", "copy_file_range", "reflink",
    "utimens", "chmod", "truncate", "fallocate",
    "open", "read", "stat", "list", "close_read"};

enum action { DO_NOTHING, DO_KILL, DO_KILL_AFTER, DO_STOP, DO_STOP_AFTER, DO_ERROR, DO_ERROR_AFTER, DO_LOSE, DO_SHORT, DO_EXIT,
              DO_HOLD };

struct rule {
  uint32_t calls; /* bit per enum call */
  char path[PATH_MAX];
  bool is_pattern;
  int match_flags; /* of fnmatch */
  long hit;
  bool for_good;
  enum action action;
  int error;
  _Atomic long count;
};

enum { MAX_RULES = 32, MAX_TEXT = 2 * PATH_MAX + 64 };
static struct rule rules[MAX_RULES];
static int rule_count;
static int log_fd = -1;
static char root[PATH_MAX];
static bool enabled;
static _Atomic long call_number;

/* ---------------------------------------------------------------- configuration */

static void die(const char *message, const char *detail) {
  fprintf(stderr, "killpoint: %s: %s\n", message, detail);
  _exit(98);
}

static int parse_error(const char *text) {
  static const struct { const char *name; int number; } names[] = {
      {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"ESTALE", ESTALE}, {"EINVAL", EINVAL}, {"EINTR", EINTR},
      {"EROFS", EROFS}, {"EACCES", EACCES}, {"EPERM", EPERM}, {"EMFILE", EMFILE}, {"EXDEV", EXDEV}, {"ENOENT", ENOENT},
      {"EEXIST", EEXIST}, {"EOPNOTSUPP", EOPNOTSUPP}, {"ENOSYS", ENOSYS}, {"ENOMEM", ENOMEM}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(names[i].name, text) == 0) return names[i].number;
  int number = atoi(text);
  if (number <= 0) die("no such errno", text);
  return number;
}

static uint32_t parse_calls(char *text) {
  uint32_t calls = 0;
  for (char *name = strtok(text, "|"); name; name = strtok(NULL, "|")) {
    bool known = strcmp(name, "any") == 0;
    if (known) calls |= (1u << CALL_OPEN) - 1;
    for (int i = 0; i < CALL_COUNT; i++)
      if (strcmp(call_names[i], name) == 0) { calls |= 1u << i; known = true; }
    if (!known) die("no such call", name);
  }
  return calls;
}

static void parse_action(struct rule *rule, char *text) {
  static const struct { const char *name; enum action action; } names[] = {
      {"kill", DO_KILL}, {"kill-after", DO_KILL_AFTER}, {"stop", DO_STOP}, {"stop-after", DO_STOP_AFTER}, {"error", DO_ERROR},
      {"error-after", DO_ERROR_AFTER}, {"lose", DO_LOSE}, {"short", DO_SHORT}, {"exit", DO_EXIT},
      {"hold", DO_HOLD}};
  char *argument = strchr(text, ':');
  if (argument) *argument++ = 0;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(names[i].name, text) == 0) rule->action = names[i].action;
  if (rule->action == DO_NOTHING) die("no such action", text);
  if (argument) rule->error = parse_error(argument);
  else if (rule->action == DO_ERROR || rule->action == DO_ERROR_AFTER || rule->action == DO_LOSE) rule->error = EIO;
}

static void parse_rule(char *text) {
  if (rule_count == MAX_RULES) die("too many rules", text);
  struct rule *rule = &rules[rule_count];
  rule->calls = (1u << CALL_OPEN) - 1;
  rule->hit = 1;
  char *state = NULL;
  bool any = false;
  for (char *field = strtok_r(text, " \n", &state); field; field = strtok_r(NULL, " \n", &state)) {
    any = true;
    char *value = strchr(field, '=');
    if (!value) die("a field needs `=`", field);
    *value++ = 0;
    bool exact = strcmp(field, "exact") == 0;
    if (strcmp(field, "call") == 0) {
      rule->calls = parse_calls(value);
    } else if (exact || strcmp(field, "path") == 0) {
      snprintf(rule->path, sizeof rule->path, "%s", value);
      rule->is_pattern = exact || strpbrk(value, "*?") != NULL;
      rule->match_flags = exact ? FNM_PATHNAME : 0;
    } else if (strcmp(field, "hit") == 0) {
      rule->hit = atol(value);
      rule->for_good = strchr(value, '+') != NULL;
    } else if (strcmp(field, "do") == 0) {
      parse_action(rule, value);
    } else {
      die("no such field", field);
    }
  }
  if (!any) return;
  if (rule->action == DO_NOTHING) die("a rule needs", "do=");
  rule_count++;
}

__attribute__((constructor)) static void configure(void) {
  const char *text = getenv("RAYSTORAGE_FAULTS");
  const char *log = getenv("RAYSTORAGE_FAULT_LOG");
  const char *part = getenv("RAYSTORAGE_FAULT_ROOT");
  if (part) snprintf(root, sizeof root, "%s", part);
  if (log && *log) log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (text) {
    char *copy = strdup(text), *state = NULL;
    for (char *rule = strtok_r(copy, ";", &state); rule; rule = strtok_r(NULL, ";", &state)) parse_rule(rule);
    free(copy);
  }
  enabled = rule_count > 0 || log_fd >= 0;
}

/* --------------------------------------------------------------------- matching */

static void note(const char *head, long number, enum call call, const char *path) {
  if (log_fd < 0) return;
  char line[MAX_TEXT];
  int length = snprintf(line, sizeof line, "%s%ld %s %s\n", head, number, call_names[call], path);
  if (length >= (int)sizeof line) length = (int)sizeof line - 1;
  for (int i = 0; i < length - 1; i++)
    if (line[i] == '\n') line[i] = '?';
  syscall(SYS_write, log_fd, line, (size_t)length);
}

static void signal_self(int number) {
  /* To this very thread: the process as a whole might be stopped only after this thread has gone on and made its call. */
  syscall(SYS_tgkill, syscall(SYS_getpid), syscall(SYS_gettid), number);
  /* SIGKILL takes effect at the return to user space; never go on from here. */
  while (number == SIGKILL) syscall(SYS_pause);
}

static void hold(void) {
  const char *gate = getenv("RAYSTORAGE_FAULT_GATE");
  const struct timespec pause = {0, 1000000};
  for (int patience = 0; gate && patience < 60000 && syscall(SYS_access, gate, F_OK) != 0; patience++) nanosleep(&pause, NULL);
}

/* What to do with one call; `path` lives as long as the verdict is used. */
struct verdict {
  enum action action;
  int error;
};

static struct verdict judge(enum call call, const char *path) {
  struct verdict verdict = {DO_NOTHING, 0};
  if (*root && !strstr(path, root)) return verdict;
  if (call < CALL_OPEN) note("", atomic_fetch_add(&call_number, 1) + 1, call, path);
  for (int i = 0; i < rule_count; i++) {
    struct rule *rule = &rules[i];
    if (!(rule->calls & (1u << call))) continue;
    if (*rule->path && (rule->is_pattern ? fnmatch(rule->path, path, rule->match_flags) != 0 : strstr(path, rule->path) == NULL)) continue;
    long count = atomic_fetch_add(&rule->count, 1) + 1;
    if (count != rule->hit && !(rule->for_good && count > rule->hit)) continue;
    note("! ", i, call, path);
    verdict.action = rule->action;
    verdict.error = rule->error;
    break;
  }
  if (verdict.action == DO_KILL) signal_self(SIGKILL);
  if (verdict.action == DO_STOP) signal_self(SIGSTOP);
  if (verdict.action == DO_HOLD) hold();
  if (verdict.action == DO_EXIT) syscall(SYS_exit_group, 99);
  return verdict;
}

static bool refused(struct verdict verdict) { return verdict.action == DO_ERROR || verdict.action == DO_LOSE; }

static long finish(struct verdict verdict, long result) {
  int saved = errno;
  if (verdict.action == DO_KILL_AFTER) signal_self(SIGKILL);
  if (verdict.action == DO_STOP_AFTER) signal_self(SIGSTOP);
  errno = saved;
  if (refused(verdict) || verdict.action == DO_ERROR_AFTER) {
    errno = verdict.error;
    return -1;
  }
  return result;
}

/* Runs the expression unless the verdict refuses it; both may set errno. */
#define CARRY_OUT(verdict, expression) finish(verdict, refused(verdict) ? -1 : (long)(expression))

static const char *path_of_fd(int fd, char *buffer) {
  int saved = errno;
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  long length = syscall(SYS_readlink, link, buffer, PATH_MAX - 1);
  buffer[length > 0 ? length : 0] = 0;
  errno = saved;
  return buffer;
}

static const char *path_at(int directory, const char *path, char *buffer) {
  if (!path) return "";
  if (*path == '/' || directory == AT_FDCWD) return path;
  char parent[PATH_MAX];
  path_of_fd(directory, parent);
  snprintf(buffer, 2 * PATH_MAX, "%s/%s", parent, path);
  return buffer;
}

static bool is_directory_or_file(const char *path) { return *path == '/'; }

static struct verdict judge_fd(enum call call, int fd) {
  char buffer[PATH_MAX];
  const char *path = path_of_fd(fd, buffer);
  return is_directory_or_file(path) ? judge(call, path) : (struct verdict){DO_NOTHING, 0};
}

static struct verdict judge_at(enum call call, int directory, const char *path) {
  char buffer[2 * PATH_MAX];
  return judge(call, path_at(directory, path, buffer));
}

static struct verdict judge_two(enum call call, int from_dir, const char *from, int to_dir, const char *to) {
  char first[2 * PATH_MAX], second[2 * PATH_MAX], both[4 * PATH_MAX + 8];
  snprintf(both, sizeof both, "%s -> %s", path_at(from_dir, from, first), path_at(to_dir, to, second));
  return judge(call, both);
}

/* ------------------------------------------------------------------ the functions */

#define PUBLIC __attribute__((visibility("default")))

static int open_any(int directory, const char *path, int flags, mode_t mode) {
  if (!enabled) return (int)syscall(SYS_openat, directory, path, flags, mode);
  bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE || (flags & O_TRUNC);
  struct verdict verdict = judge_at(creates ? CALL_CREATE : CALL_OPEN, directory, path);
  return (int)CARRY_OUT(verdict, syscall(SYS_openat, directory, path, flags, mode));
}

#define MODE_OF(flags)                                                     \
  mode_t mode = 0;                                                         \
  if (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE) {         \
    va_list list;                                                          \
    va_start(list, flags);                                                 \
    mode = va_arg(list, mode_t);                                           \
    va_end(list);                                                          \
  }

PUBLIC int open(const char *path, int flags, ...) { MODE_OF(flags) return open_any(AT_FDCWD, path, flags, mode); }
PUBLIC int open64(const char *path, int flags, ...) { MODE_OF(flags) return open_any(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
PUBLIC int openat(int fd, const char *path, int flags, ...) { MODE_OF(flags) return open_any(fd, path, flags, mode); }
PUBLIC int openat64(int fd, const char *path, int flags, ...) { MODE_OF(flags) return open_any(fd, path, flags | O_LARGEFILE, mode); }
PUBLIC int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

PUBLIC int close(int fd) {
  if (!enabled || fd == log_fd) return (int)syscall(SYS_close, fd);
  int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
  bool writes = flags != -1 && (flags & O_ACCMODE) != O_RDONLY;
  struct verdict verdict = judge_fd(writes ? CALL_CLOSE : CALL_CLOSE_READ, fd);
  /* Linux has closed the descriptor whatever it reports. */
  return (int)finish(verdict, syscall(SYS_close, fd));
}

static size_t shortened(struct verdict verdict, size_t count) { return verdict.action == DO_SHORT && count > 1 ? count / 2 : count; }

PUBLIC ssize_t write(int fd, const void *bytes, size_t count) {
  if (!enabled) return syscall(SYS_write, fd, bytes, count);
  struct verdict verdict = judge_fd(CALL_WRITE, fd);
  return CARRY_OUT(verdict, syscall(SYS_write, fd, bytes, shortened(verdict, count)));
}

PUBLIC ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
  if (!enabled) return syscall(SYS_pwrite64, fd, bytes, count, offset);
  struct verdict verdict = judge_fd(CALL_WRITE, fd);
  return CARRY_OUT(verdict, syscall(SYS_pwrite64, fd, bytes, shortened(verdict, count), offset));
}
PUBLIC ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset) { return pwrite(fd, bytes, count, offset); }

PUBLIC ssize_t writev(int fd, const struct iovec *vectors, int count) {
  if (!enabled) return syscall(SYS_writev, fd, vectors, count);
  struct verdict verdict = judge_fd(CALL_WRITE, fd);
  return CARRY_OUT(verdict, syscall(SYS_writev, fd, vectors, count));
}

PUBLIC ssize_t read(int fd, void *bytes, size_t count) {
  if (!enabled) return syscall(SYS_read, fd, bytes, count);
  struct verdict verdict = judge_fd(CALL_READ, fd);
  return CARRY_OUT(verdict, syscall(SYS_read, fd, bytes, count));
}

PUBLIC ssize_t pread(int fd, void *bytes, size_t count, off_t offset) {
  if (!enabled) return syscall(SYS_pread64, fd, bytes, count, offset);
  struct verdict verdict = judge_fd(CALL_READ, fd);
  return CARRY_OUT(verdict, syscall(SYS_pread64, fd, bytes, count, offset));
}
PUBLIC ssize_t pread64(int fd, void *bytes, size_t count, off_t offset) { return pread(fd, bytes, count, offset); }

/* A failed writeback marks the pages clean: what they held is gone, and a second fsync succeeds. */
static void lose_tail(int fd) {
  struct stat info;
  char path[PATH_MAX];
  static const char zeros[4096];
  if (syscall(SYS_fstat, fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) return;
  size_t length = info.st_size < 4096 ? (size_t)info.st_size : 4096;
  path_of_fd(fd, path);
  int own = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
  if (own < 0) return;
  syscall(SYS_pwrite64, own, zeros, length, info.st_size - (off_t)length);
  syscall(SYS_close, own);
}

static int sync_any(enum call call, long number, int fd) {
  if (!enabled) return (int)syscall(number, fd);
  struct verdict verdict = judge_fd(call, fd);
  if (verdict.action == DO_LOSE) lose_tail(fd);
  return (int)CARRY_OUT(verdict, syscall(number, fd));
}
PUBLIC int fsync(int fd) { return sync_any(CALL_FSYNC, SYS_fsync, fd); }
PUBLIC int fdatasync(int fd) { return sync_any(CALL_FDATASYNC, SYS_fdatasync, fd); }
PUBLIC int syncfs(int fd) { return sync_any(CALL_SYNCFS, SYS_syncfs, fd); }

PUBLIC int sync_file_range(int fd, off64_t offset, off64_t count, unsigned flags) {
  if (!enabled) return (int)syscall(SYS_sync_file_range, fd, offset, count, flags);
  struct verdict verdict = judge_fd(CALL_SYNC_FILE_RANGE, fd);
  return (int)CARRY_OUT(verdict, syscall(SYS_sync_file_range, fd, offset, count, flags));
}

static int rename_any(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
  if (!enabled) return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
  struct verdict verdict = judge_two(flags ? CALL_RENAME_NOREPLACE : CALL_RENAME, from_dir, from, to_dir, to);
  return (int)CARRY_OUT(verdict, syscall(SYS_renameat2, from_dir, from, to_dir, to, flags));
}
PUBLIC int rename(const char *from, const char *to) { return rename_any(AT_FDCWD, from, AT_FDCWD, to, 0); }
PUBLIC int renameat(int from_dir, const char *from, int to_dir, const char *to) { return rename_any(from_dir, from, to_dir, to, 0); }
PUBLIC int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
  return rename_any(from_dir, from, to_dir, to, flags);
}

PUBLIC int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
  if (!enabled) return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
  struct verdict verdict = judge_two(CALL_LINK, from_dir, from, to_dir, to);
  return (int)CARRY_OUT(verdict, syscall(SYS_linkat, from_dir, from, to_dir, to, flags));
}
PUBLIC int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

PUBLIC int symlinkat(const char *target, int fd, const char *path) {
  if (!enabled) return (int)syscall(SYS_symlinkat, target, fd, path);
  struct verdict verdict = judge_at(CALL_SYMLINK, fd, path);
  return (int)CARRY_OUT(verdict, syscall(SYS_symlinkat, target, fd, path));
}
PUBLIC int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

PUBLIC int unlinkat(int fd, const char *path, int flags) {
  if (!enabled) return (int)syscall(SYS_unlinkat, fd, path, flags);
  struct verdict verdict = judge_at(flags & AT_REMOVEDIR ? CALL_RMDIR : CALL_UNLINK, fd, path);
  return (int)CARRY_OUT(verdict, syscall(SYS_unlinkat, fd, path, flags));
}
PUBLIC int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
PUBLIC int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

PUBLIC int mkdirat(int fd, const char *path, mode_t mode) {
  if (!enabled) return (int)syscall(SYS_mkdirat, fd, path, mode);
  struct verdict verdict = judge_at(CALL_MKDIR, fd, path);
  return (int)CARRY_OUT(verdict, syscall(SYS_mkdirat, fd, path, mode));
}
PUBLIC int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

PUBLIC ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t count, unsigned flags) {
  if (!enabled) return syscall(SYS_copy_file_range, in, in_offset, out, out_offset, count, flags);
  struct verdict verdict = judge_fd(CALL_COPY_FILE_RANGE, out);
  return CARRY_OUT(verdict, syscall(SYS_copy_file_range, in, in_offset, out, out_offset, shortened(verdict, count), flags));
}

PUBLIC int ioctl(int fd, unsigned long request, ...) {
  va_list list;
  va_start(list, request);
  void *argument = va_arg(list, void *);
  va_end(list);
  if (!enabled || (request != FICLONE && request != FICLONERANGE)) return (int)syscall(SYS_ioctl, fd, request, argument);
  struct verdict verdict = judge_fd(CALL_REFLINK, fd);
  return (int)CARRY_OUT(verdict, syscall(SYS_ioctl, fd, request, argument));
}

PUBLIC int futimens(int fd, const struct timespec times[2]) {
  if (!enabled) return (int)syscall(SYS_utimensat, fd, NULL, times, 0);
  struct verdict verdict = judge_fd(CALL_UTIMENS, fd);
  return (int)CARRY_OUT(verdict, syscall(SYS_utimensat, fd, NULL, times, 0));
}
PUBLIC int utimensat(int fd, const char *path, const struct timespec times[2], int flags) {
  if (!enabled) return (int)syscall(SYS_utimensat, fd, path, times, flags);
  struct verdict verdict = judge_at(CALL_UTIMENS, fd, path);
  return (int)CARRY_OUT(verdict, syscall(SYS_utimensat, fd, path, times, flags));
}

PUBLIC int fchmod(int fd, mode_t mode) {
  if (!enabled) return (int)syscall(SYS_fchmod, fd, mode);
  struct verdict verdict = judge_fd(CALL_CHMOD, fd);
  return (int)CARRY_OUT(verdict, syscall(SYS_fchmod, fd, mode));
}
PUBLIC int chmod(const char *path, mode_t mode) {
  if (!enabled) return (int)syscall(SYS_chmod, path, mode);
  struct verdict verdict = judge(CALL_CHMOD, path);
  return (int)CARRY_OUT(verdict, syscall(SYS_chmod, path, mode));
}

PUBLIC int ftruncate(int fd, off_t length) {
  if (!enabled) return (int)syscall(SYS_ftruncate, fd, length);
  struct verdict verdict = judge_fd(CALL_TRUNCATE, fd);
  return (int)CARRY_OUT(verdict, syscall(SYS_ftruncate, fd, length));
}
PUBLIC int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

PUBLIC int fallocate(int fd, int mode, off_t offset, off_t length) {
  if (!enabled) return (int)syscall(SYS_fallocate, fd, mode, offset, length);
  struct verdict verdict = judge_fd(CALL_FALLOCATE, fd);
  return (int)CARRY_OUT(verdict, syscall(SYS_fallocate, fd, mode, offset, length));
}
PUBLIC int fallocate64(int fd, int mode, off64_t offset, off64_t length) { return fallocate(fd, mode, offset, length); }

/* Reading calls: only rules that name them look at these. */
static int stat_any(int fd, const char *path, struct stat *info, int flags) {
  if (!enabled) return (int)syscall(SYS_newfstatat, fd, path, info, flags);
  struct verdict verdict = *path ? judge_at(CALL_STAT, fd, path) : judge_fd(CALL_STAT, fd);
  return (int)CARRY_OUT(verdict, syscall(SYS_newfstatat, fd, path, info, flags));
}
PUBLIC int stat(const char *path, struct stat *info) { return stat_any(AT_FDCWD, path, info, 0); }
PUBLIC int lstat(const char *path, struct stat *info) { return stat_any(AT_FDCWD, path, info, AT_SYMLINK_NOFOLLOW); }
PUBLIC int fstat(int fd, struct stat *info) { return stat_any(fd, "", info, AT_EMPTY_PATH); }
PUBLIC int fstatat(int fd, const char *path, struct stat *info, int flags) { return stat_any(fd, path, info, flags); }

PUBLIC DIR *opendir(const char *path) {
  static DIR *(*_Atomic real)(const char *);
  if (!real) real = (DIR * (*)(const char *)) dlsym(RTLD_NEXT, "opendir");
  if (!enabled) return real(path);
  struct verdict verdict = judge(CALL_LIST, path);
  if (refused(verdict)) {
    errno = verdict.error;
    return NULL;
  }
  return real(path);
}
