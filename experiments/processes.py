"""Several processes of one run: each is watched by the process that started it.

XLA ends a process at once, with many lines, when another one of its run is gone or the
network is down. The watcher, which uses no device, makes one line and exit code 1 of
it.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

GRACE = 10.0  # seconds between asking a process to end and ending it
TOGETHER = 3.0  # seconds within which processes fail of the same cause

STARTER = 'GM_JAX_STARTER'  # process that a child ends with

ERROR = 'error: '  # begins the one line of a process that fails
GONE = (
  'another process of this run is gone or does not answer; start all of them again, and'
  ' the run goes on'
)
# Begins a text of XLA's log; the file says what it is about.
LOGGED = re.compile(r'([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ (\w+)\.\w+:\d+\]')
ABOUT_OTHERS = ('coordination_service', 'coordination_service_agent', 'client',
                'preemption_sync_manager', 'add_port')  # fmt: skip


def end_with_starter() -> None:
  """Ends this process when the one that started it is gone, however it went."""
  starter = os.environ.get(STARTER)
  if starter is None:
    return

  def watch():
    while os.getppid() == int(starter):
      time.sleep(0.5)
    os._exit(1)  # at once: other processes of the run, which are gone, block the rest

  threading.Thread(target=watch, daemon=True).start()


def end_soon(code: int) -> None:
  """Ends a process of several at last, where the others would let it wait for them."""
  if STARTER in os.environ:
    timer = threading.Timer(GRACE, os._exit, (code,))
    timer.daemon = True
    timer.start()


def _free_port() -> int:
  with socket.socket() as server:
    server.bind(('localhost', 0))
    return server.getsockname()[1]


def start(command: list[str], num: int) -> int:
  """Runs a launcher's command as `num` processes that find one another.

  They talk by gloo over localhost, on CPU devices (JAX_NUM_CPU_DEVICES of them each).
  See `watch`, which runs them.

  Args:
    command: without the flags that say which process it is.
    num: of processes.
  """
  address = f'--coordinator=localhost:{_free_port()}'
  commands = [
    [*command, address, f'--num_processes={num}', f'--process_index={index}']
    for index in range(num)
  ]
  return watch(commands, JAX_PLATFORMS='cpu')


def watch(commands: list[list[str]], **changes: str) -> int:
  """Runs commands, each a process of the same run, to their end.

  The first one speaks; of the others only an error is heard. When one fails the rest
  are ended; SIGINT and SIGTERM are passed on to all.

  Args:
    commands: of the launcher.
    **changes: of the environment.

  Returns:
    The exit code: of the process that failed first, or 0. Its error is one line.
  """
  environment = os.environ | changes | {STARTER: str(os.getpid())}
  children = [
    subprocess.Popen(
      command,
      env=environment,
      stdout=None if index == 0 else subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      errors='replace',
    )
    for index, command in enumerate(commands)
  ]
  heard = [_Heard(child, aloud=index == 0) for index, child in enumerate(children)]

  def pass_on(signum, frame):
    del frame
    for child in children:
      child.send_signal(signum)

  for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, pass_on)
  failed = _first_failures(children)
  _end(children)
  for one in heard:
    one.join(1.0)  # what a process started may hold its stderr open
  if not failed:
    return 0
  errors = {index: heard[index].error() for index in failed}
  first = min(failed, key=lambda index: (errors[index] == GONE, index))
  name = f'process {first}: ' if first else ''
  print(f'{ERROR}{name}{errors[first]}', file=sys.stderr, flush=True)
  code = children[first].returncode
  if errors[first] == GONE:
    return 1
  return code if code > 0 else 128 - code  # ended by a signal


class _Heard(threading.Thread):
  """What a process says on stderr: passed on, but for its error and XLA's of others."""

  def __init__(self, child: subprocess.Popen, aloud: bool):
    super().__init__(daemon=True)
    self._child, self._aloud = child, aloud
    self._error, self._last, self._others_gone = '', '', False
    self.start()

  def run(self) -> None:
    passed_over = False
    for line in self._child.stderr or ():
      logged = LOGGED.match(line)
      if logged:
        about_others = logged[2] in ABOUT_OTHERS
        self._others_gone |= about_others and logged[1] == 'F'
        passed_over = about_others or self._others_gone
      if line.startswith(ERROR):
        passed_over, self._error = self._others_gone, line
      elif not passed_over:
        self._last = line
        if self._aloud:
          with contextlib.suppress(OSError):  # nobody listens
            print(line, end='', file=sys.stderr, flush=True)

  def error(self) -> str:
    """The line of a process that failed, once it has ended."""
    if self._error:
      return self._error.removeprefix(ERROR).strip()
    if self._others_gone:
      return GONE
    code = self._child.returncode
    if code < 0:
      name = signal.Signals(-code).name
      return f'a process of this run was ended by {name}; the same command goes on'
    return (not self._aloud and self._last.strip()) or f'ended with exit code {code}'


def _first_failures(children) -> list[int]:
  """Waits for all to end, or for one to fail and those that fail of it; who failed."""
  while not any(child.poll() for child in children):
    if all(child.poll() == 0 for child in children):
      return []
    time.sleep(0.05)
  deadline = time.monotonic() + TOGETHER
  while any(child.poll() is None for child in children):
    if time.monotonic() > deadline:
      break
    time.sleep(0.05)
  return [index for index, child in enumerate(children) if child.poll()]


def _end(children) -> None:
  for child in children:
    if child.poll() is None:
      child.terminate()
  deadline = time.monotonic() + GRACE
  for child in children:
    try:
      child.wait(max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
      child.kill()
      child.wait()
