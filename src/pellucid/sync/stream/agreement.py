"""How the workers of a box that walk in step come to one answer, though only the first one can ask.

[Note: agreement]
Where the workers of a box divide each batch, all come by the same questions to the other boxes, in
the same order. The first worker finds the answer, and all get it by one exchange of their group.
While the first one waits, it lets the others know: so the launcher sees that nobody stands still,
and a wish to end the run, which comes at any time, ends all of them at the same place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

import msgspec
import torch

from pellucid.errors import PellucidError, StoppedError, UnsupportedError
from pellucid.sync.shared.script_thread import in_script_thread
from pellucid.transport.shared_memory import Group

__all__ = ["Agreement"]

_ANSWER, _WAIT, _LEAVE, _ERROR = range(4)
_FIRST: Final = 0  # the worker that talks to the other boxes


class Agreement:
    """See [Note: agreement].

    Args:
        group: the workers of the box.
        start: makes sure that all of them run.
        leads: whether this box leads; asked in the first worker only.
        look_up: raises if the workers are to end; called in the first worker only.
    """

    def __init__(
        self,
        group: Group,
        start: Callable[[], None],
        leads: Callable[[], bool],
        look_up: Callable[[], None],
    ) -> None:
        self._group = group
        self._start = start
        self._asks_leads = leads
        self._look_up = look_up
        self._kind = ""  # of the question that is being answered
        self.is_first = group.index == _FIRST
        self.leads = False  # whether this box led at the latest answer, the same in all workers
        self.over = False  # nothing is agreed on any more: the workers unwind

    @property
    def alone(self) -> bool:
        """Whether the others are dead or have stood down; these may still read what was said."""
        return self._group.living == [self._group.index]

    def ask(self, kind: str, question: Callable[[], Any]) -> Any:
        """The answer to a question, in all workers. A collective operation.

        Args:
            kind: names the question.
            question: finds the answer, which msgpack must be able to hold; called in the first
                worker only.

        Raises:
            StoppedError: the first worker came to an error or is dead, or the run is being stopped.
            PellucidError: the error, in the first worker.
            UnsupportedError: it is asked from a thread in which workers do not walk in step.
        """
        if not in_script_thread():
            msg = (
                "a training pass goes on in another thread than it began in, where the workers of "
                "a box cannot walk in step. Iterate the loader in the main thread, or use "
                "--within hogwild"
            )
            raise UnsupportedError(msg)
        if self.over:
            msg = "the workers of this box do not go on together"
            raise StoppedError(msg)
        self._start()
        return self._answer(kind, question) if self.is_first else self._hear(kind)

    def wait(self) -> None:
        """The first worker waits for the other boxes: let the workers of this one know."""
        if self._kind:
            self._say(self._kind, _WAIT, None)

    def spread(self, kind: str, arrays: list[torch.Tensor]) -> None:
        """Give all workers the first one's values. A collective operation.

        Args:
            kind: what they are.
            arrays: of the same shapes and dtypes in all workers; together they fit a slot.
        """
        if self.alone:
            return
        taken = self._group.swap(kind, arrays if self.is_first else [])
        if not self.is_first:
            for array, data in zip(arrays, self._first_part(taken), strict=True):
                array.copy_(data.view(array.dtype).view(array.shape))

    def _answer(self, kind: str, question: Callable[[], Any]) -> Any:
        self._kind = kind
        try:
            self._look_up()
            answer = question()
        except (PellucidError, SystemExit) as error:
            self.over = True
            self._say(kind, _LEAVE if isinstance(error, SystemExit) else _ERROR, str(error))
            raise
        finally:
            self._kind = ""
        self.leads = self._asks_leads()
        self._say(kind, _ANSWER, answer)
        return answer

    def _say(self, kind: str, word: int, value: Any) -> None:
        if not self.alone:
            said = msgspec.msgpack.encode((word, self.leads, value))
            self._group.swap(kind, [torch.frombuffer(bytearray(said), dtype=torch.uint8)])

    def _hear(self, kind: str) -> Any:
        word = _WAIT
        while word == _WAIT:
            (said,) = self._first_part(self._group.swap(kind, []))
            word, self.leads, value = msgspec.msgpack.decode(said.numpy().tobytes())
        if word != _ANSWER:
            self._end(word, value)
        return value

    def _end(self, word: int, text: str) -> NoReturn:
        self.over = True
        if word == _LEAVE:
            raise SystemExit(0)
        raise StoppedError(text)

    def _first_part(self, taken: dict[int, list[torch.Tensor]]) -> list[torch.Tensor]:
        if _FIRST not in taken:
            self.over = True
            msg = "the box's first worker has ended, and this one with it"
            raise StoppedError(msg)
        return taken[_FIRST]
