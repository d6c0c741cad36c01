#!/usr/bin/env bash
# MariaDB (private server for the tests), Chromium (opens the reports and notebooks) and etcd (its command stands in
# docker-compose.yml), from the system's packages if they are missing and can be installed. Tests that need a missing
# one skip and say so, those of the first two not where CI is set.
set -eu
missing=()
command -v mariadbd >/dev/null 2>&1 || [ -x /usr/sbin/mariadbd ] || missing+=(mariadb-server)
command -v chromium >/dev/null 2>&1 || missing+=(chromium)
wanted=() # one test skips without them
command -v etcd >/dev/null 2>&1 || wanted+=(etcd-server)
command -v etcdctl >/dev/null 2>&1 || wanted+=(etcd-client)
[ ${#missing[@]} -eq 0 ] && [ ${#wanted[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "== installing ${missing[*]} ${wanted[*]} from the system's packages"
  export DEBIAN_FRONTEND=noninteractive
  # The packages' own services must not start: the tests start private servers.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  if [ ${#wanted[@]} -gt 0 ]; then
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null; } ||
      echo "not installed: ${wanted[*]}; the test of etcd's command will be skipped"
  fi
  [ ${#missing[@]} -eq 0 ] && exit 0
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "missing: ${missing[*]} ${wanted[*]}. Install them with your system's package manager to run every test;" \
       "the tests that need them will be skipped with a reason."
fi
