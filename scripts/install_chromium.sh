#!/usr/bin/env bash
# Installs Debian's Chromium if there is none and apt may be used; `make browser` needs it.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
if command -v chromium google-chrome > /dev/null; then exit; fi
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if command -v apt-get > /dev/null && $as_root true 2> /dev/null; then
  echo "installing chromium (once; about a minute)"
  export DEBIAN_FRONTEND=noninteractive
  $as_root apt-get update -qq && $as_root apt-get install -qq --no-install-recommends chromium > /dev/null || true
fi
command -v chromium > /dev/null || {
  echo "error: found no chromium; install the package chromium, or Google Chrome" >&2
  exit 1
}
