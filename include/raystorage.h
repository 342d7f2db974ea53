/*
 * raystorage.h - the C interface of raystorage, and its manual.
 *
 * raystorage makes the checkpoints and metrics of a training loop durable, without the loop waiting for the
 * storage, and gives back exactly the bytes that were reported.
 *
 * Conventions, valid for every function below:
 *
 *  (1) Handles are opaque. What a function stores in an `out_*` parameter is owned by the caller and released
 *      with the matching `_free`, which accepts NULL, never fails and never waits for work. Waiting is
 *      `raystorage_run_close()`.
 *  (2) Every function that can fail returns a `raystorage_status` (0 = RAYSTORAGE_OK) and takes a
 *      `raystorage_error **error` last. It may be NULL; otherwise it must point to a NULL pointer, is set only on
 *      failure, and the caller frees it. There is no thread-local error state.
 *  (3) Strings passed in are UTF-8, NUL-terminated and borrowed for the call. A returned `const char *` is borrowed
 *      and lives as long as its handle. A `char **out_*` is owned: `raystorage_string_free()`.
 *  (4) Every handle may be used from every thread. The library never calls the caller.
 *  (5) After fork() a handle inherited from the parent fails with RAYSTORAGE_ERROR_FORKED, and freeing it does
 *      nothing. The child may open handles of its own. fork() waits for the library's threads to be at rest, a
 *      millisecond or two, at most 200 ms.
 *  (6) Times are `int64_t ..._ms`: -1 waits without limit, 0 does not wait. Sizes are `uint64_t ..._bytes`.
 *      Booleans are `int32_t`. No enum type appears in a prototype.
 *  (7) Option structs start with `struct_size`; use the `_INIT` macro. A field that is 0 or NULL means its default.
 *      A struct larger than the library knows is accepted when the unknown tail is zero.
 *  (8) JSON documents carry NaN, Infinity and -Infinity as bare literals, as Python's `json` does. Readers
 *      ignore keys that they do not know. docs/c-api.md describes each document.
 */
#ifndef RAYSTORAGE_H
#define RAYSTORAGE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- version */

#define RAYSTORAGE_VERSION "0.1.0"
/* Raised when something that stands here changes its meaning; additions do not raise it. */
#define RAYSTORAGE_ABI_VERSION 1

/* The RAYSTORAGE_ABI_VERSION that the library was built with. Compare it after loading. */
uint32_t raystorage_abi_version(void);
/* The library's version, for example "0.1.0". Static. */
const char *raystorage_version(void);

/* ----------------------------------------------------------------- status */

typedef int32_t raystorage_status;

enum {
  RAYSTORAGE_OK = 0,
  RAYSTORAGE_ERROR_INVALID_ARGUMENT = 1,  /* refused before anything was written; names the value and what is allowed */
  RAYSTORAGE_ERROR_CANCELLED = 2,
  RAYSTORAGE_ERROR_TIMEOUT = 3,           /* the wait ended, the work goes on */
  RAYSTORAGE_ERROR_NOT_FOUND = 4,
  RAYSTORAGE_ERROR_ALREADY_EXISTS = 5,
  RAYSTORAGE_ERROR_PRECONDITION = 6,      /* the storage changed under us */
  RAYSTORAGE_ERROR_UNAUTHENTICATED = 7,
  RAYSTORAGE_ERROR_PERMISSION_DENIED = 8,
  RAYSTORAGE_ERROR_CHECKSUM = 9,          /* bytes are not those that were reported */
  RAYSTORAGE_ERROR_NETWORK = 10,
  RAYSTORAGE_ERROR_THROTTLED = 11,
  RAYSTORAGE_ERROR_IO = 12,               /* details_json has errno, operation and path */
  RAYSTORAGE_ERROR_QUEUE_FULL = 13,       /* max_pending_reports reached */
  RAYSTORAGE_ERROR_CLOSED = 14,
  RAYSTORAGE_ERROR_FORKED = 15,           /* the handle belongs to a parent process */
  RAYSTORAGE_ERROR_NOT_SUPPORTED = 16,
  RAYSTORAGE_ERROR_INTERNAL = 17,
  RAYSTORAGE_ERROR_STAGING_FULL = 18,     /* staging_max_bytes reached */
  RAYSTORAGE_ERROR_SUPERSEDED = 19,       /* another trainer has taken over this run; names it */
  RAYSTORAGE_ERROR_MISSING_RANKS = 20,
  RAYSTORAGE_ERROR_RUN_IN_USE = 21,       /* another trainer holds this run and is alive; names it */
  RAYSTORAGE_ERROR_NO_SPACE = 22          /* ENOSPC or EDQUOT from the storage */
};

