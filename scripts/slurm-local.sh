#!/usr/bin/env bash
# A one-machine Slurm on loopback with two nodes, for cx sweep --executor slurm and its tests. Works as root, without
# systemd. Usage:
#   scripts/slurm-local.sh start DIR    starts it, state and logs in DIR; prints the SLURM_CONF to export
#   scripts/slurm-local.sh stop DIR     ends what start started
#   scripts/slurm-local.sh status DIR   its nodes; exit status 1 when it does not answer
# Packages: slurm-wlm munge (installed by start when they are missing).
source "$(dirname "$0")/lib.sh"

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -eq 2 ] || usage
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
export SLURM_CONF=$dir/slurm.conf

install_slurm() {
  local missing=() package
  for package in slurm-wlm munge; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed$' || missing+=("$package")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  note "installing ${missing[*]}"
  { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } \
    >"$dir/install.log" 2>&1 || fail "apt-get could not install ${missing[*]}" "$(tail -n 3 "$dir/install.log")"
}

# Ends the process of a pid file, if it is the program that wrote it.
end_process() { # end_process PIDFILE NAME
  local pid
  [ -s "$1" ] || return 0
  pid=$(<"$1")
  if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]; then
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 50); do [ -d "/proc/$pid" ] || break; sleep 0.1; done
    [ ! -d "/proc/$pid" ] || kill -9 "$pid" 2>/dev/null || true
  fi
  rm -f "$1"
}

stop() {
  end_process "$dir/slurmd.sim0.pid" slurmd
  end_process "$dir/slurmd.sim1.pid" slurmd
  end_process "$dir/slurmctld.pid" slurmctld
  # A munged of this machine's own was left alone and has no pid file here.
  end_process "$dir/munged.pid" munged
}

start_munge() {
  munge -n >/dev/null 2>&1 && return 0
  [ -s /etc/munge/munge.key ] || fail "munge has no key" "expected /etc/munge/munge.key (package munge makes it)"
  install -d -o munge -g munge -m 0755 /run/munge
  # munged wants its folders to be its own.
  install -d -o munge -g munge -m 0700 /var/lib/munge /var/log/munge
  runuser -u munge -- munged --force >"$dir/log/munged.out" 2>&1 || fail "munged did not start" "$(tail -n 3 "$dir/log/munged.out")"
  for _ in $(seq 50); do
    munge -n >/dev/null 2>&1 && { cp /run/munge/munged.pid "$dir/munged.pid"; return 0; }
    sleep 0.1
  done
  fail "munged does not answer" "see $dir/log/munged.out and /var/log/munge"
}

idle_nodes() { timeout 5 sinfo --noheader --Node --format=%N:%t 2>/dev/null | grep -c ':\(idle\|mix\|alloc\)$' || true; }

start() {
  install_slurm
  stop
  mkdir -p "$dir"/state "$dir"/spool/sim0 "$dir"/spool/sim1 "$dir"/log
  sed -e "s|@HOST@|$(hostname -s)|g" -e "s|@STATE_DIR@|$dir|g" "$CX_ROOT/configs/slurm/slurm.conf.in" >"$SLURM_CONF"
  start_munge
  slurmctld -f "$SLURM_CONF" >"$dir/log/slurmctld.out" 2>&1 || fail "slurmctld did not start" "$(tail -n 3 "$dir/log/slurmctld.out")"
  for node in sim0 sim1; do
    slurmd -f "$SLURM_CONF" -N "$node" >"$dir/log/slurmd.$node.out" 2>&1 || fail "slurmd $node did not start" "$(tail -n 3 "$dir/log/slurmd.$node.out")"
  done
  for _ in $(seq 150); do
    if [ "$(idle_nodes)" = 2 ]; then
      echo "export SLURM_CONF=$SLURM_CONF"
      return 0
    fi
    sleep 0.2
  done
  fail "the nodes do not come up" "$(timeout 5 sinfo 2>&1 | tail -n 3)" "logs: $dir/log"
}

case "$action" in
  start) start ;;
  stop) stop ;;
  status) timeout 5 sinfo || exit 1 ;;
  *) usage ;;
esac
