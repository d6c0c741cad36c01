#!/usr/bin/env bash
# MariaDB (private server for the tests) and Chromium (opens the reports and notebooks), from the system's
# packages if they are missing and can be installed. Tests that need a missing one skip and say so, unless CI is set.
set -eu
missing=()
command -v mariadbd >/dev/null 2>&1 || [ -x /usr/sbin/mariadbd ] || missing+=(mariadb-server)
command -v chromium >/dev/null 2>&1 || missing+=(chromium)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "== installing ${missing[*]} from the system's packages"
  export DEBIAN_FRONTEND=noninteractive
  # The packages' own services must not start: the tests start private servers.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "missing: ${missing[*]}. Install them with your system's package manager to run every test;" \
       "the tests that need them will be skipped with a reason."
fi
