#!/bin/sh
# Makes the virtual environment $1 from the first Python that is new enough, on a machine that may have little more than python3.
set -eu
target=$1

find_python() {
    for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
}

python=$(find_python)
if [ -z "$python" ]; then
    echo "gateway_guard needs Python 3.11 or newer; none is on the PATH. Install one, or say which: make PYTHON=/path/to/python3.12 ..." >&2
    exit 1
fi
if "$python" -c 'import ensurepip' 2>/dev/null; then
    exec "$python" -m venv --clear "$target"
fi
if command -v uv >/dev/null; then
    exec uv venv --quiet --seed --clear --python "$python" "$target"
fi

# Debian ships Python without the part that makes environments.
package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing $package ..."
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$package" >/dev/null
    exec "$python" -m venv --clear "$target"
fi
echo "$python cannot make virtual environments. On Debian and Ubuntu: sudo apt-get install $package" >&2
exit 1
