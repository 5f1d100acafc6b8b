"""What a result was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

__all__ = ["commit", "machine"]


def machine() -> dict[str, Any]:
    """Processor, memory, versions."""
    import torch

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def commit() -> str:
    """The commit of the repository, and whether it was changed."""

    def git(*command: str) -> str:
        folder = Path(__file__).parent
        done = subprocess.run(
            ["git", *command], cwd=folder, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    found = git("rev-parse", "HEAD") or "none"
    return f"{found} with changes" if git("status", "--porcelain") else found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
