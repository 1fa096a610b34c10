#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need tnftp

host pc 10.20.0.49
server partner 198.51.100.20
vsftpd_start partner drop 'not-a-secret-12'

make_file random 12345 first "$WORK/report.dat"
cat >"$WORK/script" <<'SCRIPT'
user drop not-a-secret-12
epsv4
binary
sunique
put report.dat
put report.dat
bye
SCRIPT

capture_start
(cd "$WORK" && on pc tnftp -p -n -i 198.51.100.20 <script >tnftp.log)
capture_stop
finish
