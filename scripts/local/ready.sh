# shellcheck shell=bash
# Waits for local processes. Sourced, from the root of the repository.

# A replica that cannot start logs this last; of gunicorn, which starts another worker, that is all there is to see.
HOPELESS='cannot be served|Application startup failed|Perhaps out of memory'

# await_ready: return 0 when all are ready; 1, with the name of one that has ended in `ended`, or after START_SECONDS, with
# the name of one that is not ready in `late`.
await_ready() {
  local began=$SECONDS before processes
  before=$(complaints) processes=$(scripts/local/configure processes) late=haproxy ended=''
  while patient "$began" "$late"; do
    late=$(unready <<<"$processes")
    [[ -n $late ]] || return 0
    ended=$(comm -13 <(echo "$before") <(complaints) | head -n 1)
    [[ -z $ended ]] || return 1
    sleep 0.1
  done
  return 1
}

# unready: print the first of the processes that is not ready.
unready() {
  local name number port
  while read -r name number port && [[ -n $name ]]; do
    ready "$port" || { echo "$name-$number"; return; }
  done
  ready "$ADMIN_PORT" || echo haproxy
}

# complaints: print the name of a process each time that its log says it cannot start, or supervisor that it has ended.
complaints() {
  {
    grep -HE "$HOPELESS" .run/*-?.log | sed 's|^.run/\(.*\).log:.*|\1|'
    sed -n 's/.* exited: \([^ ]*\) (.*not expected).*/\1/p' .run/supervisord.log
  } 2>/dev/null | sort
}

# why_ended PROCESS: print in one line why it has ended.
why_ended() {
  if grep -q "exited: $1 (terminated by SIGKILL" .run/supervisord.log; then
    echo 'killed (SIGKILL); perhaps the machine is out of memory'
  else
    last_words <".run/$1.log"
  fi
}
