#!/usr/bin/env bash
# Makes a scene of each picture in a list, by an array of SLURM jobs:
#
#   LIST=list.txt sbatch examples/clusters/slurm-array.sh experiment=quality
#
# All nodes must see the list, the pictures and the output folder. Submit it again to continue:
# finished pictures are passed over. Another number of jobs: SHARDS=4 sbatch --array=0-3 ...
#SBATCH --job-name=lift
#SBATCH --array=0-15
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=lift-%A_%a.log
# One GPU for each job: #SBATCH --gpus-per-task=1
set -euo pipefail

list=${LIST:-list.txt}
output=${OUTPUT:-outputs}
# Not SLURM_ARRAY_TASK_COUNT: that is smaller if only some jobs are submitted again.
shards=${SHARDS:-16}

if ((SLURM_ARRAY_TASK_ID >= shards)); then
    echo "job $SLURM_ARRAY_TASK_ID of the array has no shard: SHARDS=$shards" >&2
    exit 2
fi
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-4} NUMBA_NUM_THREADS=${SLURM_CPUS_PER_TASK:-4}
srun --kill-on-bad-exit lift batch "$list" --shard "$SLURM_ARRAY_TASK_ID/$shards" \
    output="$output" "$@"
