"""Experiment trackers: services that would log a run once for every worker.

Each has a switch in the environment that makes it keep silent; followers have these set. What is
not listed here and not told otherwise will see every worker as a run of its own.
"""

from __future__ import annotations

import os

__all__ = ["Trackers"]

# tracker: variable, value for followers
SWITCHES = {
    "Weights & Biases": ("WANDB_MODE", "disabled"),
    "Comet": ("COMET_START_MODE", "offline"),
    "Neptune": ("NEPTUNE_MODE", "debug"),
    "ClearML": ("CLEARML_OFFLINE_MODE", "1"),
    "SwanLab": ("SWANLAB_MODE", "disabled"),
    "Hugging Face (counting of downloads)": ("HF_HUB_DISABLE_TELEMETRY", "1"),
}
# trackers that write where a variable says: a place that goes with the run
PLACES = {"MLflow": ("MLFLOW_TRACKING_URI", "file:{run_dir}/mlflow-{index}")}


class Trackers:
    """The trackers' switches in this process's environment.

    Args:
        run_dir: directory of the run.
        index: of this worker.
    """

    def __init__(self, run_dir: str, index: int) -> None:
        self._wanted = dict(SWITCHES.values())
        for variable, place in PLACES.values():
            self._wanted[variable] = place.format(run_dir=run_dir, index=index)
        self._before: dict[str, str | None] = {}

    def install(self) -> None:
        """Silence the trackers."""
        for variable, value in self._wanted.items():
            self._before[variable] = os.environ.get(variable)
            os.environ[variable] = value

    def undo(self) -> None:
        """Let the environment be what it was."""
        while self._before:
            variable, value = self._before.popitem()
            if value is None:
                del os.environ[variable]
            else:
                os.environ[variable] = value
