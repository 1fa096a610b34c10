#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl lftp

host pc 10.20.0.51
server partner 198.51.100.23
# What the server takes for its own address is one behind a translator.
vsftpd_start partner intake 'not-a-secret-14' pasv_address=172.16.4.9

make_file xlsx 21000 curl "$WORK/plan.xlsx"
make_file random 17000 lftp "$WORK/plan.bak"

capture_start
on pc curl -sS --disable-epsv --ftp-skip-pasv-ip -T "$WORK/plan.xlsx" ftp://intake:not-a-secret-14@198.51.100.23/plan.xlsx >"$WORK/curl.log"
(cd "$WORK" && on pc lftp -c 'set net:max-retries 1; set net:timeout 10; set ftp:ssl-allow no; set ftp:fix-pasv-address yes
    open -u intake,not-a-secret-14 198.51.100.23
    put plan.bak; bye' >lftp.log 2>&1)
capture_stop
for name in plan.xlsx plan.bak; do cmp "$WORK/$name" "$WORK/vsftpd/home/$name"; done
finish
