"""Which rank this process is: from the arguments, else from the launcher's variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Ranks:
    """This process among those of its job."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    node_rank: int = 0
    # Where the numbers come from, for people: "WORLD_SIZE=4 in the environment (torchrun)".
    source: str = "the default"


@dataclass(frozen=True)
class _Launcher:
    name: str
    rank: str
    world_size: str
    local_rank: str
    local_world_size: str
    node_rank: str


# A Slurm step (`srun`) counts, not the allocation: plain `python` in a batch script is one process, whatever
# SLURM_NTASKS says.
_LAUNCHERS = (
    _Launcher("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"),
    _Launcher(
        "Open MPI",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "OMPI_COMM_WORLD_NODE_RANK",
    ),
    _Launcher("MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", ""),
    _Launcher("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "", "SLURM_NODEID"),
)


def resolve(
    rank: int | None = None, world_size: int | None = None, environment: Mapping[str, str] | None = None
) -> Ranks:
    """The ranks of this process; arguments win over the environment.

    Raises:
        InvalidArgumentError: A variable is not a number, or the rank is not below the world size.
    """
    variables = os.environ if environment is None else environment
    if world_size is not None:
        return _checked(Ranks(rank or 0, world_size, source=f"the argument world_size={world_size}"))
    for launcher in _LAUNCHERS:
        if variables.get(launcher.rank) and variables.get(launcher.world_size):
            found = _from(launcher, variables)
            return found if rank is None else _checked(Ranks(rank, found.world_size, source=found.source))
    if rank:
        raise InvalidArgumentError(f"rank={rank} needs world_size, which neither an argument nor a launcher gives")
    return Ranks()


def _from(launcher: _Launcher, variables: Mapping[str, str]) -> Ranks:
    def number(name: str, default: int) -> int:
        given = variables.get(name, "") if name else ""
        if not given:
            return default
        if not given.isdecimal():
            raise InvalidArgumentError(f"{name}={given!r} in the environment ({launcher.name}) is not a whole number")
        return int(given)

    world_size = number(launcher.world_size, 1)
    return _checked(
        Ranks(
            number(launcher.rank, 0),
            world_size,
            number(launcher.local_rank, 0),
            number(launcher.local_world_size, 1),
            number(launcher.node_rank, 0),
            f"{launcher.world_size}={world_size} in the environment ({launcher.name})",
        )
    )


def _checked(ranks: Ranks) -> Ranks:
    if ranks.world_size < 1:
        raise InvalidArgumentError(f"world_size must be 1 or more, not {ranks.world_size} (from {ranks.source})")
    if not 0 <= ranks.rank < ranks.world_size:
        raise InvalidArgumentError(
            f"rank {ranks.rank} must be from 0 to {ranks.world_size - 1} (world_size from {ranks.source})"
        )
    return ranks
