#!/bin/bash
#PBS -N infarct
#PBS -J 1-100
#PBS -l select=1:ncpus=1:mem=3gb
#PBS -l walltime=00:30:00
#PBS -j oe
# qsub -v BIDS_DIR=...,OUT_DIR=... pbs.sh, from this folder; the array has one number per participant.
set -euo pipefail
cd "$PBS_O_WORKDIR"
source ./one-participant.sh
one_participant "$PBS_ARRAY_INDEX" "$BIDS_DIR" "$OUT_DIR"