/* The name of a status, for example "NOT_FOUND"; "UNKNOWN" for a number that is not a status. Static. */
const char *raystorage_status_name(raystorage_status status);

/* ----------------------------------------------------------------- errors */

typedef struct raystorage_error raystorage_error;

raystorage_status raystorage_error_code(const raystorage_error *error);
/* One sentence for a person. Never contains a secret. */
const char *raystorage_error_message(const raystorage_error *error);
/* A JSON object: path, operation, errno, attempts, ... as far as they apply. */
const char *raystorage_error_details_json(const raystorage_error *error);
/* 1 when the same call may succeed later without a change by the caller. */
int32_t raystorage_error_is_retryable(const raystorage_error *error);
void raystorage_error_free(raystorage_error *error);

void raystorage_string_free(char *string);

/* ------------------------------------------------------------- operations */

/*
 * Work that may take long and runs on the library's own threads: opening a run, restoring, verifying.
 * Start it, wait in slices of your choice, take its result. Freeing an unfinished operation cancels it.
 */
typedef struct raystorage_operation raystorage_operation;

/* Waits until the operation has ended. RAYSTORAGE_OK: it succeeded. RAYSTORAGE_ERROR_TIMEOUT: not ended yet (code 3
 * with "pending": true in the details). Any other status: the operation failed with it. */
raystorage_status raystorage_operation_wait(raystorage_operation *operation, int64_t timeout_ms,
                                            raystorage_error **error);
/* {"bytes_done":n,"bytes_total":n,"files_done":n,"files_total":n,"phase":"..."} at this moment. */
raystorage_status raystorage_operation_progress(raystorage_operation *operation, char **out_json,
                                                raystorage_error **error);
/* The JSON document that the operation yields, after it succeeded. */
raystorage_status raystorage_operation_result(raystorage_operation *operation, char **out_json,
                                              raystorage_error **error);
/* Asks the operation to end with RAYSTORAGE_ERROR_CANCELLED. Returns at once. */
void raystorage_operation_cancel(raystorage_operation *operation);
void raystorage_operation_free(raystorage_operation *operation);

/* ------------------------------------------------------------------- runs */

/* One trainer's hold on one run directory {storage_path}/{name}. */
typedef struct raystorage_run raystorage_run;

enum { RAYSTORAGE_RESUME_AUTO = 0, RAYSTORAGE_RESUME_MUST = 1, RAYSTORAGE_RESUME_NEVER = 2 };
enum { RAYSTORAGE_WHEN_FULL_WAIT = 0, RAYSTORAGE_WHEN_FULL_SKIP = 1, RAYSTORAGE_WHEN_FULL_ERROR = 2 };
enum { RAYSTORAGE_DURABILITY_FSYNC = 0, RAYSTORAGE_DURABILITY_NONE = 1 };

