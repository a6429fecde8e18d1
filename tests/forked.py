"""The launcher many times over, importing once: a fork of this process each.

Reads jobs from stdin, a JSON line each: args, cwd, env, out and err (files to write);
answers with a line each: the exit code, and the CPU seconds from the fork to the end.
The first line says how many the imports took. Nothing here starts a thread or a JAX
backend, so that a fork is a process like any other that has imported.
"""

import json
import os
import pathlib
import runpy
import signal
import sys
import time
import warnings

warnings.simplefilter('ignore')  # of forks: jax cannot know that there are no threads
MAIN = pathlib.Path(__file__).resolve().parents[1] / 'experiments' / 'main.py'
LIMIT = 300  # seconds until a child is ended, however busy the machine is


def child(job):
  """Becomes the launcher; does not return."""
  signal.alarm(LIMIT)
  os.chdir(job['cwd'])
  os.environ.clear()
  os.environ.update(job['env'])
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  for number, path in ((1, job['out']), (2, job['err'])):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
  sys.argv = [str(MAIN), *job['args']]
  runpy.run_path(str(MAIN), run_name='__main__')
  sys.exit(0)


def main():
  sys.path[0] = str(MAIN.parent)
  sys.path.insert(1, str(MAIN.parents[1]))
  import experiments.configs.parts.evaluations  # noqa: F401, what a run imports
  import gm_jax.training.launch  # noqa: F401

  print(time.process_time(), flush=True)
  for line in sys.stdin:
    pid = os.fork()
    if not pid:
      child(json.loads(line))
    _, status, used = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    print(code, used.ru_utime + used.ru_stime, flush=True)


if __name__ == '__main__':
  main()
