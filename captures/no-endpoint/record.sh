#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl nginx

host camera 10.20.0.201
server drop 192.0.2.44
nginx_start drop 80 <<'CONF'
        location / { dav_methods PUT; create_full_put_path on; }
CONF

make_file random 150000 blob "$WORK/blob"

capture_start
on camera curl -sS -o "$WORK/answer.log" -H 'Expect:' -T "$WORK/blob" http://192.0.2.44/in/blob
capture_stop
cmp "$WORK/blob" "$WORK/nginx/root/in/blob"
finish
