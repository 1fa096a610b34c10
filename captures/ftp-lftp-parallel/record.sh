#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need lftp

host pc 10.20.0.42
server partner 198.51.100.20
pureftpd_start partner mirror 'not-a-secret-8'

for n in 1 2 3 4 5 6; do make_file random $((9000 + n * 1111)) "part$n" "$WORK/tree/part$n.bin"; done

PRECISION=nano
capture_start
(cd "$WORK" && on pc lftp -c 'set net:max-retries 1; set net:timeout 10; set ftp:ssl-allow no
    set net:limit-rate 0:8000; set net:socket-buffer 4096
    open -u mirror,not-a-secret-8 198.51.100.20
    mirror -R --parallel=3 tree incoming; bye' >lftp.log 2>&1)
capture_stop
diff -r "$WORK/tree" "$WORK/pureftpd/home/incoming"
finish
