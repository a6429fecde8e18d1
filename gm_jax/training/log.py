"""The output of a run: rows of CSV, TensorBoard, lines on the console, a bar.

The CSV files are the record: floats are written so that they read back the same,
and after `trim` a run that was killed and resumed leaves the files that a run
straight through leaves. TensorBoard is written besides if tensorboardX is there,
of finite values only.
"""

import contextlib
import csv
import io
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

SPLITS = ('train', 'evaluate')


class Log:
  """Writes `<workdir>/train.csv` and `evaluate.csv`, and TensorBoard events.

  Args:
    workdir: the folder of the run; made when it does not exist.
    tensorboard: also write events, where tensorboardX is installed.
  """

  def __init__(self, workdir: str | os.PathLike[str], *, tensorboard: bool = True):
    self._workdir = pathlib.Path(workdir)
    self._workdir.mkdir(parents=True, exist_ok=True)
    self._tensorboard = tensorboard
    self._writer: Any = None
    self._purge_step: int | None = None
    self._headers: dict[str, list[str]] = {}

  def write(self, split: str, step: int, metrics: Mapping[str, Any]) -> None:
    """Appends one row, and rewrites the file where a metric is new to it.

    Args:
      split: 'train' or 'evaluate'.
      step: completed steps.
      metrics: scalars by name.

    Raises:
      ValueError: if the split is another, or a metric is called 'step'.
    """
    path = self._path(split)
    if 'step' in metrics:
      raise ValueError("A metric cannot be called 'step'")
    row = {'step': int(step)} | {k: float(v) for k, v in metrics.items()}
    header = self._header(split)
    if set(row) <= set(header):
      with path.open('a', newline='') as file:
        file.write(_text(header, [row], titles=False))
    else:
      self._rewrite(split, [*(read(path) if header else ()), row])
    self._events(split, row)

  def console(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Prints one line, above the bar if there is one.

    Args:
      step: completed steps.
      metrics: scalars by name, printed in their order.
    """
    values = [f'{name} {float(value):.4g}' for name, value in metrics.items()]
    line = '  '.join([f'step {step}', *values])
    if sys.stderr.isatty() and (tqdm := _tqdm()):
      tqdm.write(line)
    else:
      print(line, flush=True)

  def trim(self, step: int) -> None:
    """Removes what was logged after `step`: a resumed run will log it again.

    Args:
      step: the step that training goes on from.
    """
    for split in SPLITS:
      if self._path(split).exists():
        rows = [row for row in read(self._path(split)) if row['step'] <= step]
        self._rewrite(split, rows)
    self.close()
    self._purge_step = step + 1

  def close(self) -> None:
    """Flushes and closes the events; the CSV files are closed after each row."""
    if self._writer is not None:
      self._writer.close()
      self._writer = None

  def _path(self, split: str) -> pathlib.Path:
    if split not in SPLITS:
      raise ValueError(f'split must be one of {SPLITS}, got {split!r}')
    return self._workdir / f'{split}.csv'

  def _header(self, split: str) -> list[str]:
    if split not in self._headers and self._path(split).exists():
      # A row torn by a kill must not be appended to.
      self._rewrite(split, read(self._path(split)))
    return self._headers.get(split, [])

  def _rewrite(self, split: str, rows: list[dict[str, Any]]) -> None:
    """Replaces the file; its columns are what the rows hold, in one order."""
    header = ['step', *sorted({key for row in rows for key in row} - {'step'})]
    if rows:
      with replacing(self._path(split)) as temporary:
        temporary.write_text(_text(header, rows, titles=True), newline='')
      self._headers[split] = header
    else:
      self._path(split).unlink(missing_ok=True)
      self._headers.pop(split, None)

  def _events(self, split: str, row: Mapping[str, Any]) -> None:
    if self._tensorboard and self._writer is None:
      try:
        from tensorboardX import event_file_writer
      except ImportError:
        self._tensorboard = False
        return
      folder = self._workdir / 'tensorboard'
      folder.mkdir(exist_ok=True)
      # Not SummaryWriter: a full disk ends its thread, and the run waits for ever.
      self._writer = event_file_writer.EventsWriter(str(folder / 'events'))
      if self._purge_step is not None:
        self._event(self._purge_step, session_log={'status': 'START'})
      self._purge_step = None
    if self._writer is not None:
      finite = {k: v for k, v in row.items() if k != 'step' and math.isfinite(v)}
      values = [{'tag': f'{split}/{k}', 'simple_value': v} for k, v in finite.items()]
      self._event(row['step'], summary={'value': values})
      self._writer.flush()

  def _event(self, step: int, **content: Any) -> None:
    from tensorboardX.proto import event_pb2

    event = event_pb2.Event(wall_time=time.time(), step=step, **content)
    self._writer.write_event(event)


class Progress(NamedTuple):
  """`advance_to(done)` says how many steps are done in all; `close()` ends the bar."""

  advance_to: Callable[[int], Any]
  close: Callable[[], Any]


def progress(total: int, name: str = '') -> Progress:
  """A bar with rate and time left on a terminal, else one that is mute.

  The rate counts from the first call of `advance_to`, so that compiling is left out.

  Args:
    total: steps in all.
    name: in front of the bar.

  Returns:
    A `Progress`.
  """
  if not (sys.stderr.isatty() and (tqdm := _tqdm())):
    return Progress(lambda done: None, lambda: None)
  bars: list[Any] = []

  def advance_to(done):
    if not bars:
      bars.append(tqdm(total=total, initial=done, unit='step', desc=name, ncols=88))
    bars[0].update(done - bars[0].n)

  return Progress(advance_to, lambda: [bar.close() for bar in bars])


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Reads what `Log` wrote.

  Args:
    path: a CSV file; a last line without its end, torn by a kill, is left out.

  Returns:
    One dict a row: `step` an int, the metrics that the row has floats.

  Raises:
    ValueError: the file is not what `Log` wrote.
  """
  try:
    text = pathlib.Path(path).read_text()
    whole = text[: text.rfind('\n') + 1]
    rows = [
      {k: int(v) if k == 'step' else float(v) for k, v in row.items() if v}
      for row in csv.DictReader(io.StringIO(whole))
    ]
    if not all('step' in row for row in rows):
      raise ValueError('a row has no step')
  except (ValueError, TypeError, csv.Error) as error:
    raise ValueError(f'{path} is damaged ({error}); move it away') from error
  return rows


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Gives a path to write to, which takes the place of `path` at the end.

  Args:
    path: the file to write; its folder is made when it does not exist.

  Yields:
    The path of a temporary file in the same folder, gone if the writing fails.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def _text(header: list[str], rows: list[dict[str, Any]], *, titles: bool) -> str:
  buffer = io.StringIO()
  writer = csv.DictWriter(buffer, header, lineterminator='\n')
  if titles:
    writer.writeheader()
  writer.writerows({k: repr(v) for k, v in row.items()} for row in rows)
  return buffer.getvalue()


def _tqdm() -> Any:
  try:
    import tqdm
  except ImportError:
    return None
  return tqdm.tqdm
