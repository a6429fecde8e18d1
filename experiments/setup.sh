#!/bin/sh
# setup.sh VENV PACKAGE: a virtual environment with an editable install.
set -eu
venv=$1 package=$2

if [ ! -x "$venv/bin/python" ]; then
  python=
  for name in python3 python3.13 python3.12 python3.11 python; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$name
      break
    fi
  done
  if [ -z "$python" ]; then
    echo 'error: Python 3.11 or newer is needed and was not found on the path' >&2
    exit 1
  fi
  echo "creating $venv with $("$python" --version)"
  if command -v uv >/dev/null 2>&1; then
    uv venv --quiet --python "$python" "$venv"
  else
    "$python" -m venv "$venv"
  fi
fi

echo "installing $package into $venv (the first time takes a minute or two)"
if command -v uv >/dev/null 2>&1; then
  uv pip install --quiet --python "$venv/bin/python" --editable "$package"
else
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --editable "$package"
fi