typedef struct raystorage_run_options {
  uint32_t struct_size;
  uint32_t rank;                /* 0 */
  uint32_t world_size;          /* 0 means 1; larger than 1 is RAYSTORAGE_ERROR_NOT_SUPPORTED for now */
  uint32_t resume;              /* RAYSTORAGE_RESUME_*: go on with an existing run, need one, refuse one */
  uint32_t when_full;           /* RAYSTORAGE_WHEN_FULL_*: what report() does at a limit */
  uint32_t durability;          /* RAYSTORAGE_DURABILITY_NONE leaves out every fsync: scratch runs and tests only */
  uint32_t max_pending_reports; /* checkpoints captured and not yet committed; 0 means 8 */
  uint32_t num_to_keep;         /* 0 keeps all */
  int64_t retry_timeout_ms;     /* how long without progress until a report fails; 0 means 3,600,000 */
  int64_t drain_timeout_ms;     /* how long opening finishes a dead trainer's reports; 0 means 600,000, -1 no limit */
  int64_t heartbeat_ms;         /* T: period of the holder's heartbeat, dead after 3 T; 0 means 10,000 */
  int64_t orphan_ttl_ms;        /* unfinished work of other hosts is collected after this; 0 means 7 days */
  uint64_t staging_max_bytes;   /* bytes captured and not yet committed; 0 means half of the free space at opening */
  uint64_t max_inflight_bytes;  /* buffers of this run's captures and seals, and of its uploads: at least one of each; 0 means 64 MiB */
  const char *checkpoint_score_attribute; /* metric to rank by, "a/b" for a nested one; NULL ranks by age */
  const char *checkpoint_score_order;     /* "max" (NULL) or "min" */
  const char *resume_from;      /* checkpoint_dir_name of an older checkpoint of this run to go on from */
  const char *staging_dir;      /* NULL: $RAYSTORAGE_STAGING_DIR, $RAY_AIR_LOCAL_CACHE_DIR, /var/tmp/raystorage-<uid> */
  const char *storage_options_json; /* JSON object of backend options; local paths take none */
} raystorage_run_options;
#define RAYSTORAGE_RUN_OPTIONS_INIT                                                                                    \
  { (uint32_t)sizeof(raystorage_run_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/*
 * Opens {storage_path}/{name} for training: creates it, or takes it over from a trainer that is dead, finishes what
 * that trainer had captured on this host, and chooses where to go on from.
 *   storage_path  "/abs", "~/x", "file:///abs", "s3://bucket/prefix?option=value";
 *                 NULL: $RAYSTORAGE_STORAGE_PATH, $RAY_STORAGE, "~/ray_results"
 *   name          one path component, 1-200 bytes; NULL: $RAYSTORAGE_NAME, else raystorage_run-<date>_<time>-<4 hex>
 * RUN_IN_USE names a live holder; when the holder may be on another machine this takes up to 3 T to find out.
 */
raystorage_status raystorage_run_open(const char *storage_path, const char *name,
                                      const raystorage_run_options *options, raystorage_run **out_run,
                                      raystorage_error **error);
/* The same as an operation; take the run with raystorage_operation_take_run() after it succeeded. */
raystorage_status raystorage_run_open_start(const char *storage_path, const char *name,
                                            const raystorage_run_options *options,
                                            raystorage_operation **out_operation, raystorage_error **error);
raystorage_status raystorage_operation_take_run(raystorage_operation *operation, raystorage_run **out_run,
                                                raystorage_error **error);

/* The run's directory or URI. */
const char *raystorage_run_path(const raystorage_run *run);
/* {"schema":1,"run_id":..,"name":..,"path":..,"storage_path":..,"epoch":n,"rank":n,"world_size":n,
 *  "staging_dir":..,"resumed_from":checkpoint|null,"recovered":[names],"lost":[{"name":..,"reason":..}]} */
raystorage_status raystorage_run_info(raystorage_run *run, char **out_json, raystorage_error **error);
/* Counters: {"reports":n,"pending":n,"staged_bytes":n,"staging_max_bytes":n,"captured_bytes":n,"states":{STATE:n},
 *  "requests":n,"retries":n,"throttled":n,"bytes_sent":n,"bytes_received":n}; the last five of what the run asks of
 *  its store, tries that failed included, 0 on file systems. */
raystorage_status raystorage_run_stats(raystorage_run *run, char **out_json, raystorage_error **error);
/* A file descriptor (eventfd, owned by the run) that is readable after any report has changed its state; read it to
 * clear it. */
raystorage_status raystorage_run_event_fd(raystorage_run *run, int32_t *out_fd, raystorage_error **error);
/* A JSON array of the run's checkpoints, oldest first: see docs/c-api.md, "checkpoint". */
raystorage_status raystorage_run_checkpoints(raystorage_run *run, char **out_json, raystorage_error **error);
/*
 * The checkpoint to go on from: the latest committed one; before this trainer's first commit the one it resumed
 * from, verified byte for byte on the first call. When that one is damaged the run falls back to the one before,
 * with a warning in the log that names both. Yields a "checkpoint" document or null.
 */
raystorage_status raystorage_run_get_checkpoint_start(raystorage_run *run, raystorage_operation **out_operation,
                                                      raystorage_error **error);
/* Waits until every report has ended, and the metrics are fsynced. A failed report that nobody has seen is its error. */
raystorage_status raystorage_run_flush(raystorage_run *run, int64_t timeout_ms, raystorage_error **error);
/* Flushes, releases the hold on the run and stops accepting reports. After a TIMEOUT it may be called again. */
raystorage_status raystorage_run_close(raystorage_run *run, int64_t timeout_ms, raystorage_error **error);
/* Releases the handle. What is captured and not committed stays for the next open. */
void raystorage_run_free(raystorage_run *run);

/* ---------------------------------------------------------------- reports */

typedef struct raystorage_report raystorage_report;

enum { RAYSTORAGE_UPLOAD_ASYNC = 0, RAYSTORAGE_UPLOAD_SYNC = 1, RAYSTORAGE_UPLOAD_NONE = 2 };

enum {
  RAYSTORAGE_REPORT_PENDING = 0,   /* being captured: the directory must not change */
  RAYSTORAGE_REPORT_CAPTURED = 1,  /* the directory is the caller's again */
  RAYSTORAGE_REPORT_SEALED = 2,    /* checksummed and fsynced: survives a power cut on this host */
  RAYSTORAGE_REPORT_UPLOADING = 3,
  RAYSTORAGE_REPORT_COMMITTED = 4,
  RAYSTORAGE_REPORT_FAILED = 5,
  RAYSTORAGE_REPORT_DROPPED = 6,   /* cancelled, or skipped at a limit */
  RAYSTORAGE_REPORT_UNKNOWN = 7    /* the storage did not say; the next open finds out */
};

typedef struct raystorage_report_options {
  uint32_t struct_size;
  uint32_t upload_mode;                 /* RAYSTORAGE_UPLOAD_* */
  const char *checkpoint_dir_name;      /* NULL: checkpoint_<epoch>_<index> */
  uint32_t delete_local_after_upload;   /* 1 hands the directory over: it is moved, not copied, where possible */
  uint32_t reserved;
} raystorage_report_options;
#define RAYSTORAGE_REPORT_OPTIONS_INIT { (uint32_t)sizeof(raystorage_report_options), 0, 0, 0, 0 }

/*
 * Reports metrics (a JSON object) and, unless local_directory is NULL, a checkpoint. The metrics are in the
 * run's log when it returns. Returns when the checkpoint is captured; with RAYSTORAGE_UPLOAD_SYNC when it is committed.
 * RAYSTORAGE_UPLOAD_NONE: local_directory is a directory inside the run that is registered as it stands.
 */
raystorage_status raystorage_run_report(raystorage_run *run, const char *metrics_json, const char *local_directory,
                                        const raystorage_report_options *options, raystorage_report **out_report,
                                        raystorage_error **error);
/* The same without waiting for the capture: then raystorage_report_wait_captured(). A report without a directory
 * is complete when this returns. */
raystorage_status raystorage_run_report_start(raystorage_run *run, const char *metrics_json,
                                              const char *local_directory, const raystorage_report_options *options,
                                              raystorage_report **out_report, raystorage_error **error);
/* RAYSTORAGE_REPORT_*, or -1 for a handle of a parent process. */
int32_t raystorage_report_state(const raystorage_report *report);
/* Waits until the directory is the caller's again (or the report has ended; a failure is returned). */
raystorage_status raystorage_report_wait_captured(raystorage_report *report, int64_t timeout_ms,
                                                  raystorage_error **error);
/* Waits until the report is durable: checkpoint committed, metrics fsynced. TIMEOUT: not yet, and it goes on. */
raystorage_status raystorage_report_wait(raystorage_report *report, int64_t timeout_ms, raystorage_error **error);
/* Drops the report unless its commit has begun. */
raystorage_status raystorage_report_cancel(raystorage_report *report, raystorage_error **error);
/* The "checkpoint" document of a committed report; "null" for one without a checkpoint. */
raystorage_status raystorage_report_checkpoint(raystorage_report *report, char **out_json, raystorage_error **error);
/* {"state":..,"index":n,"name":..,"bytes":n,"files":n,"captured_in_ms":x,...} */
raystorage_status raystorage_report_info(raystorage_report *report, char **out_json, raystorage_error **error);
/* Releases the handle; does not cancel. */
void raystorage_report_free(raystorage_report *report);

/* ------------------------------------------------- checkpoints and results */

/*
 * path is a checkpoint's directory or URI; storage_options_json may be NULL. None of these needs an open run, and none
 * but the metadata setter writes to the storage.
 */

/* Restores a checkpoint into local_directory, which is created, or merged into when it exists. Every byte is
 * verified first when verify is 1. Nothing appears in local_directory unless all of it is good. What has no manifest of
 * ours, a prefix of other tools' objects for example, has nothing to be verified with; PRECONDITION when its objects are
 * replaced while they are fetched, so that no mixture is taken for a checkpoint.
 * Yields {"path":..,"files":n,"bytes":n,"verified":bool}. */
raystorage_status raystorage_checkpoint_download_start(const char *path, const char *storage_options_json,
                                                       const char *local_directory, int32_t verify,
                                                       raystorage_operation **out_operation, raystorage_error **error);
/* The same for some of the files; no byte of others is fetched. include_json is a JSON array of paths, relative to the
 * checkpoint, and patterns. What is the path of something in the checkpoint means just that; else "*" is any run of
 * characters within a component, "?" one of them, "[a-z]" and "[!a-z]" one of a set or outside it, and "**" as a component any
 * number of directories, none too, or at the end everything below. A directory brings everything below it, a symbolic
 * link what it leads to; directories that they lie in are made. A path or pattern that means nothing is NOT_FOUND, named,
 * before anything is written. Nothing in the directory says afterwards that it holds a part; it may not lie in a run or a
 * checkpoint, where the part would be taken for a whole (INVALID_ARGUMENT). */
raystorage_status raystorage_checkpoint_download_files_start(const char *path, const char *storage_options_json,
                                                             const char *include_json, const char *local_directory,
                                                             int32_t verify, raystorage_operation **out_operation,
                                                             raystorage_error **error);
/* A local directory with the checkpoint's files, to read only, without a copy where the storage is a local disk and
 * from a cache shared by the processes of this machine otherwise. Verified once. Yields {"path":..,"lease":"..."}; hand
 * the lease back with raystorage_checkpoint_release(). */
raystorage_status raystorage_checkpoint_acquire_start(const char *path, const char *storage_options_json,
                                                      const char *staging_dir, raystorage_operation **out_operation,
                                                      raystorage_error **error);
raystorage_status raystorage_checkpoint_release(const char *lease, raystorage_error **error);
/* Reads every byte; of objects whose CRC-32C the store keeps, only that. Yields
 * {"path":..,"ok":bool,"verified":bool,"files":n,"bytes":n,"problems":[{"file":..,"problem":..}]} */
raystorage_status raystorage_checkpoint_verify_start(const char *path, const char *storage_options_json,
                                                     raystorage_operation **out_operation, raystorage_error **error);
/* Yields the manifest; NOT_FOUND when the checkpoint has none (Ray's, or plain files). */
raystorage_status raystorage_checkpoint_manifest_start(const char *path, const char *storage_options_json,
                                                       raystorage_operation **out_operation, raystorage_error **error);
/* Yields the user's metadata, a JSON object; {} when none was set. */
raystorage_status raystorage_checkpoint_metadata_start(const char *path, const char *storage_options_json,
                                                       raystorage_operation **out_operation, raystorage_error **error);
/* Replaces the user's metadata. Yields null. */
raystorage_status raystorage_checkpoint_set_metadata_start(const char *path, const char *storage_options_json,
                                                           const char *metadata_json,
                                                           raystorage_operation **out_operation,
                                                           raystorage_error **error);
/* The same three, which wait for the storage however long it takes: for local paths. */
raystorage_status raystorage_checkpoint_manifest(const char *path, const char *storage_options_json, char **out_json,
                                                 raystorage_error **error);
raystorage_status raystorage_checkpoint_metadata(const char *path, const char *storage_options_json, char **out_json,
                                                 raystorage_error **error);
raystorage_status raystorage_checkpoint_set_metadata(const char *path, const char *storage_options_json,
                                                     const char *metadata_json, raystorage_error **error);

/* What a run directory holds, written by raystorage or by Ray (V1 and V2). Yields a "result" document. */
raystorage_status raystorage_result_read_start(const char *path, const char *storage_options_json,
                                               raystorage_operation **out_operation, raystorage_error **error);
/* Every row of metrics, in order: a JSON array of objects. */
raystorage_status raystorage_result_metrics_start(const char *path, const char *storage_options_json,
                                                  raystorage_operation **out_operation, raystorage_error **error);

/* ----------------------------------------------------------- housekeeping */

/* Runs below a storage path, or the checkpoints of a run. Yields a "listing" document. */
raystorage_status raystorage_path_list_start(const char *path, const char *storage_options_json,
                                             raystorage_operation **out_operation, raystorage_error **error);
/* Collects what dead trainers left in a run. now = 1 also takes other hosts' work at once; dry_run = 1 only tells.
 * Yields {"removed":[{"path":..,"bytes":n,"reason":..}],"kept":[..]} */
raystorage_status raystorage_run_gc_start(const char *path, const char *storage_options_json, int32_t now,
                                          int32_t dry_run, raystorage_operation **out_operation,
                                          raystorage_error **error);
/* Finishes captured reports of dead trainers of this host, known from the staging directory (NULL: the default one).
 * Yields {"runs":[{"path":..,"committed":[names],"lost":[..],"in_use":bool}]} */
raystorage_status raystorage_staging_drain_start(const char *staging_dir, const char *storage_options_json,
                                                 raystorage_operation **out_operation, raystorage_error **error);
/* Tries what a run needs below path. Yields {"ok":bool,"checks":[{"name":..,"ok":bool,"detail":..,
 * "error":null or {"code":..,"details":{..}},"seconds":x}]} */
raystorage_status raystorage_path_doctor_start(const char *path, const char *storage_options_json,
                                               raystorage_operation **out_operation, raystorage_error **error);

/* Ends every open run of this process as raystorage_run_close() does, and stops the library's threads. */
raystorage_status raystorage_shutdown(int64_t timeout_ms, raystorage_error **error);
/* The next line of the library's log: {"time":s,"level":"warning","message":..,...}. TIMEOUT when there is none. The
 * log is a ring of 1,000 lines; a reader that is slow loses the oldest. */
raystorage_status raystorage_log_next(int64_t timeout_ms, char **out_json, raystorage_error **error);
/* Compiler, flags, versions of the libraries inside. */
raystorage_status raystorage_build_info(char **out_json, raystorage_error **error);

#ifdef __cplusplus
}
#endif

#endif /* RAYSTORAGE_H */
