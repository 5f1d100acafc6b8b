"""What a solver file must say, asked before anything is built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.log import LOGGER
from pellucid.caffe.solver.optimizers import RULES, Rule
from pellucid.caffe.solver.policies import Schedule
from pellucid.errors import SettingsError

__all__ = ["check"]

_LEAST: Final = {
    "max_iter": 1,
    "iter_size": 1,
    "average_loss": 1,
    "display": 0,
    "snapshot": 0,
    "test_interval": 0,
    "base_lr": 0,
}
# fields that Caffe acts on and pellucid does not, if they are true
_IGNORED: Final = ("debug_info", "snapshot_diff")


def check(param: Any, path: str) -> None:
    """Refuse what could only fail later, or train nothing.

    Args:
        param: a SolverParameter.
        path: of its file.

    Raises:
        CaffeError: names the file, the line of the field if it is there, and what it may be.
    """
    for name, least in _LEAST.items():
        if (value := getattr(param, name)) < least:
            _refuse(path, name, f"{name} is {value}, and must be {least} or more")
    if not param.HasField("base_lr"):
        _refuse(path, "base_lr", "base_lr is missing: nothing would be learned. Add `base_lr: ...`")
    if any(count < 1 for count in param.test_iter):
        _refuse(path, "test_iter", f"test_iter is {list(param.test_iter)}: each must be 1 or more")
    if param.type not in RULES:
        known = ", ".join(RULES)
        _refuse(path, "type", f"unknown solver type {param.type!r}. It is one of: {known}")
    try:
        Schedule.of(param)
        rule = Rule.of(param)
        if rule.momentum and not RULES[param.type].momentum_allowed:
            _refuse(path, "momentum", f"solver type {param.type!r} has no momentum: drop it")
    except SettingsError as error:
        field = next((f for f in ("lr_policy", "regularization_type") if f in str(error)), "")
        _refuse(path, field, str(error))
    for name in _IGNORED:
        if getattr(param, name):
            LOGGER.warning("%s: %s is not supported, and ignored", path, name)


def _refuse(path: str, field: str, why: str) -> None:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    written = re.compile(rf"(?<!\w){field}\s*:") if field else re.compile("(?!)")
    line = next((k for k, text in enumerate(lines, 1) if written.search(text)), None)
    msg = f"{path}:{line}: {why}" if line else f"{path}: {why}"
    raise CaffeError(msg)
