#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl nginx

host pc 10.20.0.45
server drop 198.51.100.77
nginx_start drop 80 <<'CONF'
        location / { dav_methods PUT; create_full_put_path on; }
CONF

make_file random 61234 chunked "$WORK/blob"

for piece in '0 100' '100 30000' '30100 1' '30101 31133'; do
    read -r skip count <<<"$piece"
    dd if="$WORK/blob" of="$WORK/piece$skip" iflag=skip_bytes,count_bytes skip="$skip" count="$count" status=none
done

capture_start
# Fed in four pieces with a pause between, so the chunks differ in size.
{
    for skip in 0 100 30100 30101; do
        cat "$WORK/piece$skip"
        sleep 0.2
    done
} | on pc curl -sS -o "$WORK/answer.log" -T - http://198.51.100.77/in/blob
capture_stop
cmp "$WORK/blob" "$WORK/nginx/root/in/blob"
finish
to_pcapng
