#!/bin/sh
# The system's Redis, which speaks TLS (those out of wheels do not). Where it cannot be had, its tests are skipped and say so; in CI they fail.
set -eu
command -v redis-server >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing redis-server ..."
    # RUNLEVEL=1: only the program is wanted, no service on the usual port.
    { apt-get -qq update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends redis-server >/dev/null; } || true
fi
command -v redis-server >/dev/null || echo "no Redis with TLS: encrypted connections are not tested. On Debian and Ubuntu: sudo apt-get install redis-server" >&2
