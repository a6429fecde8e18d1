"""Several processes of one run on this machine, to try what a cluster does."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

GRACE = 10.0  # seconds between asking a process to end and ending it
TOGETHER = 3.0  # seconds within which processes fail of the same cause


STARTER = 'GM_JAX_STARTER'  # process that a child ends with


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


def _free_port() -> int:
  with socket.socket() as server:
    server.bind(('localhost', 0))
    return server.getsockname()[1]


def start(command: list[str], num: int) -> int:
  """Runs a launcher's command as `num` processes that find one another.

  They talk by gloo over localhost, on CPU devices (JAX_NUM_CPU_DEVICES of them
  each). The first one speaks; of the others only an error is heard. When one
  fails the rest are ended; SIGINT and SIGTERM are passed on to all.

  Args:
    command: without the flags that say which process it is.
    num: of processes.

  Returns:
    The exit code: of the first process that failed, or 0.
  """
  address = f'--coordinator=localhost:{_free_port()}'
  environment = os.environ | {'JAX_PLATFORMS': 'cpu', STARTER: str(os.getpid())}
  with tempfile.TemporaryFile('w+') as errors:
    children = [
      subprocess.Popen(
        [*command, address, f'--num_processes={num}', f'--process_index={index}'],
        env=environment,
        stdout=None if index == 0 else subprocess.DEVNULL,
        stderr=None if index == 0 else errors,
      )
      for index in range(num)
    ]

    def pass_on(signum, frame):
      del frame
      for child in children:
        child.send_signal(signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
      signal.signal(signum, pass_on)
    first = _first_failure(children)
    if first is None:
      return 0
    _end(children)
    if first:
      errors.seek(0)
      print(f'process {first}:', *errors.readlines()[-1:], file=sys.stderr)
    code = children[first].returncode
    return code if code > 0 else 128 - code  # ended by a signal


def _first_failure(children) -> int | None:
  """Waits for all, or the first that fails; its index."""
  while True:
    codes = [child.poll() for child in children]
    failed = [index for index, code in enumerate(codes) if code]
    if failed:
      return 0 if _fails(children[0]) else failed[0]
    if all(code == 0 for code in codes):
      return None
    time.sleep(0.05)


def _fails(first) -> bool:
  """Whether the first process, the one that is heard, ends by itself too."""
  try:
    return bool(first.wait(TOGETHER))
  except subprocess.TimeoutExpired:
    return False


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
