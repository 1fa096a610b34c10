#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need httperf

host pc 10.20.0.46
server drop 198.51.100.77
receiver_start drop 80 --slow # or each answer would come before the next request

# A first request, then a burst of five that does not wait for answers; the bodies differ in length.
for size in 1001 2002 303 4004 5 606; do
    make_file text $size "pipe$size" "$WORK/body$size"
    printf "/collect/%s method=POST contents='%s'\n" "$size" "$(tr -d '\r\n' <"$WORK/body$size")"
done | sed '2,$s/^/    /' >"$WORK/session"

capture_start
on pc httperf --server 198.51.100.77 --port 80 --wsesslog=1,0,"$WORK/session" --timeout 5 >"$WORK/httperf.log" 2>&1
capture_stop
finish
