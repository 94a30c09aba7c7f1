# Sourced by the job scripts: process participant number $1 (from 1) of BIDS_DIR into OUT_DIR.
# Usage: one_participant NUMBER BIDS_DIR OUT_DIR
one_participant() {
    local folders=("$2"/sub-*/)
    local folder=${folders[$1 - 1]:-}
    if [ ! -d "$folder" ]; then
        echo "there is no participant number $1 in $2" >&2
        return 2
    fi
    local label
    label=$(basename "$folder")
    export OMP_NUM_THREADS=1 ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1
    infarct bids "$2" "$3" participant --participant-label "${label#sub-}" --workers 1
}
