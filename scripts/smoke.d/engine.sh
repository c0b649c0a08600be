# The container engine: the machine's own, or one for the time of this run. Sourced by scripts/smoke.
# Owns starting and stopping it. An engine of ours lives in a network namespace of its own: the machine's network is never changed.

engine= engine_problem= engine_pid=

engine_start() {
  if docker info >/dev/null 2>&1; then
    engine=$(docker info --format 'docker {{.ServerVersion}} {{.Driver}}')
  elif [ "$(id -u)" -ne 0 ]; then
    engine_problem='Docker does not run, and only root can start one here'
    return 1
  else
    install_engine || return 1
    own_engine || return 1
  fi
  if docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null 2>&1; then
    return 0
  fi
  engine_problem='Docker runs, but there is neither docker compose nor docker-compose'
  return 1
}

install_engine() {
  local missing=()
  command -v dockerd >/dev/null 2>&1 || missing+=(docker.io)
  command -v iptables >/dev/null 2>&1 || missing+=(iptables)
  docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null 2>&1 || missing+=(docker-compose)
  [ "${#missing[@]}" -eq 0 ] && return 0
  if ! command -v apt-get >/dev/null 2>&1; then
    engine_problem="Docker does not run, and this is not Debian; missing: ${missing[*]}"
    return 1
  fi
  echo "installing from Debian: ${missing[*]}"
  # Debian starts what it installs; this run wants its own.
  printf '#!/bin/sh\nexit 101\n' >"$work/policy"
  local policy=/usr/sbin/policy-rc.d made=no
  if [ ! -e "$policy" ]; then
    install -m 0755 "$work/policy" "$policy"
    made=yes
  fi
  local status=0
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null || status=1
  [ "$made" = no ] || rm -f "$policy"
  [ "$status" -eq 0 ] || engine_problem="Docker does not run, and could not be installed: ${missing[*]}"
  return "$status"
}

own_engine() {
  local log=$work/engine.log driver
  for driver in overlay2 vfs; do
    rm -rf "$work/engine-run"
    mkdir -p "$work/engine-run"
    unshare --net -- sh -c 'ip link set lo up; exec "$@"' dockerd-in-namespace dockerd --storage-driver "$driver" \
      --data-root "$work/engine-$driver" --exec-root "$work/engine-run/exec" --pidfile "$work/engine-run/pid" \
      --host "unix://$work/engine-run/socket" --log-level warn >"$log" 2>&1 &
    engine_pid=$!
    export DOCKER_HOST=unix://$work/engine-run/socket
    local waited=0
    while kill -0 "$engine_pid" 2>/dev/null && [ "$waited" -lt 60 ]; do
      if docker info >/dev/null 2>&1; then
        engine=$(docker info --format 'docker {{.ServerVersion}} {{.Driver}}, for this run')
        echo "-- engine: $engine"
        return 0
      fi
      sleep 1
      waited=$((waited + 1))
    done
    engine_stop
  done
  engine_problem="Docker did not start: $(tail -n 1 "$log")"
  return 1
}

engine_stop() {
  [ -n "$engine_pid" ] || return 0
  kill "$engine_pid" 2>/dev/null || true
  wait "$engine_pid" 2>/dev/null || true
  engine_pid=
  # Containers' files may be mounted for a moment longer.
  local mount
  for mount in $(awk -v work="$work/engine-" 'index($2, work) == 1 { print $2 }' /proc/mounts | sort -r); do
    umount "$mount" 2>/dev/null || true
  done
  rm -rf "$work/engine-run" "$work/engine-overlay2" "$work/engine-vfs"
}
