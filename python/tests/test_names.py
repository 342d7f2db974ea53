"""Names, and what they mean over the history of a run: repeated, superseded, stray."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from processes import Process

import raystorage
from raystorage import AlreadyExistsError, Checkpoint, CheckpointConfig, InvalidArgumentError, NotFoundError, Result


def by_status(result: Result) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in result.checkpoints:
        found.setdefault(one.status, []).append(f"{one.name}:{one.metrics['step']}")
    return found


def step_of(checkpoint: Checkpoint) -> int:
    return int(Path(checkpoint.path, "step").read_text())


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../evil",
        "/abs",
        "a/b",
        "a/",
        ".hidden",
        ".raystorage",
        "til~de",
        "nul\0",
        "new\nline",
        "\x7f",
        "x" * 201,
        "result.json",
        "Result.JSON",
        "progress.csv",
        "checkpoint_manager_snapshot.json",
        "params.json",
        "checkpoint_000001_000000000",
        "checkpoint_000009_000000009",
    ],
)
def test_an_unsafe_name_is_refused_before_a_byte_is_written(open_run, directory, name: str) -> None:
    """P10."""
    run = open_run()
    before = sorted(Path(run.path).rglob("*"))
    with pytest.raises(InvalidArgumentError):
        run.report({"step": 0}, Checkpoint(directory()), checkpoint_dir_name=name)
    assert sorted(Path(run.path).rglob("*")) == before
    assert run.report({"step": 1}, Checkpoint(directory()), checkpoint_dir_name="fine").wait() is not None


@pytest.mark.parametrize(
    "name", ["best", "epoch=3 loss=0.1", "100%", "é" * 100, "checkpoint_1", "x" * 200, "a:b", "-x", "latest\u00a0"]
)
def test_a_safe_name_is_the_directorys(open_run, directory, name: str) -> None:
    run = open_run()
    checkpoint = run.report({}, Checkpoint(directory()), checkpoint_dir_name=name).wait()
    assert checkpoint.path == os.path.join(run.path, name)
    assert run.close().checkpoints[0].name == name


@pytest.mark.parametrize("name", [3, b"x", Path("x")])
def test_a_name_is_text(open_run, directory, name: object) -> None:
    with pytest.raises(InvalidArgumentError, match="must be a str"):
        open_run().report({}, Checkpoint(directory()), checkpoint_dir_name=name)


def test_a_name_without_a_checkpoint_is_refused(open_run) -> None:
    with pytest.raises(InvalidArgumentError, match="needs a checkpoint"):
        open_run().report({}, checkpoint_dir_name="x")


def test_a_committed_name_is_taken_in_this_and_in_later_launches(open_run, directory) -> None:
    """P10: Ray merges the files, and may delete the directory that it has just committed."""
    run = open_run()
    run.report({"step": 0}, Checkpoint(directory(0)), checkpoint_dir_name="best").wait()
    with pytest.raises(AlreadyExistsError, match="taken by report 0 of epoch 1"):
        run.report({"step": 1}, Checkpoint(directory(1)), checkpoint_dir_name="best")
    run.close()
    run = open_run()
    with pytest.raises(AlreadyExistsError, match="taken"):
        run.report({"step": 2}, Checkpoint(directory(2)), checkpoint_dir_name="best")
    assert step_of(run.get_checkpoint()) == 0


def test_an_evicted_name_stays_taken(open_run, directory) -> None:
    run = open_run(checkpoint_config=CheckpointConfig(1))
    run.report({"step": 0}, Checkpoint(directory(0)), checkpoint_dir_name="a").wait()
    run.report({"step": 1}, Checkpoint(directory(1)), checkpoint_dir_name="b").wait()
    run.close()
    run = open_run(checkpoint_config=CheckpointConfig(1))
    assert not Path(run.path, "a").exists()
    with pytest.raises(AlreadyExistsError, match="taken"):
        run.report({"step": 2}, Checkpoint(directory(2)), checkpoint_dir_name="a")


def test_the_name_of_a_failed_report_is_free_again(open_run, directory) -> None:
    """P7."""
    run = open_run()
    bad = directory(0)
    os.mkfifo(bad / "fifo")
    with pytest.raises(InvalidArgumentError, match="fifo"):
        run.report({"step": 0}, Checkpoint(bad), checkpoint_dir_name="best")
    checkpoint = run.report({"step": 1}, Checkpoint(directory(1)), checkpoint_dir_name="best").wait()
    assert step_of(checkpoint) == 1
    assert [one.name for one in run.close().checkpoints] == ["best"]


def test_names_that_differ_only_in_unicode_composition_are_two(open_run, directory) -> None:
    run = open_run()
    names = ["caf\u00e9", "cafe\u0301"]
    for step, name in enumerate(names):
        run.report({"step": step}, Checkpoint(directory(step)), checkpoint_dir_name=name).wait()
    result = run.close()
    assert [one.name for one in result.checkpoints] == names
    assert [step_of(one.checkpoint) for one in result.checkpoints] == [0, 1]


def test_a_directory_of_somebody_else_is_not_taken_over(open_run, directory) -> None:
    run = open_run()
    theirs = Path(run.path, "theirs")
    theirs.mkdir()
    (theirs / "file").write_text("x")
    with pytest.raises(AlreadyExistsError, match="theirs"):
        run.report({"step": 0}, Checkpoint(directory()), checkpoint_dir_name="theirs")
    assert sorted(theirs.iterdir()) == [theirs / "file"]


# ---------------------------------------------------------------- history


def train(open_run, directory, steps: range, *, named: bool, **options: object) -> raystorage.Run:
    run = open_run(**options)
    for step in steps:
        name = f"step{step}" if named else None
        run.report({"step": step}, Checkpoint(directory(step)), checkpoint_dir_name=name).wait()
    return run


def test_going_back_makes_what_came_after_stray_and_repeated_names_superseded(open_run, directory) -> None:
    """commit.md, Names and Order."""
    train(open_run, directory, range(4), named=True).close()
    run = train(open_run, directory, range(2, 3), named=True, resume_from="step1")
    assert run.info["resumed_from"]["name"] == "step1"
    newer = run.get_checkpoint()
    assert os.path.basename(newer.path).startswith("step2~2-0-")
    assert step_of(newer) == 2
    result = run.close()
    assert by_status(result) == {
        "committed": ["step0:0", "step1:1", "step2:2"],
        "superseded": ["step2:2"],
        "stray": ["step3:3"],
    }
    assert result.checkpoint == newer
    assert (result.metrics["step"], result.checkpoints[-1].latest) == (2, True)


def test_after_going_back_and_dying_again_the_job_goes_on_from_the_new_line(open_run, directory, storage: Path) -> None:
    """P4."""
    train(open_run, directory, range(5), named=True).close()
    code = """
        run = Run(RunConfig("run", sys.argv[1], resume_from="step1", durability="none"))
        for step in (2, 3):
            run.report({"step": step}, source(f"{sys.argv[2]}-{step}", step), checkpoint_dir_name=f"step{step}").wait()
        say("ready")
        time.sleep(60)
        """
    with Process(code, storage, storage.parent / "src") as process:
        assert process.line() == "ready"
        process.kill()
    run = open_run()
    assert run.info["epoch"] == 3
    assert run.info["resumed_from"]["name"] == "step3"
    assert Path(run.get_checkpoint().path, "model.bin").read_bytes()[0] == 3
    with pytest.raises(AlreadyExistsError):
        run.report({"step": 3}, Checkpoint(directory(3)), checkpoint_dir_name="step3")
    # The old step 4 lies beyond the point that the job went back to: its name is free for this line.
    again = run.report({"step": 4}, Checkpoint(directory(4)), checkpoint_dir_name="step4").wait()
    assert "~3-" in again.path
    result = run.close()
    assert by_status(result)["superseded"] == ["step2:2", "step3:3", "step4:4"]
    assert result.checkpoint == again


def test_a_stray_checkpoint_can_be_restored_and_gone_back_to(open_run, directory) -> None:
    train(open_run, directory, range(3), named=True).close()
    train(open_run, directory, range(10, 11), named=True, resume_from="step0").close()
    run = open_run(resume_from="step2")
    assert step_of(run.get_checkpoint()) == 2
    result = run.close()
    assert by_status(result) == {"committed": ["step0:0", "step1:1", "step2:2"], "stray": ["step10:10"]}
    assert result.metrics["step"] == 2


def test_before_the_first_commit_the_latest_is_what_was_resumed_from(open_run, directory) -> None:
    train(open_run, directory, range(3), named=True).close()
    result = open_run(resume_from="step0").close()
    assert result.metrics["step"] == 0
    assert open_run().info["resumed_from"]["name"] == "step0"


def test_a_name_that_is_not_there_cannot_be_gone_back_to(open_run, directory) -> None:
    train(open_run, directory, range(2), named=True).close()
    with pytest.raises(NotFoundError, match=r'"step7".*it has "step0", "step1"'):
        open_run(resume_from="step7")
    with pytest.raises(NotFoundError):
        open_run("other", resume_from="step0")
    assert open_run().info["epoch"] == 2, "a refused opening is no launch"


def test_retention_counts_strays_like_all_others_and_keeps_the_latest_of_the_line(open_run, directory) -> None:
    """P8."""
    train(open_run, directory, range(4), named=False).close()
    run = open_run(resume_from="checkpoint_000001_000000000", checkpoint_config=CheckpointConfig(2, "step", "max"))
    run.report({"step": 1}, Checkpoint(directory(1))).wait()
    result = run.close()
    assert by_status(result) == {
        "stray": ["checkpoint_000001_000000002:2", "checkpoint_000001_000000003:3"],
        "committed": ["checkpoint_000002_000000000:1"],
    }
    assert result.metrics["step"] == 1


def test_a_run_inside_another_runs_directory_is_refused(open_run, storage: Path) -> None:
    """P10."""
    outer = open_run("outer")
    for path in (storage / "outer", storage / "outer" / "deeper"):
        with pytest.raises(InvalidArgumentError, match="inside the run"):
            raystorage.Run(raystorage.RunConfig("inner", path))
    with pytest.raises(InvalidArgumentError, match="inside another"):
        raystorage.Run(raystorage.RunConfig(storage.name, storage.parent))
    assert sorted(path.name for path in Path(outer.path).iterdir() if path.is_dir()) == [".raystorage"]
