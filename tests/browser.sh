#!/bin/sh
# A Chromium for the tests that look at pages as a person does. Where it cannot be had, they are skipped and say so; in CI they fail.
set -eu
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing chromium ..."
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends chromium >/dev/null; } || true
fi
command -v chromium >/dev/null || echo "no Chromium: pages are not tested in a browser. On Debian and Ubuntu: sudo apt-get install chromium" >&2
