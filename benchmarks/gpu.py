"""What `pellucid run` costs on one GPU: ResNet-50 on synthetic images, as a ratio to plain python.

Rounds of plain python, one worker, and two workers that share the GPU, one after the other; the
ratios are taken within a round. One worker is to cost less than 1%.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --quick    # does it run? numbers worth nothing
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median

SCRIPT = Path(__file__).parent / "workloads" / "resnet50.py"
QUICK = ["--batch-size", "4", "--size", "32", "--warmup", "2", "--steps", "2"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--quick", action="store_true", help="one round of very few steps")
    args = parser.parse_args()
    script = [str(SCRIPT), "--device", args.device, *(QUICK if args.quick else [])]
    launch = ["-m", "pellucid", "run", "--device", args.device, "--quiet", "--workers"]
    ratios: dict[str, list[float]] = {"1": [], "2": []}
    for _ in range(1 if args.quick else args.rounds):
        plain = _speed(script)
        for workers, found in ratios.items():
            found.append(_speed([*launch, workers, *script]) / plain)
    for workers, found in ratios.items():
        spread = f"[{min(found):.3f}..{max(found):.3f}]"
        print(f"{workers} worker(s) on one {args.device}: {median(found):.3f} {spread} of python")


def _speed(command: list[str]) -> float:
    """Samples a second that the script printed."""
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, timeout=600
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("samples_per_second ")]
    if done.returncode or not lines:
        sys.exit(f"{' '.join(command)} failed with exit code {done.returncode}:\n{done.stderr}")
    return float(lines[0].split()[1])


if __name__ == "__main__":
    main()
