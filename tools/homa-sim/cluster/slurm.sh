#!/usr/bin/env bash
# An array job of Slurm that simulates a plan, a point per task. Every task writes a file named by what went into it, so
# a job may be submitted again until `homa sim list` shows that all points are done.
#
#   points=$(homa --json sim list plan.toml | jq '.points | length')
#   sbatch --array=0-$((points - 1))%200 slurm.sh plan.toml /shared/results
#   homa sim collect /shared/results
#
# PLAN and DIR lie on a file system that all nodes see; `homa` is the same program on all of them.
#SBATCH --job-name=homa-sim
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
exec homa sim point "$1" --index "${SLURM_ARRAY_TASK_ID:?sbatch --array=0-N sets it}" --out "$2"
