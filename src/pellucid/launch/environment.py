"""The environment variables a worker starts with."""

from __future__ import annotations

from collections.abc import Mapping

from pellucid.settings import ALLOCATOR, WORKER_VARIABLE, WorkerSpec

__all__ = ["visible_gpu", "worker_environment"]


def worker_environment(
    environ: Mapping[str, str], spec: WorkerSpec, *, hash_seed: int, gpus: int
) -> dict[str, str]:
    """What a worker finds in ``os.environ``: the user's environment and as little more as can be.

    Args:
        environ: the launcher's own environment.
        spec: what the worker is told.
        hash_seed: with equal hashes, sets have the same order in all copies of the script.
        gpus: how many GPUs there are to share out.
    """
    given = ALLOCATOR | dict(environ)  # what the user sets stays
    given[WORKER_VARIABLE] = spec.dump()
    given["OMP_NUM_THREADS"] = str(spec.threads)  # the user's own is what `threads` came from
    given.setdefault("MKL_NUM_THREADS", str(spec.threads))
    if spec.workers > 1:
        if not given.get("PYTHONHASHSEED", "random").isdecimal():
            given["PYTHONHASHSEED"] = str(hash_seed)
        if spec.mode == "hogwild":
            given["CUDA_VISIBLE_DEVICES"] = ""  # a script takes a GPU where it finds one
        elif spec.device == "cuda":
            given["CUDA_VISIBLE_DEVICES"] = visible_gpu(environ, spec.index, gpus)
    return given


def visible_gpu(environ: Mapping[str, str], worker: int, gpus: int) -> str:
    """The one GPU a worker sees: the script's ``cuda:0`` is another one in each worker."""
    listed = [gpu.strip() for gpu in environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    visible = [gpu for gpu in listed if gpu][:gpus] or [str(gpu) for gpu in range(gpus)]
    return visible[worker % len(visible)]
