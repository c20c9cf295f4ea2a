# shellcheck shell=bash
# What more than one of the scripts needs. Sourced, from the root of the repository; run nothing here.

PATH=$PATH:/usr/local/sbin:/usr/sbin  # where HAProxy is, and many a user's PATH does not lead

fail() { echo "${0##*/}: $*" >&2; exit 2; }
say() { echo "${0##*/}: $*"; }

# usage: print the comment at the head of the script that was called.
usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p;}' "scripts/${0##*/}"; }

engine_answers() { docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }

# local_processes: whether supervisor runs here. (After a restart of the machine its number may be another program's.)
local_processes() {
  local pid
  [[ -s .run/supervisord.pid ]] && pid=$(<.run/supervisord.pid) && kill -0 "$pid" 2>/dev/null || return 1
  [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" || ps -o command= -p "$pid") == *supervisord* ]]
}

# replicas [SERVICE...]: print the containers of the stack, running or not; those of `docker compose run` are none.
replicas() {
  docker compose ps --all --no-trunc --format '{{.ID}} {{.Label "com.docker.compose.oneoff"}}' "$@" | sed -n 's/ False$//p'
}

# test_stack: a name and ports for a stack of the tests' own, so that containers of the user's may run beside.
test_stack() {
  ! local_processes || fail "local processes run here (./scripts/down ends them)"
  export COMPOSE_PROJECT_NAME=wsgi-asgi-haproxy-test HTTP_PORT=${HTTP_PORT:-18080} ADMIN_PORT=${ADMIN_PORT:-18404}
  export LOCUST_PORT=${LOCUST_PORT:-18089}
  # The demonstration with its defaults, whatever .env says.
  export COMPOSE_FILE=compose.yaml WSGI_APP='' ASGI_APP='' BIND='' ACCESS_LOG='' BALANCE='' DRAIN_SECONDS=''
  export WSGI_MAXCONN='' WSGI_STREAMS='' WSGI_IDEMPOTENCY_KEY='' ASGI_IDEMPOTENCY_KEY=''
  export WSGI_WORKER='' ASGI_PROTOCOL=''
  ./scripts/down >/dev/null 2>&1  # what an interrupted run has left
  local port
  for port in "$HTTP_PORT" "$ADMIN_PORT"; do
    ! listens "$port" || fail "port $port is in use by another program (HTTP_PORT and ADMIN_PORT choose others)"
  done
}

# listens PORT [ADDRESS]: whether something on this machine accepts connections there.
listens() { (exec 3<>"/dev/tcp/${2:-127.0.0.1}/$1") 2>/dev/null; }

# find_python: print the newest Python here that will do. PYTHON overrides.
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

# environment NAME REQUIREMENTS: make .venv/NAME hold exactly the locked requirements.
environment() {
  local dir=.venv/$1 requirements=$2 python stamp
  [[ -r $requirements ]] || fail "cannot read $requirements"
  # With its place: what is installed has that in it, and a copy would run the original's.
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

# apt_install PACKAGE: install it where this is root on Debian or Ubuntu, and say so; else say what would.
apt_install() {
  local package=$1
  if [[ $(id -u) != 0 || ! -x $(command -v apt-get) ]]; then
    case $(uname) in
      Darwin) fail "needs $package: brew install $package" ;;
      *) fail "needs $package: sudo apt-get install $package (or your system's like)" ;;
    esac
  fi
  say "installing $package with apt-get"
  # A policy of 101 keeps the package from starting a service of its own.
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
