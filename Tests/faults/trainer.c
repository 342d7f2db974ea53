/*
 * A deterministic training loop for the fault tests, and the readers that judge what it left. It uses nothing but the C
 * interface of raystorage and libc, so it also runs in a virtual machine that has little else.
 *
 *   trainer train [OPTIONS]     opens the run, goes on from its latest checkpoint, reports steps, closes
 *   trainer open [OPTIONS]      opens the run and closes it again: what a restarted trainer does first
 *   trainer result PATH         prints the "result" document of a run     trainer metrics PATH   its rows of metrics
 *   trainer restore CKPT DIR    restores a checkpoint, verified           trainer verify CKPT    reads every byte
 *   trainer gc PATH             collects leftovers
 *   trainer content DIR...      "good STEP DIR" or "bad DIR: reason" for directories made by content_make()
 *
 * What the library has promised is written to the journal (--journal FILE, "-" is standard output), one write per line,
 * after the call that promised it has returned:
 *
 *   open EPOCH FROM             the run is open; FROM is the step resumed from, -1 for none
 *   begin STEP KIND             the report is about to be made; KIND: async, sync, moved, metrics
 *   captured INDEX STEP         report() has returned; INDEX is the library's number of it
 *   dropped INDEX STEP          report() has returned, and skipped the checkpoint at a limit
 *   refused STEP STATUS MESSAGE report() has failed; whether its metrics were kept is open
 *   sealed INDEX STEP           the state said SEALED or later
 *   durable INDEX STEP NAME     a SYNC report() or wait() has returned
 *   failed INDEX STEP STATUS MESSAGE
 *   closed
 *
 * Exit status: 0 done, 1 the check says no, 2 wrong usage, 3 the library refused.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "content.h"
#include "raystorage.h"

struct options {
  const char *storage, *name, *staging, *work, *journal, *launch, *mode, *resume_from;
  long steps, bytes, keep, heartbeat_ms, lag, pause_ms, pending, when_full, staging_max, max_failures;
  int names, metrics_every, sync_journal, durability_none;
};

struct pending {
  raystorage_report *report;
  long index, step;
  bool sealed;
};

static int journal_fd = -1;
static bool journal_sync;

static void journal(const char *format, ...) {
  char line[1024];
  va_list list;
  va_start(list, format);
  int length = vsnprintf(line, sizeof line - 1, format, list);
  va_end(list);
  if (length > (int)sizeof line - 2) length = (int)sizeof line - 2;
  for (int i = 0; i < length; i++)
    if (line[i] == '\n') line[i] = ' ';
  line[length++] = '\n';
  if (journal_fd >= 0 && write(journal_fd, line, (size_t)length) != length) exit(96);
  if (journal_fd >= 0 && journal_sync && fdatasync(journal_fd) != 0) exit(96);
}

static int refused(const char *what, raystorage_error *error) {
  fprintf(stderr, "trainer: %s: %s: %s %s\n", what, raystorage_status_name(raystorage_error_code(error)),
          raystorage_error_message(error), raystorage_error_details_json(error));
  raystorage_error_free(error);
  return 3;
}

/* Copies the text after `"key":"` as far as the next quote; enough for the paths that these tests use. */
static bool json_text(const char *json, const char *key, char *out, size_t size) {
  char pattern[64];
  snprintf(pattern, sizeof pattern, "\"%s\":\"", key);
  const char *start = json ? strstr(json, pattern) : NULL;
  if (!start) return false;
  start += strlen(pattern);
  size_t length = strcspn(start, "\"");
  if (length >= size) return false;
  memcpy(out, start, length);
  out[length] = 0;
  return true;
}

static long json_number(const char *json, const char *key) {
  char pattern[64];
  snprintf(pattern, sizeof pattern, "\"%s\":", key);
  const char *start = json ? strstr(json, pattern) : NULL;
  return start ? atol(start + strlen(pattern)) : -1;
}

/* Waits for an operation and takes its document (NULL when it failed). */
static char *finish(raystorage_status status, raystorage_operation *operation, raystorage_error **error) {
  char *json = NULL;
  if (status == RAYSTORAGE_OK) status = raystorage_operation_wait(operation, -1, error);
  if (status == RAYSTORAGE_OK) raystorage_operation_result(operation, &json, error);
  raystorage_operation_free(operation);
  return json;
}

static int print_document(const char *what, raystorage_status status, raystorage_operation *operation, raystorage_error *error) {
  char *json = finish(status, operation, &error);
  if (!json) return refused(what, error);
  puts(json);
  raystorage_string_free(json);
  return 0;
}

/* ---------------------------------------------------------------------- the loop */

