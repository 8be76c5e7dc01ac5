#!/usr/bin/env bash
# One shard of a run, as a task of a SLURM array:
#
#   sbatch --array=1-8 --mem=16G --time=04:00:00 shard.sh 8 OUT embed genome.fa.gz -m MODEL --bin 128
#
# The table is OUT/TASK-of-8.parquet, its checkpoints are in OUT/checkpoints. Five minutes before the
# job's time is up (of short jobs a fifth) the run ends with a checkpoint and code 143, and the task goes
# back into the queue, where it goes on. CHECKPOINTS names another directory, or none where a checkpoint
# costs more than the work it saves. With --gres=gpu:1 each task has a GPU of its own:
# add --chunk, so that it goes on with the same one whatever memory is free then.
#SBATCH --job-name=crocuta
#SBATCH --cpus-per-task=8
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x.%A.%a.log
set -euo pipefail
shards=$1 out=$2
shift 2
task=$SLURM_ARRAY_TASK_ID
# SLURM_JOB_ID of an array's last task is that of the array, and would stand for all of its tasks.
job=${SLURM_ARRAY_JOB_ID}_$task
checkpoints=${CHECKPOINTS-$out/checkpoints}
if [ -n "${SLURM_JOB_GPUS:-}" ]; then device=cuda; else device=cpu; fi
mkdir -p "$out" ${checkpoints:+"$checkpoints"}

options=(
    --output "$out/$task-of-$shards.parquet"
    --summary "$out/$task-of-$shards.json"
    --shard "$task/$shards"
    --device "$device"
    --threads "$SLURM_CPUS_PER_TASK"
    --force
)
if [ -n "$checkpoints" ]; then
    options+=(--resume --checkpoint-dir "$checkpoints")
    left=$((${SLURM_JOB_END_TIME:-0} - $(date +%s)))
    margin=$((left < 1500 ? left / 5 : 300))
    if [ "$left" -gt 0 ]; then options+=(--time-limit "$((left - margin))s"); fi
fi

code=0
srun --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" crocuta "$@" "${options[@]}" || code=$?
# After scancel the job is no longer RUNNING, and stays out of the queue.
state() { squeue --noheader --jobs="$job" --format=%T; }
case $code in
130 | 143)
    if [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ] && [ "$(state)" = RUNNING ]; then scontrol requeue "$job"; fi
    ;;
esac
exit "$code"
