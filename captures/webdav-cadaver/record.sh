#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need cadaver nginx

host pc 10.20.0.50
server share 203.0.113.60
nginx_start share 80 <<'CONF'
        location / { dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS; create_full_put_path on; }
CONF
mkdir -p "$WORK/nginx/root/dav"

make_file pdf 30000 plan "$WORK/plan.pdf"
printf '%s\n' 'mkcol in' 'cd in' 'put plan.pdf' 'ls' 'quit' >"$WORK/script"

capture_start
(cd "$WORK" && HOME=$WORK on pc cadaver http://203.0.113.60/dav/ <script >cadaver.log)
capture_stop
cmp "$WORK/plan.pdf" "$WORK/nginx/root/dav/in/plan.pdf"
finish