static void settle(struct pending *item, raystorage_status status, raystorage_error *error) {
  if (status == RAYSTORAGE_OK) {
    char *json = NULL, name[256] = "-";
    if (raystorage_report_checkpoint(item->report, &json, NULL) == RAYSTORAGE_OK) json_text(json, "physical_name", name, sizeof name);
    raystorage_string_free(json);
    journal("durable %ld %ld %s", item->index, item->step, name);
  } else {
    journal("failed %ld %ld %s %s", item->index, item->step, raystorage_status_name(status), raystorage_error_message(error));
    raystorage_error_free(error);
  }
  raystorage_report_free(item->report);
  item->report = NULL;
}

static void look(struct pending *item) {
  int32_t state = raystorage_report_state(item->report);
  if (!item->sealed && state >= RAYSTORAGE_REPORT_SEALED && state <= RAYSTORAGE_REPORT_COMMITTED) {
    item->sealed = true;
    journal("sealed %ld %ld", item->index, item->step);
  }
  if (state >= RAYSTORAGE_REPORT_COMMITTED) {
    raystorage_error *error = NULL;
    raystorage_status status = raystorage_report_wait(item->report, -1, &error);
    settle(item, status, error);
  }
}

static void sleep_ms(long milliseconds) {
  struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  nanosleep(&time, NULL);
}

static const char *kind_of(const struct options *options, long step) {
  static const char *const mixed[] = {"async", "sync", "moved", "async"};
  if (options->metrics_every > 0 && step % options->metrics_every == options->metrics_every - 1) return "metrics";
  return strcmp(options->mode, "mixed") == 0 ? mixed[step % 4] : options->mode;
}

/* report(), made again when it only told of an earlier report's failure. */
static raystorage_status report_again(raystorage_run *run, const char *metrics, const char *directory,
                                      const raystorage_report_options *options, raystorage_report **out,
                                      raystorage_error **error) {
  while (true) {
    raystorage_status status = raystorage_run_report(run, metrics, directory, options, out, error);
    if (status == RAYSTORAGE_OK || !strstr(raystorage_error_details_json(*error), "\"earlier\":true")) return status;
    raystorage_error_free(*error);
    *error = NULL;
  }
}

/* Makes one report. Returns false when the library refused it. */
static bool report_step(const struct options *options, raystorage_run *run, long step, struct pending *out) {
  const char *kind = kind_of(options, step);
  char metrics[512], directory[PATH_MAX], name[64];
  raystorage_report_options report_options = RAYSTORAGE_REPORT_OPTIONS_INIT;
  raystorage_error *error = NULL;
  bool with_checkpoint = strcmp(kind, "metrics") != 0;
  snprintf(metrics, sizeof metrics, "{\"step\":%ld,\"loss\":%.17g,\"launch\":\"%s\",\"kind\":\"%s\",\"nan\":NaN}", step,
           1.0 / (double)(step + 1), options->launch, kind);
  snprintf(directory, sizeof directory, "%s/step-%ld", options->work, step);
  if (with_checkpoint) {
    content_remove(directory);
    content_make(directory, step, (uint64_t)options->bytes);
  }
  if (strcmp(kind, "sync") == 0) report_options.upload_mode = RAYSTORAGE_UPLOAD_SYNC;
  report_options.delete_local_after_upload = strcmp(kind, "moved") == 0;
  snprintf(name, sizeof name, "step=%06ld", step);
  if (options->names && with_checkpoint) report_options.checkpoint_dir_name = name;
  journal("begin %ld %s", step, kind);
  *out = (struct pending){NULL, -1, step, false};
  raystorage_status status =
      report_again(run, metrics, with_checkpoint ? directory : NULL, &report_options, &out->report, &error);
  if (status != RAYSTORAGE_OK) {
    journal("refused %ld %s %s", step, raystorage_status_name(status), raystorage_error_message(error));
    raystorage_error_free(error);
    content_remove(directory);
    return false;
  }
  char *info = NULL;
  raystorage_report_info(out->report, &info, NULL);
  out->index = json_number(info, "index");
  raystorage_string_free(info);
  bool dropped = raystorage_report_state(out->report) == RAYSTORAGE_REPORT_DROPPED;
  journal("%s %ld %ld", dropped ? "dropped" : "captured", out->index, step);
  if (dropped) {
    raystorage_report_free(out->report);
    out->report = NULL;
    content_remove(directory);
    return true;
  }
  if (strcmp(kind, "sync") == 0) settle(out, RAYSTORAGE_OK, NULL);
  if (strcmp(kind, "async") == 0) content_scribble(directory);
  content_remove(directory);
  return true;
}

