#!/bin/sh
# A Java for the test on Spark. Where it cannot be had, that is skipped and says so; in CI it fails.
set -eu
command -v java >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing a Java runtime ..."
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends default-jre-headless >/dev/null; } || true
fi
command -v java >/dev/null || echo "no Java: nothing is tested on Spark. On Debian and Ubuntu: sudo apt-get install default-jre-headless" >&2
