#!/bin/sh
# Makes, once, the password that worker and host share, and runs a simulated Hyper-V host.
set -eu
umask 077
folder=/srv/hyperv
mkdir -p "$folder/HV1/C/Federation"
[ -e "$folder/password" ] || {
    python3 -c 'import secrets; print(secrets.token_urlsafe(24))' >"$folder/password.partial"
    mv "$folder/password.partial" "$folder/password"
}
exec federation-hyperv-sim --folder "$folder" --host HV1 --address 0.0.0.0 --port 5985 --password-file "$folder/password"
