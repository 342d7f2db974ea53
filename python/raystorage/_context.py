"""What a training loop may ask about its place, in Ray's words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._ranks import Ranks


@dataclass(frozen=True)
class StorageContext:
    """Where the run lies.

    Attributes:
        storage_path: What runs lie below.
        experiment_dir_name: The run's name.
        experiment_fs_path: The run's directory or URI.
    """

    storage_path: str
    experiment_dir_name: str
    experiment_fs_path: str


class RunContext:
    """The place of this process in its job, and its run."""

    def __init__(self, ranks: Ranks, storage: StorageContext) -> None:
        """Made by a run."""
        self._ranks = ranks
        self._storage = storage

    def get_world_rank(self) -> int:
        """This process among all of the job, from 0."""
        return self._ranks.rank

    def get_world_size(self) -> int:
        """How many processes the job has."""
        return self._ranks.world_size

    def get_local_rank(self) -> int:
        """This process among those of its machine, from 0."""
        return self._ranks.local_rank

    def get_local_world_size(self) -> int:
        """How many processes of the job run on this machine."""
        return self._ranks.local_world_size

    def get_node_rank(self) -> int:
        """This machine among those of the job, from 0."""
        return self._ranks.node_rank

    def get_experiment_name(self) -> str:
        """The run's name."""
        return self._storage.experiment_dir_name

    def get_trial_name(self) -> str:
        """The same: a run is its only trial."""
        return self._storage.experiment_dir_name

    def get_storage(self) -> StorageContext:
        """Where the run lies."""
        return self._storage

    def __repr__(self) -> str:
        """Rank and run."""
        return f"RunContext(rank={self._ranks.rank}, world_size={self._ranks.world_size}, pid={os.getpid()})"
