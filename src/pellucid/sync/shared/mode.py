"""How a script is answered whose workers do not wait for each other: the asynchronous modes.

Every worker runs the whole script at its own pace. Batches of training passes are dealt out
(`passes.py`), the models' tensors are shared (`registry.py`), schedulers follow all workers'
progress (`schedulers.py`). *Who* deals and *how* weights are kept together is behind the two
protocols of `dealer.py`: that is all in which hogwild and stream differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

import pellucid
from pellucid.sync.shared.dealer import Dealer, Weights
from pellucid.sync.shared.loops import loop_around
from pellucid.sync.shared.part import Part
from pellucid.sync.shared.parts import parameters_of
from pellucid.sync.shared.passes import Passes
from pellucid.sync.shared.registry import Numbers, Registry
from pellucid.sync.shared.schedulers import Schedulers
from pellucid.sync.shared.script_thread import in_script_thread
from pellucid.transport.board import Field

__all__ = ["AsynchronousMode"]

Original = Callable[..., Any]

# enum members cost a lookup by name: too slow for what every step does
_STEPS, _SAMPLES, _TRAIN_NS = int(Field.STEPS), int(Field.SAMPLES), int(Field.TRAIN_NS)


class AsynchronousMode:
    """One worker's side of an asynchronous mode.

    Args:
        part: of this worker in the run.
        dealer: deals out batches.
        weights: keeps the workers' weights together.
        row: this worker's on the board: its counters are kept there.
    """

    def __init__(self, part: Part, dealer: Dealer, weights: Weights, row: memoryview) -> None:
        self.part = part
        self.weights = weights
        self._row = row
        self.passes = Passes(part, dealer, weights, self._batch_done)
        self.steps = 0  # of optimizers
        self.samples = 0  # that entered training forwards and were followed by a step
        self.train_ns = 0  # from the first step to the latest
        self._numbers = Numbers(lambda: self.passes.opened)
        self._registry = Registry(weights, self._numbers)
        self._schedulers = Schedulers(self.passes.pace)
        self._inside = False  # a module's call
        self._rows = 0  # that entered training forwards since the last step
        self._optimizers = False  # one has stepped
        self._first_step_ns = 0
        self._told_of_loop = False

    def seams(self) -> list[tuple[Any, str, Original]]:
        """Functions to answer: triples (owner, name, handler)."""
        return [
            *self._schedulers.seams(),
            (nn.Parameter, "__new__", self._numbers.made),
            (pellucid, "share", self.share),
        ]

    def iterate(self, original: Callable[[Any], Iterator[Any]], loader: Any) -> Iterator[Any]:
        """What ``iter(loader)`` gives the script."""
        self.look_up()
        return self.passes.iterate(original, loader)

    def share(self, original: Original, items: Any) -> Any:
        """What ``pellucid.share(items)`` gives the script."""
        return items if isinstance(items, DataLoader) else Shared(self.passes, original(items))

    def call(self, original: Original, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """What ``module(*args, **kwargs)`` gives the script."""
        if self._inside or not in_script_thread():
            return original(module, *args, **kwargs)
        self.passes.settle()
        if not torch.is_grad_enabled():
            return original(module, *args, **kwargs)
        training = self.passes.training
        if training is not None and parameters_of(module):
            if training.trial is not None:
                training.trial.note(module)
            elif self.passes.trains:
                self._registry.prepare(module)
        if module.training:
            self._rows = max(self._rows, _rows_of(args, kwargs))
        self._inside = True
        try:
            return original(module, *args, **kwargs)
        finally:
            self._inside = False

    def before_step(self, optimizer: Any, *_: Any) -> None:
        """An optimizer is about to step."""
        if not in_script_thread():
            return
        self.passes.settle()
        if self.passes.trains:
            self._registry.prepare_step(optimizer)
            self.weights.before_step(optimizer)

    def after_step(self, optimizer: Any, *_: Any) -> None:
        """An optimizer has stepped."""
        if not in_script_thread():
            return
        if self.passes.trains:
            self.weights.after_step(optimizer)
        elif not self.passes.changed():
            self._tell_of_loop()
        self._optimizers = True
        if not self.passes.rehearses:
            self._count()

    def _batch_done(self) -> None:
        """The script asks for another batch: where no optimizer steps, that is a step."""
        if not self._optimizers and self._rows and not self.passes.rehearses:
            self._count()

    def _count(self) -> None:
        self.steps += 1
        self.samples += self._rows
        self._rows = 0
        now = time.perf_counter_ns()
        self._first_step_ns = self._first_step_ns or now
        self.train_ns = now - self._first_step_ns
        self.look_up()
        row = self._row
        row[_STEPS], row[_SAMPLES], row[_TRAIN_NS] = self.steps, self.samples, self.train_ns

    def look_up(self) -> None:
        """What a worker looks at now and then; raises if it is to end."""

    def break_off(self) -> bool:
        """The script ends by an error or an exit code. Returns whether in the middle of a pass."""
        self.passes.break_off()
        return self.passes.broke_off

    def close(self) -> None:
        """The script has ended."""
        self.passes.close()

    def _tell_of_loop(self) -> None:
        """Weights were updated, but not in a loop that could be divided."""
        if self._told_of_loop:
            return
        self._told_of_loop = True
        if not self.part.leads():
            return
        loop = loop_around(self.part.frames())
        where = "the script's training loop"
        remedy = "iterate a DataLoader, or pellucid.share(...)"
        if loop is not None:
            where = f"the loop at {loop.path}:{loop.line} ({loop.text})"
            if loop.shared:
                remedy = f"write: {loop.shared}"
        self.part.tell(
            "notice",
            f"an optimizer steps outside of any loop over a DataLoader, so {where} is not divided: "
            f"{self._who_does_it()}. To divide it, import pellucid and {remedy}",
        )

    def _who_does_it(self) -> str:
        """Who does what is not divided."""
        if self.passes.divided:
            return "every worker does all of it by itself"
        return "one worker does it alone, with all threads"


class Shared:
    """Items that are divided among the workers wherever the script iterates them.

    Args:
        passes: of the script.
        items: what it iterates.
    """

    def __init__(self, passes: Passes, items: Any) -> None:
        self._passes = passes
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return self._passes.share(self)

    def __len__(self) -> int:
        return len(self.items)

    def __getattr__(self, name: str) -> Any:
        if name == "items":  # not there yet: while it is being copied
            raise AttributeError(name)
        return getattr(self.items, name)


def _rows_of(*values: Any) -> int:
    """Rows of the first batched input, also within dicts and lists; 0 if there is none."""
    for value in values:
        if isinstance(value, torch.Tensor):
            rows = int(value.shape[0]) if value.ndim else 0
        elif isinstance(value, Mapping):
            rows = _rows_of(*value.values())
        else:
            rows = _rows_of(*value) if isinstance(value, (list, tuple)) else 0
        if rows:
            return rows
    return 0
