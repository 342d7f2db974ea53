"""The names, values and shapes that people and other programs rely on."""

from __future__ import annotations

import inspect
import pickle
import re
from importlib import resources
from typing import TYPE_CHECKING

import pytest
from processes import python

import raystorage
from raystorage import CheckpointConfig, CheckpointUploadMode, InvalidArgumentError, RunConfig

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [
    "Run",
    "RunConfig",
    "CheckpointConfig",
    "Checkpoint",
    "CheckpointUploadMode",
    "Report",
    "ReportState",
    "ReportedCheckpoint",
    "Result",
    "RunContext",
    "StorageError",
    "ChecksumError",
    "NotFoundError",
    "AlreadyExistsError",
    "PermissionDeniedError",
    "AuthenticationError",
    "TimedOutError",
    "NetworkError",
    "ThrottledError",
    "QueueFullError",
    "StagingFullError",
    "SupersededError",
    "MissingRanksError",
    "ForkedProcessError",
    "InvalidArgumentError",
    "init",
    "report",
    "get_checkpoint",
    "get_context",
    "flush",
    "shutdown",
    "get_all_reported_checkpoints",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_contract_is_there_documented_and_listed(name: str) -> None:
    assert getattr(raystorage, name).__doc__
    assert name in raystorage.__all__


def test_everything_listed_exists_once_and_nothing_else_is_public() -> None:
    public = {name for name, value in vars(raystorage).items() if name[0] != "_" and not inspect.ismodule(value)}
    assert public == set(raystorage.__all__) - {"__version__"}
    assert len(raystorage.__all__) == len(set(raystorage.__all__))


def test_states_modes_and_errors_are_those_of_the_contract() -> None:
    states = ["PENDING", "CAPTURED", "SEALED", "UPLOADING", "COMMITTED", "FAILED", "DROPPED", "UNKNOWN"]
    assert [state.name for state in raystorage.ReportState] == states
    assert {mode.name for mode in CheckpointUploadMode} == {"ASYNC", "SYNC", "NO_UPLOAD"}
    errors = [getattr(raystorage, name) for name in raystorage.__all__ if name.endswith("Error")]
    assert all(issubclass(error, raystorage.StorageError) for error in errors)
    assert issubclass(raystorage.NotFoundError, FileNotFoundError)
    assert issubclass(raystorage.TimedOutError, TimeoutError)


def test_arguments_keep_their_names_and_order() -> None:
    def of(function: object) -> list[str]:
        return [name for name in inspect.signature(function).parameters if name not in ("self", "unknown")]  # type: ignore[arg-type]

    contract = ["metrics", "checkpoint", "checkpoint_dir_name", "checkpoint_upload_mode"]
    contract.append("delete_local_checkpoint_after_upload")
    assert of(raystorage.report) == of(raystorage.Run.report) == contract
    assert of(RunConfig)[:4] == ["name", "storage_path", "storage_options", "checkpoint_config"]
    wanted = "resume resume_from staging_dir staging_max_bytes retry_timeout_s max_inflight_bytes max_pending_reports "
    wanted += "when_full durability handle_sigterm on_error rank world_size"
    assert set(wanted.split()) <= set(of(RunConfig))
    assert of(CheckpointConfig) == ["num_to_keep", "checkpoint_score_attribute", "checkpoint_score_order"]
    assert of(raystorage.Checkpoint) == ["path", "storage_options"]
    assert of(raystorage.Checkpoint.to_directory) == ["path", "include", "verify", "progress"]
    assert of(raystorage.Result.from_path) == ["path", "storage_options"]
    assert (
        inspect.signature(raystorage.report).parameters["checkpoint_upload_mode"].default is CheckpointUploadMode.ASYNC
    )


def test_the_package_says_that_it_is_typed() -> None:
    assert resources.files(raystorage).joinpath("py.typed").is_file()


def test_the_version_is_that_of_the_library() -> None:
    from raystorage import _native

    assert _native._function("version")().decode() == raystorage.__version__


def test_nothing_takes_the_reserved_name() -> None:
    assert not hasattr(raystorage.Checkpoint, "from_buffers")


BAD_VALUES = [
    ("num_to_keep", 0, CheckpointConfig),
    ("num_to_keep", -1, CheckpointConfig),
    ("num_to_keep", True, CheckpointConfig),
    ("num_to_keep", 1.5, CheckpointConfig),
    ("checkpoint_score_order", "best", CheckpointConfig),
    ("checkpoint_score_attribute", "", CheckpointConfig),
    ("name", "", RunConfig),
    ("name", 3, RunConfig),
    ("storage_path", "", RunConfig),
    ("storage_path", 3, RunConfig),
    ("storage_options", "region=x", RunConfig),
    ("checkpoint_config", {"num_to_keep": 1}, RunConfig),
    ("resume", "yes", RunConfig),
    ("resume", True, RunConfig),
    ("when_full", "drop", RunConfig),
    ("durability", "maybe", RunConfig),
    ("on_error", "ignore", RunConfig),
    ("handle_sigterm", "yes", RunConfig),
    ("staging_max_bytes", 0, RunConfig),
    ("max_inflight_bytes", -5, RunConfig),
    ("max_pending_reports", 0, RunConfig),
    ("retry_timeout_s", 0, RunConfig),
    ("retry_timeout_s", float("nan"), RunConfig),
    ("retry_timeout_s", float("inf"), RunConfig),
    ("heartbeat_s", -1, RunConfig),
    ("exit_timeout_s", None, RunConfig),
    ("rank", -1, RunConfig),
    ("world_size", 0, RunConfig),
]


@pytest.mark.parametrize(("name", "value", "kind"), BAD_VALUES, ids=lambda value: str(value)[:20])
def test_a_value_that_is_not_allowed_is_refused_with_what_is(name: str, value: object, kind: type) -> None:
    with pytest.raises(InvalidArgumentError, match=name) as caught:
        kind(**{name: value})
    assert re.search("must", str(caught.value))


@pytest.mark.parametrize(
    "path",
    ["rel", "./rel", "file://tmp/x", "http://host/x", "s3a://b/x", "az://b/x", "hdfs://h/x", "file:///x?region=y"],
)
def test_a_storage_path_that_cannot_be_used_is_refused_before_anything_is_written(tmp_path: Path, path: str) -> None:
    """P10."""
    done = python(
        """
        os.chdir(sys.argv[2])
        try:
            Run(RunConfig("run", sys.argv[1]))
        except (InvalidArgumentError, NotSupportedError) as error:
            say(error)
        """,
        path,
        tmp_path,
    )
    assert path.split("?", maxsplit=1)[0] in done.out
    assert not (tmp_path / "rel").exists()


@pytest.mark.parametrize("name", ["a/b", "../esc", ".", "..", ".hidden", "/abs", "~root", "x" * 201, "a\0b", "a\nb"])
def test_an_unsafe_run_name_is_refused_before_anything_is_written(storage: Path, name: str) -> None:
    """P10."""
    with pytest.raises(InvalidArgumentError):
        raystorage.Run(RunConfig(name, storage))
    assert not storage.exists()


RAY_ONLY = [
    "storage_filesystem",
    "failure_config",
    "callbacks",
    "sync_config",
    "worker_runtime_env",
    "logging_config",
    "log_to_file",
    "stop",
    "verbose",
    "progress_reporter",
    "local_dir",
]


@pytest.mark.parametrize("name", RAY_ONLY)
def test_what_only_ray_has_is_refused_with_what_to_do_instead(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name}.*exists in Ray.*: ...."):
        RunConfig(**{name: None})


def test_what_only_rays_report_and_checkpoint_config_have_is_refused_too() -> None:
    with pytest.raises(TypeError, match="exists in Ray"):
        CheckpointConfig(checkpoint_at_end=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'nme'"):
        RunConfig(nme="x")  # type: ignore[arg-type]


def test_report_refuses_rays_other_arguments(open_run) -> None:
    run = open_run()
    with pytest.raises(TypeError, match=r"report\(validation.*exists in Ray"):
        run.report({}, validation=True)


SECRET = "wJalrXUtnFEMI"


@pytest.mark.parametrize(
    "show",
    [
        lambda: RunConfig("r", f"s3://AKIA:{SECRET}@bucket/x?secret_key={SECRET}", {"token": SECRET}),
        lambda: raystorage.Checkpoint(f"s3://AKIA:{SECRET}@bucket/x?token={SECRET}", {"token": SECRET}),
    ],
)
def test_a_repr_shows_no_secret(show) -> None:
    """P11."""
    assert SECRET not in repr(show())
    assert "bucket/x" in repr(show())


def test_an_error_about_a_uri_shows_no_secret() -> None:
    """P11."""
    checkpoint = raystorage.Checkpoint(f"s3://AKIA:{SECRET}@bucket/x?token={SECRET}")
    for call in (checkpoint.verify, checkpoint.to_directory, lambda: raystorage.Result.from_path(checkpoint.path)):
        with pytest.raises(raystorage.StorageError) as caught:
            call()
        assert SECRET not in str(caught.value) + repr(caught.value.details)


def test_values_travel_between_processes(open_run, directory) -> None:
    run = open_run()
    checkpoint = run.report({"x": float("inf")}, raystorage.Checkpoint(directory())).wait()
    result = run.close()
    for value in (RunConfig("x", "/y"), CheckpointConfig(2), checkpoint, result.checkpoints[0]):
        assert pickle.loads(pickle.dumps(value)) == value
    assert pickle.loads(pickle.dumps(result)).checkpoint == checkpoint


def test_an_error_travels_whole() -> None:
    with pytest.raises(raystorage.NotFoundError) as caught:
        raystorage.Result.from_path("/nonexistent/run")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.code) == (raystorage.NotFoundError, str(caught.value), "NOT_FOUND")
    assert copy.details == caught.value.details


def test_an_open_run_and_a_report_do_not_travel(open_run) -> None:
    run = open_run()
    for value in (run, run.report({"x": 1})):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(value)


def test_defaults_come_from_the_environment_and_arguments_win(tmp_path: Path) -> None:
    code = """
        run = Run(RunConfig(durability="none"))
        named = Run(RunConfig("mine", sys.argv[1], durability="none"))
        say(run.path, run.info["staging_dir"], named.path)
        """
    env = {
        "RAYSTORAGE_STORAGE_PATH": str(tmp_path / "a"),
        "RAYSTORAGE_NAME": "fromenv",
        "RAYSTORAGE_STAGING_DIR": str(tmp_path / "st"),
    }
    done = python(code, tmp_path / "b", env=env)
    assert done.out.split() == [str(tmp_path / "a/fromenv"), str(tmp_path / "st"), str(tmp_path / "b/mine")]
    done = python(code, tmp_path / "c", env={"RAY_STORAGE": str(tmp_path / "d")})
    assert re.fullmatch(
        rf"{tmp_path}/d/raystorage_run-\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d-[0-9a-f]{{4}}", done.out.split()[0]
    )


def test_without_anything_set_runs_lie_in_the_home_directory(tmp_path: Path) -> None:
    done = python("say(Run(RunConfig('r', durability='none')).path)")
    assert done.out.strip() == str(tmp_path / "home/ray_results/r")


def test_more_than_one_rank_is_refused_with_where_the_number_comes_from(storage: Path, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(raystorage.NotSupportedError, match=r"WORLD_SIZE=4 in the environment \(torchrun\)"):
        raystorage.Run(RunConfig("r", storage))
    with pytest.raises(raystorage.NotSupportedError, match="world_size=2"):
        raystorage.Run(RunConfig("r", storage, rank=0, world_size=2))
    raystorage.Run(RunConfig("r", storage, world_size=1, durability="none")).close()


def test_the_context_tells_the_place(open_run, storage: Path) -> None:
    context = open_run("place").context
    numbers = (context.get_world_rank(), context.get_world_size(), context.get_local_rank(), context.get_node_rank())
    assert numbers == (0, 1, 0, 0)
    assert (context.get_experiment_name(), context.get_storage().storage_path) == ("place", str(storage))


def test_the_default_run_is_opened_by_the_first_use_and_only_once(storage: Path) -> None:
    done = python(
        """
        run = raystorage.init(RunConfig("r", sys.argv[1], durability="none"))
        try:
            raystorage.init()
        except AlreadyExistsError as error:
            say("again:", run.path in str(error))
        raystorage.report({"x": 1})
        say(raystorage.get_checkpoint(), raystorage.get_context().get_experiment_name())
        raystorage.flush(timeout_s=5)
        raystorage.shutdown(timeout_s=5)
        say(Result.from_path(run.path).metrics_history[0]["x"])
        """,
        storage,
    )
    assert done.out.splitlines() == ["again: True", "None r", "1"]
