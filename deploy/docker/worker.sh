#!/bin/sh
# Runs one worker. FEDERATION_WORKER_USERS names a folder with a broker URL for each worker that this cluster may have,
# NAME.url: the first that nobody else holds is taken, with its name, and held until this process ends, however it ends.
# So each replica has a broker user of its own, and one that is started again gets its old partitions back.
set -eu
if [ -n "${FEDERATION_WORKER_USERS:-}" ]; then
    for file in "$FEDERATION_WORKER_USERS"/*.url; do
        [ -r "$file" ] || continue
        exec 9<"$file"
        if flock --nonblock 9; then
            FEDERATION_BROKER_FILE=$file
            FEDERATION_WORKER_ID=$(basename "$file" .url)
            FEDERATION_WORKER_CONFINED=true
            export FEDERATION_BROKER_FILE FEDERATION_WORKER_ID FEDERATION_WORKER_CONFINED
            exec federation worker "$@"
        fi
        exec 9<&-
    done
    echo "every broker user in $FEDERATION_WORKER_USERS is held by another worker, or there is none: grant more" >&2
    exit 69
fi
exec federation worker "$@"