/* The step of the checkpoint to go on from, checked bit for bit; -1 for none, -2 when it is damaged. */
static long resume_step(raystorage_run *run, const char *work, raystorage_error **error) {
  raystorage_operation *operation = NULL;
  raystorage_status status = raystorage_run_get_checkpoint_start(run, &operation, error);
  char *json = finish(status, operation, error), path[PATH_MAX], problem[PATH_MAX + 256];
  if (*error) return -2;
  long step = -1;
  if (json_text(json, "path", path, sizeof path)) {
    char directory[PATH_MAX];
    bool remote = strstr(path, "://") && strncmp(path, "file://", 7) != 0;
    snprintf(directory, sizeof directory, "%s/resumed", work);
    if (remote) {
      mkdir(work, 0777);
      content_remove(directory);
      operation = NULL;
      status = raystorage_checkpoint_download_start(path, NULL, directory, 1, &operation, error);
      raystorage_string_free(finish(status, operation, error));
      if (*error) {
        raystorage_string_free(json);
        return -2;
      }
    }
    step = content_check(remote ? directory : path, problem, sizeof problem);
    if (remote) content_remove(directory);
    if (step < 0) {
      journal("damaged %s", problem);
      step = -2;
    }
  }
  raystorage_string_free(json);
  return step;
}

static raystorage_run *open_run(const struct options *options, raystorage_error **error) {
  raystorage_run_options run_options = RAYSTORAGE_RUN_OPTIONS_INIT;
  raystorage_run *run = NULL;
  run_options.num_to_keep = (uint32_t)options->keep;
  run_options.heartbeat_ms = options->heartbeat_ms;
  run_options.max_pending_reports = (uint32_t)options->pending;
  run_options.when_full = (uint32_t)options->when_full;
  run_options.staging_max_bytes = (uint64_t)options->staging_max;
  run_options.retry_timeout_ms = 20000;
  run_options.staging_dir = options->staging;
  run_options.resume_from = options->resume_from;
  run_options.durability = options->durability_none ? RAYSTORAGE_DURABILITY_NONE : RAYSTORAGE_DURABILITY_FSYNC;
  raystorage_run_open(options->storage, options->name, &run_options, &run, error);
  return run;
}

static int close_run(raystorage_run *run) {
  raystorage_error *error = NULL;
  raystorage_status status = raystorage_run_close(run, 60000, &error);
  raystorage_run_free(run);
  if (status != RAYSTORAGE_OK) return refused("close", error);
  journal("closed");
  return 0;
}

static int train(const struct options *options) {
  enum { MAX_PENDING = 64 };
  struct pending pending[MAX_PENDING] = {{0}};
  raystorage_error *error = NULL;
  raystorage_run *run = open_run(options, &error);
  if (!run) return refused("open", error);
  long from = resume_step(run, options->work, &error);
  if (from == -2) return error ? refused("get_checkpoint", error) : 1;
  char *info = NULL;
  raystorage_run_info(run, &info, NULL);
  journal("open %ld %ld", json_number(info, "epoch"), from);
  raystorage_string_free(info);
  mkdir(options->work, 0777);
  long lag = options->lag < MAX_PENDING ? options->lag : MAX_PENDING - 1, failures = 0;
  for (long step = from + 1; step < options->steps; step++) {
    struct pending *slot = &pending[step % (lag + 1)];
    if (slot->report) {
      raystorage_error *failure = NULL;
      raystorage_status status = raystorage_report_wait(slot->report, 120000, &failure);
      settle(slot, status, failure);
    }
    failures += !report_step(options, run, step, slot);
    if (options->max_failures >= 0 && failures > options->max_failures) return 3;
    for (int i = 0; i <= lag; i++)
      if (pending[i].report) look(&pending[i]);
    if (options->pause_ms) sleep_ms(options->pause_ms);
  }
  for (int waiting = 1; waiting;) {
    waiting = 0;
    for (int i = 0; i <= lag; i++) {
      if (pending[i].report) look(&pending[i]);
      waiting |= pending[i].report != NULL;
    }
    if (waiting) sleep_ms(1);
  }
  return close_run(run);
}

/* Opens and closes; prints what was recovered and lost. */
static int open_and_close(const struct options *options) {
  raystorage_error *error = NULL;
  raystorage_run *run = open_run(options, &error);
  if (!run) return refused("open", error);
  long from = resume_step(run, options->work, &error);
  if (from == -2) return error ? refused("get_checkpoint", error) : 1;
  char *info = NULL;
  if (raystorage_run_info(run, &info, &error) != RAYSTORAGE_OK) return refused("info", error);
  journal("open %ld %ld", json_number(info, "epoch"), from);
  puts(info);
  raystorage_string_free(info);
  if (options->pause_ms) sleep_ms(options->pause_ms);
  return close_run(run);
}

