"""The host process around a training loop: its clock and its signals."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax


class Clock:
  """Steps a second of training alone, compiling and callbacks left out."""

  def __init__(self) -> None:
    self._steps, self._seconds, self._dispatches = 0, 0.0, 0
    self._start = 0.0

  def go_on(self) -> None:
    """Starts counting."""
    self._start = time.perf_counter()

  def pause(self, num: int, metrics: Any) -> None:
    """Stops counting, after a dispatch of `num` steps that gave `metrics`."""
    if self._dispatches < 2:  # what the first one took is known, and dropped
      jax.block_until_ready(metrics)
      self._steps, self._seconds = 0, 0.0
    self._dispatches += 1
    self._steps += num
    self._seconds += time.perf_counter() - self._start

  def rate(self) -> float:
    """Steps a second since the last call; the first dispatch counts if alone."""
    rate = self._steps / self._seconds
    self._steps, self._seconds = 0, 0.0
    return rate


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
  """Collects SIGTERM and SIGINT; a second one acts at once, as usual."""
  received: list[int] = []
  signums = (signal.SIGTERM, signal.SIGINT)
  if threading.current_thread() is not threading.main_thread():
    yield received
    return
  usual = {signum: signal.getsignal(signum) for signum in signums}

  def note(signum, frame):
    del frame
    received.append(signum)
    signal.signal(signum, usual[signum])

  try:
    for signum in signums:
      signal.signal(signum, note)
    yield received
  finally:
    for signum in signums:
      signal.signal(signum, usual[signum])
