"""Prove before you trust: may this module be split, and along which dimensions?

The first call of a module with inputs of a new kind is tried, without gradients, whole and split,
from the same random state; buffers, attributes and generators are put back after each trial. Only
if every worker finds its rows of the outputs, the buffers and the generators' end states equal, is
the module split from then on. The proof is repeated on the 10th, 100th, 1000th ... call.

What cannot be put back is not tried: hooks of the script are left out of the trials (in the real
call they see whole values), and what the module prints is swallowed and compared.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import nn

from pellucid.errors import DisputeError, DivergenceError, StoppedError
from pellucid.sync.exact import kept, prove_gradients, replicas
from pellucid.sync.exact.belongings import Belongings
from pellucid.sync.exact.compare import FailedError, compare, noise_among
from pellucid.sync.exact.proof import MIXES, Joint, Proof, UntriedError
from pellucid.sync.exact.race import BACKWARD, COST_SECONDS, GRADIENT_SECONDS, Race
from pellucid.sync.exact.region import Region, entered, guesses
from pellucid.sync.exact.rows import Rows
from pellucid.sync.exact.saved import Saved
from pellucid.sync.exact.tree import outputs_of
from pellucid.sync.exact.trial import Trial, traces_of, without_a_trace
from pellucid.sync.exact.view import whole_of
from pellucid.sync.exact.ways import Call, Way, ways_to_split
from pellucid.sync.shared import generators
from pellucid.sync.shared.parts import buffers_of, modules_of, parameters_of
from pellucid.transport.shared_memory import Group

__all__ = ["TOO_SMALL", "Prover", "agree", "numbers_of"]

# a forward that takes less may cost more to split than it saves, and is timed
SMALL_SECONDS: Final = 2e-3
TIMED_RUNS: Final = 4
# a worker that goes on alone has all the threads, and saves by them part of what splitting saves
MARGIN: Final = 2
MOST_COMPARED: Final = 1024  # numbers of an output that should be the same everywhere
UNLIKE: Final = "the workers take other steps, each by what is in its rows"
TOO_SMALL: Final = "it is too small: exchanging its results would take longer than computing them"


@dataclass
class _Attempt:
    """One way to split a call, to be held against the whole.

    Attributes:
        call: the call.
        way: the way.
        rows: which are whose.
        whole: the call, run whole.
        saved: what each run begins with.
        noise: places of outputs that are nothing but rounding, which slices need not repeat.
    """

    call: Call
    way: Way
    rows: Rows
    whole: Trial
    saved: Saved
    noise: frozenset[int] = frozenset()

    def region(self, group: Group) -> Region:
        """A region to run it in."""
        return self.way.region(group, self.rows)


class Prover:
    """Tries modules.

    Args:
        group: the workers, who vote.
        always_split: split also what is too small to gain by it.
        all_threads: of a worker that would go on alone.
    """

    def __init__(self, group: Group, *, always_split: bool = False, all_threads: int = 1) -> None:
        self._group = group
        self._always_split = always_split
        self._known: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._numbers = itertools.count()
        self.order = replicas.Order()  # of all parameters of modules
        self._all_threads = all_threads
        self._needs_graph = False
        self._small = False
        self._saving = 0.0

    def prove(self, call: Call, before: Proof | None) -> Proof:
        """Try a module on the inputs of a call.

        Args:
            call: the call.
            before: the proof to check again, or None.

        Returns:
            The proof, perhaps only about this call: its module is not yet initialised, or its
            trial raises, as then the real call should.
        """
        module = call.module
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in parameters_of(module)):
            return Proof(None, passing=True)
        if any(isinstance(m, torch.jit.ScriptModule) for m in modules_of(module)):
            return Proof(None, why="a TorchScript module cannot be looked into")
        self._agree_on_parameters(module)
        kept.settle(module)
        saved = Saved(module)
        call = call.on_copies()
        contents = call.contents()
        given = Belongings([("inputs", call.inputs)])
        try:
            whole = self._first_trial(saved, given, call.whole)
        except (DivergenceError, StoppedError):
            raise
        except Exception as error:
            saved.restore()
            given.restore()
            return _untried(error)
        changes = given.changes()
        given.restore()
        if changes or any(of_input.is_changed() for of_input in contents):
            return Proof(None, why="it changes its inputs in place")
        if whole.decides:
            return Proof(None, why=whole.decides)
        self._agree_on_time(whole)
        proof = self._search(call, before, whole, saved)
        proof.traces = traces_of(whole, saved)
        proof.varies = call.has_counts()
        if before:
            proof.calls = proof.checked = before.calls
            proof.numbers, proof.restless = before.numbers, before.restless
            proof.wanting = before.wanting
        return proof

    def _search(self, call: Call, before: Proof | None, whole: Trial, saved: Saved) -> Proof:
        """The first way that stands, or the reason against the first that was tried."""
        if before and before.kept != whole.kept:
            return Proof(None, why="it keeps tensors in its attributes in some calls only")
        why = ""
        too_few = False
        ways = _ways_of(call, before)
        noise = self._noise_of(call, whole)
        for way in ways:
            rows = call.division(way, self._group)
            if rows is None:
                too_few = too_few or not why  # of the likeliest way
                continue
            attempt = _Attempt(call, way, rows, whole, saved, noise)
            with guesses() as guessed:
                outputs, reason = self._try(attempt, timed=self._small)
            if outputs is not None:
                if not self._pays(call.module):
                    return Proof(None, why=TOO_SMALL)
                alike = before.alike if before else ()
                if not before:
                    reason, alike = self._try_others(attempt, outputs)
                    reason = reason or self._try_gradients(attempt, outputs)
                if reason:
                    why = why or reason
                    continue
                # what counts its calls may do something else later: look more often
                counts = any(whole.attributes)
                checks = before.next_check if before else 1
                # and the second call will find what the first one keeps
                if before.calls >= checks if before else not whole.kept:
                    checks *= 2 if counts else 10
                return Proof(
                    way,
                    outputs,
                    whole.kept,
                    guessed=bool(guessed),
                    next_check=checks,
                    counts=counts,
                    alike=alike,
                )
            if not why or (why == MIXES and way.reduces and way.dims == ways[0].dims):
                why = reason  # a loss among its outputs always mixes rows, until it is told apart
        # with fewer rows than workers, this time, there is nothing to explain
        return Proof(None, why="" if too_few and not before else why)

    def _try(
        self, attempt: _Attempt, *, timed: bool = False
    ) -> tuple[tuple[Joint, ...] | None, str]:
        """One way against the whole, on all workers; the joined dims, or None and a reason."""
        call, whole, saved = attempt.call, attempt.whole, attempt.saved
        region = attempt.region(self._group)
        outputs: tuple[Joint, ...] | None = None
        why = ""

        def split() -> Any:
            kept.Guard(whole.kept)
            return call.split(region, attempt.way)

        try:
            trial = self._trial(saved, split)
            outputs = compare(whole, trial, region, attempt.noise)
            # the first runs paid for warming up, and any may be disturbed: the best of some counts
            for _ in range(TIMED_RUNS if timed else 0):
                whole.seconds = min(whole.seconds, self._trial(saved, call.whole).seconds)
                trial.seconds = min(trial.seconds, self._trial(saved, split).seconds)
            self._saving = whole.seconds - trial.seconds
        except StoppedError:
            raise
        except FailedError as failed:
            why = str(failed)
        except kept.ReadError:
            why = kept.goes_by(whole.kept)
            saved.restore()
        except DivergenceError:
            why = UNLIKE
            saved.restore()
        except Exception as error:  # a module that cannot take rows is run whole
            why = f"on a slice of the batch it raises {type(error).__name__}: {_line(error)}"
            saved.restore()
        why = self._agreed(why)
        return (None, why) if why else (outputs, "")

    def _try_others(
        self, attempt: _Attempt, outputs: tuple[Joint, ...]
    ) -> tuple[str, tuple[int, ...]]:
        """Try a way with other weights, too.

        Where a model begins with zeros, in its last layer perhaps, a mean over all rows is the same
        as that over some. It is not for long. So is what a student has learned beside its teacher.

        Returns:
            A reason against it, "" if there is none; and the places of numbers that may be the
            same everywhere by chance: those that other weights do not change, such as how many
            answers are right.
        """
        leaves = outputs_of(attempt.whole.output)
        pairs = enumerate(zip(leaves, outputs, strict=True))
        same = {
            k: numbers
            for k, (leaf, dim) in pairs
            if dim is None and (numbers := numbers_of(leaf)) is not None
        }
        if not same and not attempt.noise:
            return "", ()
        unknown = MIXES if attempt.noise else ""
        with attempt.saved.other_weights() as others:
            if others is None:
                return unknown, tuple(same)
            try:
                whole = self._trial(others, attempt.call.whole)
            except (DivergenceError, StoppedError):
                raise
            except Exception:  # they are no weights that it could have
                others.restore()
                return unknown, tuple(same)
            noise: frozenset[int] = frozenset()
            found, why = self._try(replace(attempt, whole=whole, saved=others, noise=noise))
        if found != outputs:
            return why or MIXES, ()
        changed = outputs_of(whole.output)
        return "", tuple(k for k, was in same.items() if _is_still(was, changed[k]))

    def _noise_of(self, call: Call, whole: Trial) -> frozenset[int]:
        """Places of outputs that are nothing but rounding, by any worker's."""
        mine = torch.tensor(noise_among(outputs_of(whole.output), call.leaves))
        found = self._group.all_reduce("outputs that are noise", mine.int()).tolist()
        return frozenset(k for k, count in enumerate(found) if count)

    def _try_gradients(self, attempt: _Attempt, outputs: tuple[Joint, ...]) -> str:
        """Go backward from one way and from the whole; a reason against it, "" if there is none."""
        call, way, saved = attempt.call, attempt.way, attempt.saved
        wanted = prove_gradients.wanted_of(call.module)
        if not torch.is_grad_enabled() or not wanted or _has_backward_hooks(call.module):
            return ""
        weights = prove_gradients.weights_of(attempt.whole.output)
        places = attempt.whole.kept

        def run() -> Any:
            return call.whole(), kept.values(places)

        told, whole = self._whole_gradients(run, saved, weights, wanted)
        if told is prove_gradients.Told.NOTHING:
            return ""
        if told is prove_gradients.Told.DRAWS:
            return "it draws random numbers in backward"
        region = attempt.region(self._group)

        def split() -> Any:
            kept.Guard(places)
            return call.rows(region, way), kept.values(places)

        why = ""
        try:
            with way.seams(), entered(region):  # what is checkpointed is run again
                mine, _ = self._gradients(
                    saved, split, prove_gradients.part_of(weights, outputs, region), wanted
                )
            if not prove_gradients.add_up(self._group, wanted, mine, whole):
                why = prove_gradients.NO_SUM
        except StoppedError:
            raise
        except DivergenceError:
            why = UNLIKE
            saved.restore()
        except Exception as error:  # as of a module that cannot take rows
            why = f"going backward on a slice raises {type(error).__name__}: {_line(error)}"
            saved.restore()
        return self._agreed(why)

    def _whole_gradients(
        self,
        run: Callable[[], Any],
        saved: Saved,
        weights: prove_gradients.Weights,
        wanted: Sequence[torch.Tensor],
    ) -> tuple[prove_gradients.Told, prove_gradients.Gradients | None]:
        """Those of the whole batch, which one worker computes: all would take memory for as many.

        Returns:
            What all are to know of it; the gradients, where they were computed.
        """
        leader, whole = self._group.living[0], None
        told = prove_gradients.Told.NOTHING
        if self._group.index == leader:
            try:
                whole, draws = self._gradients(saved, run, weights, wanted)
            except (DivergenceError, StoppedError):
                raise
            except Exception:  # the script will see it, where it goes backward itself
                saved.restore()
            else:
                told = prove_gradients.Told.DRAWS if draws else prove_gradients.Told.FOUND
        taken = self._group.swap("whole gradients", [torch.tensor([told])])
        if leader not in taken:  # it has died: nobody can say
            return prove_gradients.Told.NOTHING, None
        return prove_gradients.Told(int(taken[leader][0].view(torch.int64))), whole

    def _gradients(
        self,
        saved: Saved,
        run: Callable[[], Any],
        weights: prove_gradients.Weights,
        wanted: Sequence[torch.Tensor],
    ) -> tuple[prove_gradients.Gradients, bool]:
        """Gradients of a run of which nothing stays, and whether going backward draws numbers."""
        with without_a_trace(saved), torch.enable_grad():
            output = run()
            before = saved.states()
            found = prove_gradients.gradients(output, weights, wanted)
            draws = not generators.same(before, saved.states())
        saved.restore()
        return found, draws

    def _agree_on_time(self, whole: Trial) -> None:
        """The slowest worker's time counts: what follows from it must be the same for all."""
        if not self._always_split:
            mine = torch.tensor([whole.seconds], dtype=torch.float64)
            taken = self._group.swap("time", [mine])
            whole.seconds = max(float(parts[0].view(torch.float64)) for parts in taken.values())
            self._small = whole.seconds < SMALL_SECONDS

    def _pays(self, module: nn.Module) -> bool:
        """Whether splitting saves more than it costs; all workers decide alike."""
        if not self._small:
            return True
        saving, cost = self._saving, COST_SECONDS
        gradients = _gradient_bytes(module)
        if torch.is_grad_enabled() and gradients:
            saving *= BACKWARD
            cost = 2 * COST_SECONDS + gradients * GRADIENT_SECONDS
        taken = self._group.swap("saving", [torch.tensor([saving], dtype=torch.float64)])
        return min(float(parts[0].view(torch.float64)) for parts in taken.values()) > MARGIN * cost

    def race(self, call: Call, way: Way, rows: Rows) -> Race | None:
        """Time a training call both ways; None where that cannot be.

        Args:
            call: the call; nothing of it stays.
            way: how it is split.
            rows: which are whose.
        """
        if not _trains(call):
            return None
        saved = Saved(call.module)
        call = call.on_copies()
        whole_of(call.inputs)  # of views, by all: the leader alone could not
        region = way.region(self._group, rows)

        def split() -> Any:
            return call.split(region, way)

        # first all on slices: threads of the whole would go on spinning, on the others' cores
        times = [self._median_seconds(call.module, saved, split), 0.0]
        self._group.swap("raced", [])  # nobody computes any more
        if self._group.index == self._group.living[0]:
            threads = torch.get_num_threads()
            torch.set_num_threads(self._all_threads)
            times[1] = self._median_seconds(call.module, saved, call.whole)
            torch.set_num_threads(threads)
        else:  # leave it the cores: who waits for an exchange looks up all the time, at first
            time.sleep(min(1.0, (1 + TIMED_RUNS) * times[0]))
        taken = self._group.swap("race", [torch.tensor(times, dtype=torch.float64)])
        found = [parts[0].view(torch.float64).tolist() for parts in taken.values()]
        splits, alone = (max(each) for each in zip(*found, strict=True))
        return Race(splits, alone) if math.isfinite(splits + alone) else None

    def _median_seconds(self, module: nn.Module, saved: Saved, run: Callable[[], Any]) -> float:
        """Of some runs, after one to warm up.

        Not of the best: threads that wait for each other suffer most from others on the machine.
        """
        self._step_seconds(module, saved, run)
        return statistics.median(self._step_seconds(module, saved, run) for _ in range(TIMED_RUNS))

    def _step_seconds(self, module: nn.Module, saved: Saved, run: Callable[[], Any]) -> float:
        """Seconds of a forward and a backward of which nothing stays."""
        with without_a_trace(saved), torch.enable_grad():
            began = time.perf_counter()
            leaves = [leaf for leaf in outputs_of(run()) if isinstance(leaf, torch.Tensor)]
            roots = [leaf.sum() for leaf in leaves if leaf.requires_grad and not leaf.is_complex()]
            wanted = prove_gradients.wanted_of(module)
            if roots and wanted and not _has_backward_hooks(module):
                try:
                    torch.autograd.grad(roots, wanted, allow_unused=True)
                except (DivergenceError, StoppedError):
                    raise
                except Exception:  # the script will see it, where it goes backward itself
                    saved.restore()
                    return math.inf
            seconds = time.perf_counter() - began
        saved.restore()
        return seconds

    def _first_trial(self, saved: Saved, given: Belongings, run: Callable[[], Any]) -> Trial:
        """Run as those that follow it, which need a graph if this one does."""
        self._needs_graph = False
        try:
            return self._trial(saved, run)
        except (DivergenceError, StoppedError, UntriedError):
            raise
        except Exception:  # what the script's own code raises, perhaps for want of a graph
            if not torch.is_grad_enabled():
                raise
        saved.restore()
        given.restore()
        self._needs_graph = True  # of a forward that goes backward, to forces from an energy
        return self._trial(saved, run)

    def _trial(self, saved: Saved, run: Callable[[], Any]) -> Trial:
        """Run from the saved state without side effects, and note what changed."""
        with torch.set_grad_enabled(self._needs_graph), without_a_trace(saved) as out:
            began = time.perf_counter()
            output = run()
            if torch.cuda.is_initialized():  # what was started there is not over yet
                torch.cuda.synchronize()
            seconds = time.perf_counter() - began
        attributes, places = saved.attributes()
        trial = Trial(
            (output, kept.values(places)),
            saved.states(),
            saved.parameters(),
            saved.buffers(),
            attributes,
            places,
            out.getvalue(),
            seconds,
            saved.decides(),
        )
        saved.restore()
        return trial

    def _agreed(self, why: str) -> str:
        """The first worker's reason against something; "" if nobody has one."""
        while True:
            try:
                text = torch.frombuffer(bytearray(why.encode() or b"\0"), dtype=torch.uint8)
                taken = self._group.swap("vote", [text])
            except DisputeError:
                raise
            except DivergenceError:
                # somebody's trial broke off while others were exchanging values inside theirs
                why = why or UNLIKE
                continue
            said = [parts[0].numpy().tobytes().decode() for parts in taken.values()]
            reasons = [text for text in said if text != "\0"]
            return next((text for text in reasons if text != UNLIKE), "".join(reasons[:1]))

    def _agree_on_parameters(self, module: nn.Module) -> None:
        """See that all workers' copies of a module start alike."""
        if module not in self._known:
            self._known.add(module)
            values = (*parameters_of(module), *buffers_of(module))
            replicas.adopt(self._group, [value for value in values if value.numel()])
            for parameter in parameters_of(module):
                self.order.setdefault(parameter, next(self._numbers))


