#!/bin/sh
# Makes sure that the browser tests find a Chromium: one that is installed, Debian's, or the test tool's own.
set -e
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
if [ -n "$SAEKIT_CHROMIUM" ] && [ -x "$SAEKIT_CHROMIUM" ]; then exit 0; fi
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "Installing Chromium for the browser tests"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
    exit 0
fi
"$1/python" -m playwright install chromium
