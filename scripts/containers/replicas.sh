# shellcheck shell=bash
# The stack's containers, for up, roll and watch. Sourced, from the root of the repository, after common.sh.

# replicas [SERVICE...]: print the containers of the stack, running or not, without those of `docker compose run`.
replicas() {
  docker compose ps --all --no-trunc --format '{{.ID}} {{.Label "com.docker.compose.oneoff"}}' "$@" | sed -n 's/ False$//p'
}

# leftovers SERVICE: print those old replicas that an interrupted roll has left over. Their names say how many there were
# before it, so that they are no longer too many if someone has scaled the service since.
leftovers() {
  replicas "$1" | xargs docker inspect --format '{{.Id}} {{.Name}}' | awk '
    sub(/.*-old-of-/, "", $2) {old[++found] = $1; intended = $2}
    END {for (i = 1; i <= found && i <= NR - intended; i++) print old[i]}'
}

# slots: print how many replicas of each service HAProxy can send requests to.
slots() { sed -n 's/^  presetenv SLOTS \([0-9]*\).*/\1/p' haproxy/haproxy.cfg; }

# check_folder: fail if another clone of the repository has started the stack that runs. (A folder that is gone was moved.)
check_folder() {
  local folder
  folder=$(docker compose ps --format '{{.Label "com.docker.compose.project.working_dir"}}' | sort -u | head -n 1)
  [[ ! -d $folder || $folder -ef . ]] ||
    fail "the stack that runs was started in $folder: end it (./scripts/down), or give this folder another" \
      "COMPOSE_PROJECT_NAME, HTTP_PORT and ADMIN_PORT (in .env)"
}

# why_ended CONTAINER: print in one line why it ended or does not get ready.
why_ended() {
  local killed limit
  # A restart clears OOMKilled. Without --until, it would wait for more events.
  killed=$(docker inspect --format '{{if .State.OOMKilled}}killed{{end}}' "$1")$(
    docker events --since 10s --until 0s --filter event=oom --filter "container=$1"
  )
  if [[ -n $killed ]]; then
    limit=$(docker inspect --format '{{.HostConfig.Memory}}' "$1")
    echo "out of memory: the kernel ended a process; the limit is $((limit >> 20)) MiB (deploy.resources.limits.memory in compose.yaml)"
  else
    echo "$(docker inspect --format '{{.State.Error}}' "$1")$(docker logs --tail 50 "$1" 2>&1 | last_words)"
  fi
}
