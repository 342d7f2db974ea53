"""What `include/raystorage.h` declares, as ctypes types: constants, option structs and every prototype."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from typing import Any

ABI_VERSION = 1
STATUS_TIMEOUT = 3
# RAYSTORAGE_RESUME_*, RAYSTORAGE_WHEN_FULL_*, RAYSTORAGE_DURABILITY_*, RAYSTORAGE_UPLOAD_*: the place is the number.
RESUME = ("auto", "must", "never")
WHEN_FULL = ("wait", "skip", "error")
DURABILITY = ("fsync", "none")
UPLOAD_MODES = ("ASYNC", "SYNC", "NO_UPLOAD")
# RAYSTORAGE_REPORT_*
REPORT_STATES = ("PENDING", "CAPTURED", "SEALED", "UPLOADING", "COMMITTED", "FAILED", "DROPPED", "UNKNOWN")


class RunOptions(ctypes.Structure):
    """`raystorage_run_options`."""

    _fields_ = (
        ("struct_size", c_uint32),
        ("rank", c_uint32),
        ("world_size", c_uint32),
        ("resume", c_uint32),
        ("when_full", c_uint32),
        ("durability", c_uint32),
        ("max_pending_reports", c_uint32),
        ("num_to_keep", c_uint32),
        ("retry_timeout_ms", c_int64),
        ("drain_timeout_ms", c_int64),
        ("heartbeat_ms", c_int64),
        ("orphan_ttl_ms", c_int64),
        ("staging_max_bytes", c_uint64),
        ("max_inflight_bytes", c_uint64),
        ("checkpoint_score_attribute", c_char_p),
        ("checkpoint_score_order", c_char_p),
        ("resume_from", c_char_p),
        ("staging_dir", c_char_p),
        ("storage_options_json", c_char_p),
    )


class ReportOptions(ctypes.Structure):
    """`raystorage_report_options`."""

    _fields_ = (
        ("struct_size", c_uint32),
        ("upload_mode", c_uint32),
        ("checkpoint_dir_name", c_char_p),
        ("delete_local_after_upload", c_uint32),
        ("reserved", c_uint32),
    )


_HANDLE = c_void_p
_TEXT = c_char_p
# `T **out`: the value is taken from a `c_void_p`, because a `c_char_p` result would lose the address to free.
_OUT = POINTER(c_void_p)

PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    # uint32_t raystorage_abi_version(void)
    "abi_version": (c_uint32, ()),
    # const char *raystorage_version(void)
    "version": (_TEXT, ()),
    # const char *raystorage_status_name(raystorage_status status)
    "status_name": (_TEXT, (c_int32,)),
    # raystorage_status raystorage_error_code(const raystorage_error *error)
    "error_code": (c_int32, (_HANDLE,)),
    # const char *raystorage_error_message(const raystorage_error *error)
    "error_message": (_TEXT, (_HANDLE,)),
    # const char *raystorage_error_details_json(const raystorage_error *error)
    "error_details_json": (_TEXT, (_HANDLE,)),
    # int32_t raystorage_error_is_retryable(const raystorage_error *error)
    "error_is_retryable": (c_int32, (_HANDLE,)),
    # void raystorage_error_free(raystorage_error *error)
    "error_free": (None, (_HANDLE,)),
    # void raystorage_string_free(char *string)
    "string_free": (None, (_HANDLE,)),
    # raystorage_status raystorage_operation_wait(raystorage_operation *operation, int64_t timeout_ms,
    # raystorage_error **error)
    "operation_wait": (c_int32, (_HANDLE, c_int64, _OUT)),
    # raystorage_status raystorage_operation_progress(raystorage_operation *operation, char **out_json,
    # raystorage_error **error)
    "operation_progress": (c_int32, (_HANDLE, _OUT, _OUT)),
    # raystorage_status raystorage_operation_result(raystorage_operation *operation, char **out_json, raystorage_error
    # **error)
    "operation_result": (c_int32, (_HANDLE, _OUT, _OUT)),
    # void raystorage_operation_cancel(raystorage_operation *operation)
    "operation_cancel": (None, (_HANDLE,)),
    # void raystorage_operation_free(raystorage_operation *operation)
    "operation_free": (None, (_HANDLE,)),
    # raystorage_status raystorage_run_open(const char *storage_path, const char *name, const raystorage_run_options
    # *options, raystorage_run **out_run, raystorage_error **error)
    "run_open": (c_int32, (_TEXT, _TEXT, POINTER(RunOptions), _OUT, _OUT)),
    # raystorage_status raystorage_run_open_start(const char *storage_path, const char *name, const
    # raystorage_run_options *options, raystorage_operation **out_operation, raystorage_error **error)
    "run_open_start": (c_int32, (_TEXT, _TEXT, POINTER(RunOptions), _OUT, _OUT)),
    # raystorage_status raystorage_operation_take_run(raystorage_operation *operation, raystorage_run **out_run,
    # raystorage_error **error)
    "operation_take_run": (c_int32, (_HANDLE, _OUT, _OUT)),
    # const char *raystorage_run_path(const raystorage_run *run)
    "run_path": (_TEXT, (_HANDLE,)),
    # raystorage_status raystorage_run_info(raystorage_run *run, char **out_json, raystorage_error **error)
    "run_info": (c_int32, (_HANDLE, _OUT, _OUT)),
    # raystorage_status raystorage_run_stats(raystorage_run *run, char **out_json, raystorage_error **error)
    "run_stats": (c_int32, (_HANDLE, _OUT, _OUT)),
    # raystorage_status raystorage_run_event_fd(raystorage_run *run, int32_t *out_fd, raystorage_error **error)
    "run_event_fd": (c_int32, (_HANDLE, POINTER(c_int32), _OUT)),
    # raystorage_status raystorage_run_checkpoints(raystorage_run *run, char **out_json, raystorage_error **error)
    "run_checkpoints": (c_int32, (_HANDLE, _OUT, _OUT)),
    # raystorage_status raystorage_run_get_checkpoint_start(raystorage_run *run, raystorage_operation **out_operation,
    # raystorage_error **error)
    "run_get_checkpoint_start": (c_int32, (_HANDLE, _OUT, _OUT)),
    # raystorage_status raystorage_run_flush(raystorage_run *run, int64_t timeout_ms, raystorage_error **error)
    "run_flush": (c_int32, (_HANDLE, c_int64, _OUT)),
    # raystorage_status raystorage_run_close(raystorage_run *run, int64_t timeout_ms, raystorage_error **error)
    "run_close": (c_int32, (_HANDLE, c_int64, _OUT)),
    # void raystorage_run_free(raystorage_run *run)
    "run_free": (None, (_HANDLE,)),
    # raystorage_status raystorage_run_report(raystorage_run *run, const char *metrics_json, const char
    # *local_directory, const raystorage_report_options *options, raystorage_report **out_report, raystorage_error
    # **error)
    "run_report": (c_int32, (_HANDLE, _TEXT, _TEXT, POINTER(ReportOptions), _OUT, _OUT)),
    # raystorage_status raystorage_run_report_start(raystorage_run *run, const char *metrics_json, const char
    # *local_directory, const raystorage_report_options *options, raystorage_report **out_report, raystorage_error
    # **error)
    "run_report_start": (c_int32, (_HANDLE, _TEXT, _TEXT, POINTER(ReportOptions), _OUT, _OUT)),
    # int32_t raystorage_report_state(const raystorage_report *report)
    "report_state": (c_int32, (_HANDLE,)),
    # raystorage_status raystorage_report_wait_captured(raystorage_report *report, int64_t timeout_ms,
    # raystorage_error **error)
    "report_wait_captured": (c_int32, (_HANDLE, c_int64, _OUT)),
    # raystorage_status raystorage_report_wait(raystorage_report *report, int64_t timeout_ms, raystorage_error
    # **error)
    "report_wait": (c_int32, (_HANDLE, c_int64, _OUT)),
    # raystorage_status raystorage_report_cancel(raystorage_report *report, raystorage_error **error)
    "report_cancel": (c_int32, (_HANDLE, _OUT)),
    # raystorage_status raystorage_report_checkpoint(raystorage_report *report, char **out_json, raystorage_error
    # **error)
    "report_checkpoint": (c_int32, (_HANDLE, _OUT, _OUT)),
    # raystorage_status raystorage_report_info(raystorage_report *report, char **out_json, raystorage_error **error)
    "report_info": (c_int32, (_HANDLE, _OUT, _OUT)),
    # void raystorage_report_free(raystorage_report *report)
    "report_free": (None, (_HANDLE,)),
    # raystorage_status raystorage_checkpoint_download_start(const char *path, const char *storage_options_json, const
    # char *local_directory, int32_t verify, raystorage_operation **out_operation, raystorage_error **error)
    "checkpoint_download_start": (c_int32, (_TEXT, _TEXT, _TEXT, c_int32, _OUT, _OUT)),
    # raystorage_status raystorage_checkpoint_download_files_start(const char *path, const char *storage_options_json,
    # const char *include_json, const char *local_directory, int32_t verify, raystorage_operation **out_operation,
    # raystorage_error **error)
    "checkpoint_download_files_start": (c_int32, (_TEXT, _TEXT, _TEXT, _TEXT, c_int32, _OUT, _OUT)),
    # raystorage_status raystorage_checkpoint_acquire_start(const char *path, const char *storage_options_json, const
    # char *staging_dir, raystorage_operation **out_operation, raystorage_error **error)
    "checkpoint_acquire_start": (c_int32, (_TEXT, _TEXT, _TEXT, _OUT, _OUT)),
    # raystorage_status raystorage_checkpoint_release(const char *lease, raystorage_error **error)
    "checkpoint_release": (c_int32, (_TEXT, _OUT)),
    # raystorage_status raystorage_checkpoint_verify_start(const char *path, const char *storage_options_json,
    # raystorage_operation **out_operation, raystorage_error **error)
    "checkpoint_verify_start": (c_int32, (_TEXT, _TEXT, _OUT, _OUT)),
    # raystorage_status raystorage_checkpoint_manifest_start(const char *path, const char *storage_options_json,
    # raystorage_operation **out_operation, raystorage_error **error)
    "checkpoint_manifest_start": (c_int32, (_TEXT, _TEXT, _OUT, _OUT)),
    # raystorage_status raystorage_checkpoint_metadata_start(const char *path, const char *storage_options_json,
    # raystorage_operation **out_operation, raystorage_error **error)
    "checkpoint_metadata_start": (c_int32, (_TEXT, _TEXT, _OUT, _OUT)),
    # raystorage_status raystorage_checkpoint_set_metadata_start(const char *path, const char *storage_options_json,
    # const char *metadata_json, raystorage_operation **out_operation, raystorage_error **error)
    "checkpoint_set_metadata_start": (c_int32, (_TEXT, _TEXT, _TEXT, _OUT, _OUT)),
    # raystorage_status raystorage_checkpoint_manifest(const char *path, const char *storage_options_json, char
    # **out_json, raystorage_error **error)
    "checkpoint_manifest": (c_int32, (_TEXT, _TEXT, _OUT, _OUT)),
    # raystorage_status raystorage_checkpoint_metadata(const char *path, const char *storage_options_json, char
    # **out_json, raystorage_error **error)
    "checkpoint_metadata": (c_int32, (_TEXT, _TEXT, _OUT, _OUT)),
    # raystorage_status raystorage_checkpoint_set_metadata(const char *path, const char *storage_options_json, const
    # char *metadata_json, raystorage_error **error)
    "checkpoint_set_metadata": (c_int32, (_TEXT, _TEXT, _TEXT, _OUT)),
    # raystorage_status raystorage_result_read_start(const char *path, const char *storage_options_json,
    # raystorage_operation **out_operation, raystorage_error **error)
    "result_read_start": (c_int32, (_TEXT, _TEXT, _OUT, _OUT)),
    # raystorage_status raystorage_result_metrics_start(const char *path, const char *storage_options_json,
    # raystorage_operation **out_operation, raystorage_error **error)
    "result_metrics_start": (c_int32, (_TEXT, _TEXT, _OUT, _OUT)),
    # raystorage_status raystorage_path_list_start(const char *path, const char *storage_options_json,
    # raystorage_operation **out_operation, raystorage_error **error)
    "path_list_start": (c_int32, (_TEXT, _TEXT, _OUT, _OUT)),
    # raystorage_status raystorage_run_gc_start(const char *path, const char *storage_options_json, int32_t now,
    # int32_t dry_run, raystorage_operation **out_operation, raystorage_error **error)
    "run_gc_start": (c_int32, (_TEXT, _TEXT, c_int32, c_int32, _OUT, _OUT)),
    # raystorage_status raystorage_staging_drain_start(const char *staging_dir, const char *storage_options_json,
    # raystorage_operation **out_operation, raystorage_error **error)
    "staging_drain_start": (c_int32, (_TEXT, _TEXT, _OUT, _OUT)),
    # raystorage_status raystorage_path_doctor_start(const char *path, const char *storage_options_json,
    # raystorage_operation **out_operation, raystorage_error **error)
    "path_doctor_start": (c_int32, (_TEXT, _TEXT, _OUT, _OUT)),
    # raystorage_status raystorage_shutdown(int64_t timeout_ms, raystorage_error **error)
    "shutdown": (c_int32, (c_int64, _OUT)),
    # raystorage_status raystorage_log_next(int64_t timeout_ms, char **out_json, raystorage_error **error)
    "log_next": (c_int32, (c_int64, _OUT, _OUT)),
    # raystorage_status raystorage_build_info(char **out_json, raystorage_error **error)
    "build_info": (c_int32, (_OUT, _OUT)),
}
