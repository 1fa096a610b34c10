#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need lftp

host pc 10.20.0.52
server partner 198.51.100.24
vsftpd_start partner scans 'not-a-secret-15'
install -d -o 2001 -g 2001 "$WORK/vsftpd/home/incoming" "$WORK/vsftpd/home/done"

make_file pdf 23000 lftp "$WORK/contract.pdf"
make_file random 15000 plain "$WORK/index.dat"
make_file csv 8000 ftplib "$WORK/ledger.csv"

cat >"$WORK/client.py" <<'CLIENT'
"""A file under a working name that becomes its own in another folder, and one that keeps its name."""

import ftplib

with ftplib.FTP("198.51.100.24", "scans", "not-a-secret-15", timeout=10) as ftp:
    ftp.cwd("/incoming")
    with open("ledger.csv", "rb") as file:
        ftp.storbinary("STOR upload.part", file)
    ftp.rename("upload.part", "/done/ledger.csv")
    with open("index.dat", "rb") as file:
        ftp.storbinary("STOR second.dat", file)
CLIENT

capture_start
(cd "$WORK" && on pc lftp -c 'set net:max-retries 1; set net:timeout 10; set ftp:ssl-allow no; set xfer:temp-file-name *.tmp
    open -u scans,not-a-secret-15 198.51.100.24
    cd incoming; set xfer:use-temp-file yes; put contract.pdf; set xfer:use-temp-file no; put index.dat; bye' >lftp.log 2>&1)
(cd "$WORK" && on pc python3 client.py >client.log 2>&1)
capture_stop
cmp "$WORK/contract.pdf" "$WORK/vsftpd/home/incoming/contract.pdf"
cmp "$WORK/index.dat" "$WORK/vsftpd/home/incoming/index.dat"
cmp "$WORK/ledger.csv" "$WORK/vsftpd/home/done/ledger.csv"
cmp "$WORK/index.dat" "$WORK/vsftpd/home/incoming/second.dat"
finish
