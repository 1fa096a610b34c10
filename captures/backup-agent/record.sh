#!/usr/bin/env bash
# See README.md. Leaves capture.pcap, endpoint.jsonl and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need lftp zip

host server01 10.20.0.10
server partner 198.51.100.20
pureftpd_start partner northwind 'not-a-secret-5'

make_file random 150000 nightly "$WORK/nightly.bak"
make_file csv 30000 catalogue "$WORK/catalogue.csv"

PRECISION=nano
capture_start
(cd "$WORK" && on server01 lftp -c 'set net:max-retries 1; set net:timeout 10; set ftp:ssl-allow no
    open -u northwind,not-a-secret-5 198.51.100.20
    put nightly.bak; put catalogue.csv; bye' >lftp.log 2>&1)
capture_stop
cmp "$WORK/nightly.bak" "$WORK/pureftpd/home/nightly.bak"
finish
