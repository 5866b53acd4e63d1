#!/bin/sh
# Installs what requirements.lock pins, and this package, into a virtual environment. Called by `make setup`.
# Usage: sh .ci/setup.sh VENV            $PYTHON: the interpreter to use.
set -eu

venv=$1
started=$(date +%s)

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

supported() {  # is $1 a Python that requires-python in pyproject.toml allows?
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    found=
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if supported "$candidate"; then
            echo "$candidate"
            return
        fi
        found="$found $candidate ($("$candidate" --version 2>/dev/null || echo 'not there'))"
    done
    fail "crossview needs Python 3.11, 3.12 or 3.13. Looked at:$found." \
        "Install one beside it (Debian, Ubuntu: apt install python3.12 python3.12-venv; macOS: brew install python@3.12)" \
        "or name one: make setup PYTHON=/path/to/python3.12"
}

create() {
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        fail "$python has no venv module with pip. On Debian and Ubuntu: apt install python$version-venv"
    fi
    echo "setup: creating $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
}

rm -f "$venv/.installed"
if [ ! -e "$venv" ]; then
    create
elif [ ! -e "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv")" ]; then
    fail "$venv exists and is not a virtual environment; move it away or choose another: make setup VENV=DIR"
elif ! supported "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    create
fi

echo "setup: installing into $venv: about 3 GB to download, 6 GB on disk; some minutes the first time, seconds later"
if [ -t 1 ]; then
    verbosity=
else
    verbosity="--quiet --quiet --progress-bar off"  # in logs: errors only
fi
pip_install() {
    # shellcheck disable=SC2086 # several options or none
    "$venv/bin/python" -m pip --disable-pip-version-check --no-input install $verbosity "$@"
}
pip_install --requirement requirements.lock
# The lock file names every dependency and the build backend, so this step downloads nothing.
pip_install --no-deps --no-build-isolation --editable .
echo "setup: done after $(($(date +%s) - started)) s"
