"""Importing pellucid starts nothing, patches nothing, and does not import torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in (SOURCE / "pellucid").rglob("*.py")
    if path.name != "__main__.py"  # to import that is to run the command
)
# what a worker alone imports, once torch is there
WITH_TORCH = (
    "pellucid.caffe.",  # an ordinary torch program; `pellucid.cli.caffe` starts it
    "pellucid.params.flat",
    "pellucid.sync.exact.",
    "pellucid.sync.hogwild.dealer",
    "pellucid.sync.hogwild.mode",
    "pellucid.sync.hogwild.weights",
    "pellucid.sync.shared.",
    "pellucid.sync.stream.dealer",
    "pellucid.sync.stream.exchange",
    "pellucid.sync.stream.agree",
    "pellucid.sync.stream.lockstep",
    "pellucid.sync.stream.mirror",
    "pellucid.sync.stream.mode",
    "pellucid.sync.stream.relay",
    "pellucid.sync.stream.weights",
    "pellucid.transport.collective",
    "pellucid.transport.shared_memory",
)
WITHOUT_TORCH = [m for m in MODULES if not m.startswith(WITH_TORCH)]


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("module", ["pellucid", "pellucid.cli", "pellucid.launch.local"])
def test_what_a_user_imports_or_starts_imports_no_torch(module: str) -> None:
    done = run(f"import sys, {module}; print([m for m in sys.modules if m.startswith('torch')])")
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_importing_pellucid_imports_next_to_nothing() -> None:
    done = run(
        "import sys; before = set(sys.modules); import pellucid;"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    assert "numpy" not in done.stdout
    assert "pellucid" in done.stdout


def test_only_what_must_imports_torch() -> None:
    done = run(
        f"import importlib, sys\nfor name in {WITHOUT_TORCH!r}:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(f'{name} imports torch')"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


STARTS_NOTHING = """
import builtins, importlib, os, random, signal, sys, threading
import numpy as np, torch, torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

watched = [builtins, os, sys, random, signal]
watched += [np.random, torch, F, nn.Module, torch.Tensor, DataLoader]
def look():
    return [dict(vars(owner)) for owner in watched]
def handlers():
    return [signal.getsignal(number) for number in signal.valid_signals()]
threads, children = threading.active_count(), os.listdir(f"/proc/{os.getpid()}/task")
files, environ, before, caught = os.listdir("/proc/self/fd"), dict(os.environ), look(), handlers()
torch.manual_seed(3), random.seed(3), np.random.seed(3)
drawn = torch.rand(1).item(), random.random(), np.random.rand()
torch.manual_seed(3), random.seed(3), np.random.seed(3)
for name in MODULES:
    importlib.import_module(name)
    for owner, was, now in zip(watched, before, look()):
        changed = [k for k in was if now.get(k) is not was[k] and k != "__warningregistry__"]
        assert not changed, (name, owner, changed)
    assert threading.active_count() == threads, name
    assert dict(os.environ) == environ, name
    assert handlers() == caught, name
assert len(os.listdir("/proc/self/fd")) == len(files)
assert len(os.listdir(f"/proc/{os.getpid()}/task")) == len(children)
assert (torch.rand(1).item(), random.random(), np.random.rand()) == drawn
"""


def test_importing_any_of_it_starts_and_patches_nothing() -> None:
    done = run(STARTS_NOTHING.replace("MODULES", repr(MODULES)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_version_is_there() -> None:
    done = run("import pellucid; print(pellucid.__version__)")
    assert done.stdout.strip(), done.stderr
