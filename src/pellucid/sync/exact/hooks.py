"""The script's hooks, checkpoints and compiled functions, seen from exact mode."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn.modules import module as of_all

from pellucid.sync.exact.aliases import aliased
from pellucid.sync.exact.outgoing import outgoing
from pellucid.sync.exact.region import Region, current, entered, inside, is_inside
from pellucid.sync.exact.replaced import replaced
from pellucid.sync.exact.script_hooks import (
    BackwardHook,
    ForwardHook,
    ScriptHook,
    is_torchs,
    on_whole,
)
from pellucid.sync.exact.view import whole_of

if TYPE_CHECKING:
    from pellucid.sync.exact.calls import Calls

__all__ = ["seams"]

Original = Callable[..., Any]

OUR_FRAMES: Final = 2  # between the script and a function that a seam answers

Seam = tuple[Any, str, Callable[..., Any]]
Latest = Callable[[], Region | None]


def seams(calls: Calls, others: Sequence[Seam]) -> list[Seam]:
    """Triples (owner, name, handler) for `patch_functions`.

    Args:
        calls: runs modules.
        others: seams within modules, which a compiled graph must not swallow.
    """
    apart: list[Seam] = list(others)

    def latest() -> Region | None:
        return calls.latest_region

    def backward_hook(original: Original, module: Any, hook: Any, *args: Any, **kwargs: Any) -> Any:
        """``register_full_backward_hook`` and its ``pre`` twin."""
        return original(module, BackwardHook(hook, latest), *args, **kwargs)

    def checkpoint(original: Original, function: Any, *args: Any, **kwargs: Any) -> Any:
        """What is run again in backward must be run as the same kind of call."""
        if not is_inside():
            return original(function, *whole_of(args), **whole_of(kwargs))
        return original(_again(function, calls, current()), *args, **kwargs)

    def compiled(original: Original, model: Any = None, **kwargs: Any) -> Any:
        """``torch.compile``: modules are compiled; a function runs as it is, its modules split."""
        if model is None:
            return lambda function: torch.compile(function, **kwargs)
        _end_graphs_at(apart)
        kwargs["fullgraph"] = False
        if isinstance(model, nn.Module):
            return original(model, **kwargs)
        fast = original(model, **kwargs)

        @functools.wraps(model)
        def function(*args: Any, **kwargs: Any) -> Any:
            return (fast if is_inside() else model)(*args, **kwargs)

        return function

    backward_hooks = ("register_full_backward_hook", "register_full_backward_pre_hook")
    return [
        (nn.Module, "register_forward_hook", _registers(keeps=True)),
        (nn.Module, "register_forward_pre_hook", _registers(keeps=False)),
        (of_all, "register_module_forward_hook", _registers(keeps=True)),
        (of_all, "register_module_forward_pre_hook", _registers(keeps=False)),
        *((nn.Module, name, backward_hook) for name in backward_hooks),
        (nn.Module, "__setstate__", _loads(latest)),
        (torch.Tensor, "register_hook", _tensor_hook),
        (torch.utils.checkpoint, "checkpoint", checkpoint),
        (torch.jit, "script", functools.partial(_scripted, others)),
        (torch, "compile", compiled),
    ]


def _tensor_hook(original: Original, tensor: Any, hook: Any) -> Any:
    """``Tensor.register_hook``, perhaps called by the module's own forward."""
    region = current()
    if region is None and (source := outgoing(whole_of(tensor))) is not None:
        return source.register(hook)
    ours = hook if region is None else on_whole(hook, region)
    return original(tensor, _of_gradients(ours) if tensor.is_leaf else ours)


def _of_gradients(hook: Original) -> Original:
    """A hook of a parameter, not called where backward comes by without a gradient.

    It does for all parameters of a module that has been split: see [Note: ties] in `gradients`.
    """

    @functools.wraps(hook, updated=())
    def answer(grad: torch.Tensor | None) -> Any:
        return None if grad is None else hook(grad)

    return answer


def _scripted(seams: Sequence[Seam], original: Original, *args: Any, **kwargs: Any) -> Any:
    """``torch.jit.script``: it reads the source of functions, and must find torch's own.

    It looks names up where it was called, which is further up than it thinks.
    """
    if len(args) <= 2:
        kwargs["_frames_up"] = kwargs.get("_frames_up", 0) + OUR_FRAMES
    answers = ((owner, name, getattr(owner, name)) for owner, name, _ in seams)
    own = [(owner, name, getattr(answer, "__wrapped__", answer)) for owner, name, answer in answers]
    with replaced(own):
        return original(*args, **kwargs)


def _end_graphs_at(seams: list[Seam]) -> None:
    """Keep the compiler out of functions that exchange rows or draw random numbers.

    It would take them for torch's own, put them into its graphs, and try them on fake values.

    Args:
        seams: emptied, so that it is done once.
    """
    while seams:
        owner, name, _ = seams.pop()
        if owner is not torch.Tensor:  # its methods the compiler does not look up
            setattr(owner, name, torch.compiler.disable(getattr(owner, name)))


def _loads(latest: Latest) -> Original:
    """Answers ``Module.__setstate__``: hooks of a copied or loaded module are the script's own."""
    backward = functools.partial(BackwardHook, latest=latest)
    tables: dict[str, Callable[[Any], ScriptHook]] = {
        "_forward_hooks": functools.partial(ForwardHook, keeps=True),
        "_forward_pre_hooks": functools.partial(ForwardHook, keeps=False),
        "_backward_hooks": backward,
        "_backward_pre_hooks": backward,
    }

    def answer(original: Original, module: Any, state: Any) -> None:
        original(module, state)
        for name, ours in tables.items():
            hooks = vars(module)[name]
            if name == "_backward_hooks" and not module._is_full_backward_hook:
                continue
            for key, hook in hooks.items():
                if not isinstance(hook, ScriptHook) and not is_torchs(hook):
                    hooks[key] = ours(hook)

    return answer


def _registers(*, keeps: bool) -> Original:
    """Answers what registers a forward hook of a module, or of all; `keeps`: see `ForwardHook`."""

    def answer(original: Original, *args: Any, hook: Any = None, **kwargs: Any) -> Any:
        *module, hook = args if hook is None else (*args, hook)
        # one that a module registers as it runs is a part of what it computes
        ours = hook if is_torchs(hook) or is_inside() else ForwardHook(hook, keeps=keeps)
        return original(*module, ours, **kwargs)

    return answer


def _again(function: Any, calls: Calls, region: Region | None) -> Any:
    """A checkpointed function that finds the same world again when backward runs it again."""
    module, way = calls.latest_module, calls.latest_way

    @functools.wraps(function, updated=())
    def answer(*args: Any, **kwargs: Any) -> Any:
        if is_inside() and current() is region:
            return function(*args, **kwargs)
        if region is None or module is None or way is None:
            with inside():
                return function(*args, **kwargs)
        tables = aliased(module, calls.reducer, again=True)
        with calls.as_kept(module), tables, inside(), way.seams(), entered(region):
            return function(*args, **kwargs)

    return answer
