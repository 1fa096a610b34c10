#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl lftp

host pc 10.20.0.43
server partner 198.51.100.20
vsftpd_start partner logs 'not-a-secret-9'

make_file random 70000 journal "$WORK/whole"
head -c 20000 "$WORK/whole" >"$WORK/journal.dat"

capture_start
url=ftp://logs:not-a-secret-9@198.51.100.20/journal.dat
on pc curl -sS -T "$WORK/journal.dat" "$url" >"$WORK/curl.log"
head -c 45000 "$WORK/whole" >"$WORK/journal.dat"
on pc curl -sS -C - -T "$WORK/journal.dat" "$url" >"$WORK/curl.log"
head -c 70000 "$WORK/whole" >"$WORK/journal.dat"
(cd "$WORK" && on pc lftp -c 'set net:max-retries 1; set net:timeout 10; set ftp:ssl-allow no
    open -u logs,not-a-secret-9 198.51.100.20
    put -c journal.dat; bye' >lftp.log 2>&1)
capture_stop
cmp "$WORK/whole" "$WORK/vsftpd/home/journal.dat"
finish
