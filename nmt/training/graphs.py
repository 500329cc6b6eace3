"""Forward and backward passes as CUDA graphs: thousands of small kernels that the host starts with one call.

A recurrent model spends an update in kernels so short that a GPU waits for the host to start the next. A graph records
them once, as they ran for a batch of one shape, and plays them again for every later batch of that shape.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nmt.data.batches import Batch
from nmt.model.scheduled import settled
from nmt.sizes import rounded_up
from nmt.training.loss import LossFunction, add_gradients

log = logging.getLogger(__name__)

# batches before the first capture, in which libraries start, gradients get their memory, and waits are noticed
_WARM_UP = 3
# graphs kept at most; each takes memory of its own for what it launches
_LIMIT = 256
# Sizes are padded to multiples of these: a recurrence takes as long as it has positions, whatever the sentences, and a
# shape costs as much as some twenty updates to capture.
_SENTENCES, _POSITIONS = 16, 4
# graphs whose capture failed: torch's allocator goes on asking them, at each later capture, whether memory is theirs
_FAILED: list[torch.cuda.CUDAGraph] = []
_Shape = tuple[tuple[str, tuple[int, ...]], ...]


class Graphs:
    """Adds the gradients of batches to a model's, by CUDA graphs where that can be.

    Batches are padded to few shapes: numbers of sentences to multiples of 16, or powers of two below, of source and
    target positions to multiples of 4, all to at most four significant binary digits (17 positions become 20, 61 become
    64), the number of links to a power of two. What is computed depends on nothing else: graphs and eager passes give
    the same up to rounding, dropout included.

    A shape is captured when it is first met. All work must be queued inside :func:`own_stream`. Eager are the first
    batches, those of shapes beyond the 256th, all while a part of the model still changes by a schedule (Gumbel's
    temperature, a coverage loss that waits), and all of a model that cannot be captured: one that looks at values on
    the device, as the first batches show, or one of whose captures fails. The log says so once.

    The parameters' gradients must keep their memory between calls: set them to zero, not to None.
    """

    def __init__(self, model: Any, loss_function: LossFunction) -> None:
        """Capture nothing yet.

        Args:
            model: the model, on a CUDA device.
            loss_function: gives the loss of a batch on that device.
        """
        self._model, self._loss_function = model, loss_function
        self._device: torch.device = next(model.parameters()).device
        self._graphs: dict[_Shape, _Graph] = {}
        self._pool = None
        self._seen = 0
        self._ended = False

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._graphs)

    def add_gradients(self, batch: Batch, tokens: Tensor, sums: Tensor) -> None:
        """Do what :func:`nmt.training.loss.add_gradients` does, for a batch in main memory."""
        batch = in_few_shapes(batch)
        shape = tuple((name, tuple(tensor.shape)) for name, tensor in batch.tensors.items())
        if shape not in self._graphs and self._may_capture():
            self._capture(shape, batch)
        graph = self._graphs.get(shape)
        if graph is not None:
            graph.replay(batch, tokens, sums)
            return
        watched = self._seen < _WARM_UP
        with _waits() if watched else _nothing() as found:
            add_gradients(self._model, self._loss_function, batch.to(self._device), tokens, sums)
        self._seen += 1
        if found and not self._ended:
            self._end(f"the host waits for the device ({found[0]})")

    def _may_capture(self) -> bool:
        return not self._ended and self._seen >= _WARM_UP and settled(self._model)

    def _capture(self, shape: _Shape, batch: Batch) -> None:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        try:
            self._graphs[shape] = _Graph(self._model, self._loss_function, batch.to(self._device), self._pool)
        except Exception as error:  # whatever it is, the eager pass that follows meets it again or does without
            # those that there are would go on drawing from the generator's state of before
            self._graphs.clear()
            _reset_generator(self._device)
            self._end(_cause(error))
            return
        if len(self._graphs) == _LIMIT:
            self._end("as many as are kept")

    def _end(self, reason: str) -> None:
        """Capture no more."""
        self._ended = True
        name, count = type(self._model).__name__, len(self._graphs)
        kept = f"{count} shapes of batches are CUDA graphs, all others run eagerly" if count else "it runs eagerly"
        log.info("%s: no %sCUDA graphs: %s; %s", name, "more " if count else "", reason, kept)


class _Graph:
    """The recorded passes for batches of one shape."""

    def __init__(self, model: Any, loss_function: LossFunction, batch: Batch, pool: Any) -> None:
        """Record them, computing nothing.

        Args:
            model: the model.
            loss_function: gives the loss.
            batch: on the device; its memory is where later batches go.
            pool: memory shared by all graphs.

        Raises:
            RuntimeError: there is something that cannot be recorded.
        """
        device = batch.source.device
        self._batch = batch
        self._tokens = torch.ones((), device=device)
        self._sums = torch.zeros(4, dtype=torch.float64, device=device)
        self._graph = torch.cuda.CUDAGraph()
        parameters = list(model.parameters())
        before = [parameter.grad for parameter in parameters]
        try:
            # relaxed: kernels that this shape is the first to need may be loaded while it is recorded
            stream = torch.cuda.current_stream(device)
            with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="relaxed"):
                self._sums.zero_()
                add_gradients(model, loss_function, self._batch, self._tokens, self._sums)
        except Exception:
            _FAILED.append(self._graph)
            raise
        finally:
            found = [parameter.grad for parameter in parameters]
            for parameter, old in zip(parameters, before, strict=True):
                parameter.grad = old
        # one made while recording holds nothing, and is no part of the next batch's
        if any(new is not old for new, old in zip(found, before, strict=True)):
            raise RuntimeError("a parameter has a gradient that it had in no batch before")

    def replay(self, batch: Batch, tokens: Tensor, sums: Tensor) -> None:
        """Add the gradients and sums of a batch of this shape, in main memory."""
        self._batch.copy_(batch.pinned())
        self._tokens.copy_(tokens)
        self._graph.replay()
        sums += self._sums


def in_few_shapes(batch: Batch) -> Batch:
    """Return the batch padded to one of few shapes."""
    # a number of one significant binary digit is a power of two
    links = 0 if batch.links is None else rounded_up(max(batch.links.shape[1], 1), digits=1)
    sentences = min(_SENTENCES, rounded_up(len(batch), digits=1))
    sizes = (len(batch), sentences), (batch.source.shape[1], _POSITIONS), (batch.target_out.shape[1], _POSITIONS)
    return batch.padded(*(step * rounded_up(-(-size // step)) for size, step in sizes), links=links)


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Queue the block's work on a stream of its own: the default one, where all work otherwise is, cannot be captured.

    What was queued before the block comes before it, what is queued after comes after.
    """
    outside, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    stream.wait_stream(outside)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        outside.wait_stream(stream)


@contextmanager
def _waits() -> Iterator[list[str]]:
    """List the places where the block makes the host wait for the device."""
    found: list[str] = []
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    waits = [each for each in caught if "called a synchronizing" in str(each.message)]
    found += [f"{each.filename}, line {each.lineno}" for each in waits]


@contextmanager
def _nothing() -> Iterator[list[str]]:
    yield []


def _cause(error: BaseException) -> str:
    """Return what went wrong first, in one line: where a capture fails, its end fails too."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _reset_generator(device: torch.device) -> None:
    """Take a device's random generator out of a capture that failed, which can leave it unable to draw otherwise."""
    generator = torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    generator.graphsafe_set_state(generator.clone_state())