/* ------------------------------------------------------------------ command line */

static int check_contents(int count, char **directories) {
  char problem[PATH_MAX + 256];
  int status = 0;
  for (int i = 0; i < count; i++) {
    long step = content_check(directories[i], problem, sizeof problem);
    if (step >= 0) printf("good %ld %s\n", step, directories[i]);
    else printf("bad %s: %s\n", directories[i], problem);
    status |= step < 0;
  }
  return status;
}

static bool parse(int count, char **arguments, struct options *options) {
  for (int i = 0; i < count; i += 2) {
    const char *key = arguments[i], *value = i + 1 < count ? arguments[i + 1] : NULL;
    const struct { const char *name; const char **text; long *number; int *flag; } known[] = {
        {"--storage", &options->storage, NULL, NULL},       {"--name", &options->name, NULL, NULL},
        {"--staging", &options->staging, NULL, NULL},       {"--work", &options->work, NULL, NULL},
        {"--journal", &options->journal, NULL, NULL},       {"--launch", &options->launch, NULL, NULL},
        {"--mode", &options->mode, NULL, NULL},             {"--resume-from", &options->resume_from, NULL, NULL},
        {"--steps", NULL, &options->steps, NULL},           {"--bytes", NULL, &options->bytes, NULL},
        {"--keep", NULL, &options->keep, NULL},             {"--heartbeat-ms", NULL, &options->heartbeat_ms, NULL},
        {"--lag", NULL, &options->lag, NULL},               {"--pause-ms", NULL, &options->pause_ms, NULL},
        {"--pending", NULL, &options->pending, NULL},       {"--when-full", NULL, &options->when_full, NULL},
        {"--staging-max", NULL, &options->staging_max, NULL}, {"--max-failures", NULL, &options->max_failures, NULL},
        {"--names", NULL, NULL, &options->names},           {"--metrics-every", NULL, NULL, &options->metrics_every},
        {"--sync-journal", NULL, NULL, &options->sync_journal}, {"--durability-none", NULL, NULL, &options->durability_none}};
    bool found = false;
    for (size_t k = 0; value && k < sizeof known / sizeof *known; k++) {
      if (strcmp(known[k].name, key) != 0) continue;
      found = true;
      if (known[k].text) *known[k].text = value;
      if (known[k].number) *known[k].number = atol(value);
      if (known[k].flag) *known[k].flag = atoi(value);
    }
    if (!found) {
      fprintf(stderr, "trainer: wrong option %s\n", key);
      return false;
    }
  }
  return options->storage && options->name;
}

int main(int count, char **arguments) {
  const char *command = count > 1 ? arguments[1] : "";
  const char *path = count > 2 ? arguments[2] : NULL;
  raystorage_operation *operation = NULL;
  raystorage_error *error = NULL;
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (strcmp(command, "content") == 0) return check_contents(count - 2, arguments + 2);
  if (strcmp(command, "train") == 0 || strcmp(command, "open") == 0) {
    struct options options = {.work = "/tmp/trainer", .launch = "0", .mode = "mixed", .steps = 10, .bytes = 256 * 1024,
                              .lag = 3, .metrics_every = 3, .heartbeat_ms = 200, .max_failures = -1};
    if (!parse(count - 2, arguments + 2, &options)) return 2;
    journal_sync = options.sync_journal;
    if (options.journal)
      journal_fd = strcmp(options.journal, "-") == 0 ? STDOUT_FILENO
                                                     : open(options.journal, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    return *command == 't' ? train(&options) : open_and_close(&options);
  }
  if (!path) {
    fprintf(stderr, "usage: trainer train|open OPTIONS, trainer result|metrics|restore|verify|gc|content PATH...\n");
    return 2;
  }
  raystorage_status status = RAYSTORAGE_ERROR_INVALID_ARGUMENT;
  if (strcmp(command, "result") == 0) status = raystorage_result_read_start(path, NULL, &operation, &error);
  else if (strcmp(command, "metrics") == 0) status = raystorage_result_metrics_start(path, NULL, &operation, &error);
  else if (strcmp(command, "verify") == 0) status = raystorage_checkpoint_verify_start(path, NULL, &operation, &error);
  else if (strcmp(command, "gc") == 0) status = raystorage_run_gc_start(path, NULL, 1, 0, &operation, &error);
  else if (strcmp(command, "restore") == 0 && count > 3)
    status = raystorage_checkpoint_download_start(path, NULL, arguments[3], 1, &operation, &error);
  else return 2;
  return print_document(command, status, operation, error);
}
