"""The host process around a training loop: its clock, signals, lock and threads."""

import collections
import contextlib
import os
import pathlib
import signal
import threading
import time
from collections.abc import Iterator
from concurrent import futures
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


def memory() -> float:
  """Bytes of this machine's memory; inf where the system does not say."""
  try:
    return float(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))
  except (AttributeError, OSError, ValueError):
    return float('inf')


def ahead(iterator: Iterator, num: int = 2) -> Iterator:
  """The items of an iterator, `num` of them made ahead by a thread of its own."""
  end = object()
  with futures.ThreadPoolExecutor(1) as pool:
    made = collections.deque(pool.submit(next, iterator, end) for _ in range(num))
    while (item := made.popleft().result()) is not end:
      made.append(pool.submit(next, iterator, end))
      yield item


class Locked(Exception):
  """Another process holds the lock; the message says which."""


@contextlib.contextmanager
def lock(path: pathlib.Path) -> Iterator[None]:
  """Holds a lock file, until the block or the process ends, however it ends.

  Where the system or the file system knows no such locks, nothing is held.

  Raises:
    Locked: another process holds it.
  """
  try:
    import fcntl  # not on every system
  except ImportError:
    yield
    return
  with open(path, 'a+') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      raise Locked(file.read().strip() or 'another process') from None
    except OSError:
      yield
      return
    file.truncate(0)
    file.write(f'process {os.getpid()}')
    file.flush()
    yield


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
  """Collects SIGTERM and SIGINT; a second one acts at once, as usual.

  Within a second it is the first one again: a terminal and some clusters tell a process
  and the one that started it, which passes it on.
  """
  received: list[int] = []
  first: dict[int, float] = {}
  signums = (signal.SIGTERM, signal.SIGINT)
  if threading.current_thread() is not threading.main_thread():
    yield received
    return
  usual = {signum: signal.getsignal(signum) for signum in signums}

  def note(signum, frame):
    del frame
    if signum not in first:
      first[signum] = time.monotonic()
      received.append(signum)
    elif time.monotonic() - first[signum] > 1.0:
      signal.signal(signum, usual[signum])
      signal.raise_signal(signum)

  try:
    for signum in signums:
      signal.signal(signum, note)
    yield received
  finally:
    for signum in signums:
      signal.signal(signum, usual[signum])
