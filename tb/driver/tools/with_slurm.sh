#!/usr/bin/env bash
# Runs a command with a one-machine Slurm of its own. Exit status 77, with the reason, where Slurm cannot run.
# Usage: with_slurm.sh COMMAND [ARGUMENT...]
set -u
root=$(cd "$(dirname "$0")/../../.." && pwd)
for program in sbatch slurmctld slurmd munged; do
  command -v "$program" >/dev/null || { echo "no $program (packages slurm-wlm, munge): skipped"; exit 77; }
done
[ "$(id -u)" = 0 ] || { echo "a Slurm of one's own needs root: skipped"; exit 77; }
folder=$(mktemp -d)
end() {
  "$root/scripts/slurm-local.sh" stop "$folder"
  rm -rf "$folder"
}
trap end EXIT
started=$("$root/scripts/slurm-local.sh" start "$folder") || { echo "Slurm does not start here: skipped"; exit 77; }
eval "$started"
"$@"
