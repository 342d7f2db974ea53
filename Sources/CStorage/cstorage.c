#include "cstorage.h"

#include "csfork.h"

#include "../../include/raystorage.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

int cs_open(const char *path, int flags, mode_t mode) {
  int depth = cs_fork_pause();
  int result = open(path, flags | O_CLOEXEC, mode);
  cs_fork_resume(depth);
  return result;
}

int cs_openat(int directory, const char *name, int flags, mode_t mode) {
  int depth = cs_fork_pause();
  int result = openat(directory, name, flags | O_CLOEXEC, mode);
  cs_fork_resume(depth);
  return result;
}

int cs_lock_file(int fd, int exclusive, int wait, pid_t *holder) {
  struct flock lock = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
  int depth = cs_fork_pause();
  int failed = fcntl(fd, wait ? F_SETLKW : F_SETLK, &lock);
  cs_fork_resume(depth);
  if (failed == 0) return 0;
  if (wait || (errno != EACCES && errno != EAGAIN)) return -1;
  if (fcntl(fd, F_GETLK, &lock) == 0 && holder) *holder = lock.l_type == F_UNLCK ? 0 : lock.l_pid;
  return 1;
}

int cs_lock_holder(int fd, pid_t *holder) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int depth = cs_fork_pause();
  int failed = fcntl(fd, F_GETLK, &lock);
  cs_fork_resume(depth);
  if (failed != 0) return -1;
  if (holder) *holder = lock.l_type == F_UNLCK ? 0 : lock.l_pid;
  return lock.l_type != F_UNLCK;
}

int cs_unlock_file(int fd) {
  struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
  int depth = cs_fork_pause();
  int result = fcntl(fd, F_SETLK, &lock);
  cs_fork_resume(depth);
  return result;
}

int cs_reflink(int destination, int source) {
  int depth = cs_fork_pause();
  int result = ioctl(destination, FICLONE, source);
  cs_fork_resume(depth);
  return result;
}

ssize_t cs_copy_file_range(int source, int64_t *source_offset, int destination, int64_t *destination_offset, size_t length) {
  int depth = cs_fork_pause();
  ssize_t result = copy_file_range(source, source_offset, destination, destination_offset, length, 0);
  cs_fork_resume(depth);
  return result;
}

int cs_rename_noreplace(const char *from, const char *to) {
  int depth = cs_fork_pause();
  int result = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
  cs_fork_resume(depth);
  return result;
}

int cs_start_writeback(int fd) {
  int depth = cs_fork_pause();
  int result = sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
  cs_fork_resume(depth);
  return result;
}

int cs_syncfs(int fd) {
  int depth = cs_fork_pause();
  int result = syncfs(fd);
  cs_fork_resume(depth);
  return result;
}

int64_t cs_filesystem_type(const char *path) {
  struct statfs info;
  int depth = cs_fork_pause();
  int failed = statfs(path, &info);
  cs_fork_resume(depth);
  if (failed != 0) return -1;
  return (int64_t)(uint32_t)info.f_type;
}

int cs_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

void cs_set_thread_name(const char *name) { pthread_setname_np(pthread_self(), name); }

void cs_block_signals(void) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
}

static int64_t nanoseconds(clockid_t clock) {
  struct timespec now = {0, 0};
  clock_gettime(clock, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t cs_boottime_ns(void) { return nanoseconds(CLOCK_BOOTTIME); }
int64_t cs_monotonic_ns(void) { return nanoseconds(CLOCK_MONOTONIC); }
int64_t cs_realtime_ns(void) { return nanoseconds(CLOCK_REALTIME); }

int cs_random(void *buffer, size_t length) {
  unsigned char *bytes = buffer;
  while (length > 0) {
    ssize_t got = getrandom(bytes, length, 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    bytes += got;
    length -= (size_t)got;
  }
  return 0;
}

/* The pid is stored after the value and read before it: a child of fork() never takes its parent's engine. */
static _Atomic(void *) slot_value;
static _Atomic(pid_t) slot_pid;

void *cs_slot_get(void) {
  if (atomic_load_explicit(&slot_pid, memory_order_acquire) != getpid()) return NULL;
  return atomic_load_explicit(&slot_value, memory_order_acquire);
}

void *cs_slot_set(void *value) {
  pid_t self = getpid();
  pid_t owner = atomic_load(&slot_pid);
  if (owner == self) {
    void *current = NULL;
    return atomic_compare_exchange_strong(&slot_value, &current, value) ? value : current;
  }
  /* -1 marks "being set": only threads of one process race here, and the winner's window is a few instructions. */
  if (owner != -1 && atomic_compare_exchange_strong(&slot_pid, &owner, (pid_t)-1)) {
    atomic_store(&slot_value, value);
    atomic_store(&slot_pid, self);
    return value;
  }
  /* A fork in that window leaves -1 in the child for ever: wait a while, then take it. */
  for (int patience = 0; atomic_load(&slot_pid) == -1 && patience < 1000; patience++) sched_yield();
  pid_t stuck = -1;
  if (atomic_compare_exchange_strong(&slot_pid, &stuck, 0)) atomic_store(&slot_value, NULL);
  return cs_slot_set(value);
}

void cs_slot_clear(void) {
  if (atomic_load(&slot_pid) == getpid()) atomic_store(&slot_value, NULL);
}

int cs_spawn(char *const arguments[], int output, pid_t *child) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none, all;
  int error = posix_spawn_file_actions_init(&actions);
  if (error) return error;
  error = posix_spawnattr_init(&attributes);
  if (error) {
    posix_spawn_file_actions_destroy(&actions);
    return error;
  }
  sigemptyset(&none);
  sigfillset(&all);
  /* Our threads block every signal and the host may ignore some: a program inherits both. */
  if (!error) error = posix_spawnattr_setsigmask(&attributes, &none);
  if (!error) error = posix_spawnattr_setsigdefault(&attributes, &all);
  if (!error) error = posix_spawnattr_setpgroup(&attributes, 0);
  if (!error) error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  if (!error) error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (!error) error = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  if (!error) error = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  int depth = cs_fork_pause();
  if (!error) error = posix_spawnp(child, arguments[0], &actions, &attributes, arguments, environ);
  cs_fork_resume(depth);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  return error;
}

char *const *cs_environment(void) { return environ; }

int cs_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int cs_set_nonblocking(int fd) { return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

uint32_t cs_crc32c(uint32_t crc, const void *buffer, size_t length) {
  const unsigned char *bytes = buffer;
  crc = ~crc;
  while (length > 0) {
    /* ISA-L takes an int. */
    size_t step = length > (1u << 30) ? (1u << 30) : length;
    crc = crc32_iscsi((unsigned char *)bytes, (int)step, crc);
    bytes += step;
    length -= step;
  }
  return ~crc;
}

const char *cs_version(void) { return RAYSTORAGE_VERSION; }
const char *cs_compiler(void) { return __VERSION__; }
