#!/bin/bash
#SBATCH --job-name=infarct
#SBATCH --array=1-100%40
#SBATCH --cpus-per-task=1
#SBATCH --mem=3G
#SBATCH --time=00:30:00
#SBATCH --output=logs/%A_%a.txt
# mkdir -p logs; sbatch slurm.sh BIDS_DIR OUT_DIR, from this folder; the array has one number per participant.
set -euo pipefail
source "${SLURM_SUBMIT_DIR:-.}/one-participant.sh"
one_participant "$SLURM_ARRAY_TASK_ID" "$1" "$2"