def _untried(error: Exception) -> Proof:
    """Of a module that could not be run whole, as a trial."""
    if isinstance(error, UntriedError):
        return Proof(None, why=str(error))
    # the script's own: the real call will raise it, too
    raised = f"tried without its hooks, it raises {type(error).__name__}: {_line(error)}"
    return Proof(None, why=raised, passing=True)


def _has_backward_hooks(module: nn.Module) -> bool:
    """Whether the script wants to be called during backward."""
    return any(m._backward_hooks or m._backward_pre_hooks for m in modules_of(module)) or any(
        p._backward_hooks for p in parameters_of(module)
    )


def _trains(call: Call) -> bool:
    """Whether a call trains, on the CPU."""
    on_cpu = all(not leaf.is_cuda for leaf in call.leaves if isinstance(leaf, torch.Tensor))
    return on_cpu and call.module.training and torch.is_grad_enabled()


def _gradient_bytes(module: nn.Module) -> int:
    return sum(p.nbytes for p in prove_gradients.wanted_of(module))


def _ways_of(call: Call, before: Proof | None) -> list[Way]:
    if before is None:
        return ways_to_split(call)
    return [before.way] if before.way else []


def numbers_of(leaf: Any) -> torch.Tensor | None:
    """A number or a small tensor as one that can be compared; None of anything else."""
    if isinstance(leaf, bool | int | float):
        return torch.tensor([leaf], dtype=torch.float64)
    if isinstance(leaf, torch.Tensor) and leaf.numel() <= MOST_COMPARED and not leaf.is_complex():
        return leaf.detach().to("cpu", torch.float64).reshape(-1)
    return None


def _is_still(was: torch.Tensor, leaf: Any) -> bool:
    """Whether a leaf's numbers are what they were."""
    now = numbers_of(leaf)
    return now is None or torch.equal(was, now)


def agree(group: Group, mine: Sequence[torch.Tensor]) -> bool:
    """Whether all workers have the same numbers, up to rounding. A collective operation."""
    numbers = torch.cat([*mine, torch.empty(0, dtype=torch.float64)])
    taken = group.swap("outputs that are alike", [numbers])
    return all(
        parts[0].numel() == numbers.nbytes
        and torch.allclose(parts[0].view(torch.float64), numbers, 1e-4, 1e-9, equal_nan=True)
        for parts in taken.values()
    )


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:160]
