# shellcheck shell=bash
# What several scripts need. Sourced, from the root of the repository.

PATH=$PATH:/usr/local/sbin:/usr/sbin  # HAProxy is there, and the PATH of many users lacks it

fail() { echo "${0##*/}: $*" >&2; exit 2; }
say() { echo "${0##*/}: $*"; }

# usage: print the comment at the head of the script that was called.
usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p;}' "scripts/${0##*/}"; }

engine_answers() { docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }

# services: print the name and the port of each service that services.cfg has a backend for.
services() { sed -nE 's/^  server-template ([a-z0-9]+)- .*:([0-9]+)".*/\1 \2/p' haproxy/services.cfg | awk '!seen[$0]++'; }
service_names() { services | awk '{print $1}'; }

# setting NAME: print the setting, whose name may be in lower case, such as wsgi_APP.
setting() { awk -v name="$1" 'BEGIN {print ENVIRON[toupper(name)]}'; }

# has_addon NAME: whether COMPOSE_FILE names it.
has_addon() { [[ :${COMPOSE_FILE-}: == *:addons/$1/compose.yaml:* ]]; }

# local_processes: whether supervisor runs here. (After a restart of the machine, another program may have its pid.)
local_processes() {
  local pid
  [[ -s .run/supervisord.pid ]] && pid=$(<.run/supervisord.pid) && kill -0 "$pid" 2>/dev/null || return 1
  [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" || ps -o command= -p "$pid") == *supervisord* ]]
}

# test_stack: give the tests' stack its own name and ports, so that the user's containers can run beside it.
test_stack() {
  ! local_processes || fail "stop the local processes first (./scripts/down)"
  export COMPOSE_PROJECT_NAME=wsgi-asgi-haproxy-test HTTP_PORT=${HTTP_PORT:-18080} ADMIN_PORT=${ADMIN_PORT:-18404}
  export LOCUST_PORT=${LOCUST_PORT:-18089} COMPOSE_FILE=compose.yaml
  # The demonstration with its defaults, whatever .env says: an empty variable stands for the default.
  local name
  while IFS='|' read -r name _; do
    [[ $name == *_PORT || $name == *_IMAGE ]] || export "$name="
  done < <(declared_settings)
  ./scripts/down --volumes >/dev/null 2>&1  # what an interrupted run has left
  local port
  for port in "$HTTP_PORT" "$ADMIN_PORT"; do
    ! listens "$port" || fail "port $port is in use by another program (HTTP_PORT and ADMIN_PORT choose others)"
  done
  trap './scripts/down --volumes >/dev/null 2>&1 || true' EXIT
}

# listens PORT [ADDRESS]: whether a program on this machine accepts connections there.
listens() { (exec 3<>"/dev/tcp/${2:-127.0.0.1}/$1") 2>/dev/null; }

# ready PORT...: whether /readyz is answered with 200 on each: a replica is ready, HAProxy has one up for each service.
ready() {
  local port status
  for port; do
    { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || return 1
    printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
    status=''
    read -r -t 2 _ status _ <&3 2>/dev/null || true  # a process that has just died resets the connection
    exec 3>&-
    [[ $status == 200 ]] || return 1
  done
}

# patient BEGAN WHAT: whether START_SECONDS have not passed since BEGAN; says every 5 s that WHAT is not ready.
patient() {
  local waited=$((SECONDS - $1))
  ((waited < START_SECONDS)) || return 1
  [[ $waited -lt 5 || ${told-} == "$1 $((waited / 5))" ]] || say "$2: not ready after $waited of $START_SECONDS s (START_SECONDS)"
  told="$1 $((waited / 5))"
}

# check_port NAME [ADDRESS]: fail if a program listens on the port that the variable names.
check_port() {
  ! listens "${!1}" "${2-}" || fail "port ${!1} is in use by another program (set $1 to another)"
}

# last_words: print the line of a log that says why its process ended; later lines belong to the next process.
# That is what serving.py says last, or the end of the last error (so uvicorn logs why an application's startup failed),
# or the last line that is not JSON.
last_words() {
  awk '
    /cannot be served/ {said = $0}
    /^[{].*"level": "error"/ && !/Application startup failed/ {error = $0}
    /^[^{]/ {plain = $0}
    END {
      sub(/.*"message": "/, "", error); sub(/"(, "[a-z_]+": ".*)?[}]$/, "", error)
      gsub(/(\\n)+$/, "", error); sub(/.*\\n/, "", error); gsub(/\\"/, "\"", error)
      print said ? said : error ? error : plain
    }'
}

# find_python: print the newest suitable Python. PYTHON overrides.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "needs Python 3.11 or newer with its venv module (Debian: apt-get install python3-venv; or name one in PYTHON)"
}

# environment NAME REQUIREMENTS: have .venv/NAME hold exactly the locked requirements.
environment() {
  local dir=.venv/$1 requirements=$2 python stamp
  [[ -r $requirements ]] || fail "cannot read $requirements"
  # The folder is part of the stamp: scripts installed there contain its path, so a copied folder would run the original's.
  mkdir -p .venv
  stamp="${PYTHON-} $(cksum <"$requirements") $(cd -P .venv && pwd)"
  [[ -x $dir/bin/python && -f $dir/stamp && $(<"$dir/stamp") == "$stamp" ]] && return
  python=$(find_python) || exit
  say "installing $requirements into $dir ($("$python" --version))"
  rm -rf "$dir"
  "$python" -m venv "$dir"
  "$dir/bin/pip" install -qq --disable-pip-version-check --require-hashes -r "$requirements" ||
    fail "could not install $requirements (see above)"
  echo "$stamp" >"$dir/stamp"
}

# apt_install PACKAGE: install it if this is root on Debian or Ubuntu, and say so; else fail and say how to install it.
apt_install() {
  local package=$1
  if [[ $(id -u) != 0 || ! -x $(command -v apt-get) ]]; then
    case $(uname) in
      Darwin) fail "needs $package: brew install $package" ;;
      *) fail "needs $package: sudo apt-get install $package (or the equivalent)" ;;
    esac
  fi
  say "installing $package with apt-get"
  # A policy of 101 keeps the package from starting its service.
  local policy=/usr/sbin/policy-rc.d status=0
  if [[ -e $policy ]]; then
    policy=''
  else
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  apt-get -qq update || true
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$package" >/dev/null || status=$?
  [[ -z $policy ]] || { rm -f "$policy"; trap - EXIT; }
  [[ $status == 0 ]] || fail "apt-get could not install $package"
}
