#!/bin/bash
#$ -N infarct
#$ -cwd
#$ -t 1-100
#$ -tc 40
#$ -l h_vmem=4G,h_rt=00:30:00
#$ -j y
#$ -o logs
# mkdir -p logs; qsub sge.sh BIDS_DIR OUT_DIR, from this folder; the array has one number per participant.
set -euo pipefail
source ./one-participant.sh
one_participant "$SGE_TASK_ID" "$1" "$2"
