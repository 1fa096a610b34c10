#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need tnftp

host pc 10.20.0.57
server partner 198.51.100.30
vsftpd_start partner batch 'not-a-secret-21' ascii_upload_enable=YES

make_file text 18000 ascii "$WORK/cut.txt"
head -n 190 "$WORK/cut.txt" >"$WORK/dos.txt"
tr -d '\r' <"$WORK/dos.txt" >"$WORK/orders.txt"
make_file random 7000 image "$WORK/orders.idx"

cat >"$WORK/client.py" <<'CLIENT'
"""A text in lines, its size announced, then a file as it is, unannounced."""

import ftplib
import os

with ftplib.FTP("198.51.100.30", "batch", "not-a-secret-21", timeout=10) as ftp:
    ftp.voidcmd("TYPE A")
    ftp.voidcmd(f"ALLO {os.path.getsize('orders.txt')}")
    with open("orders.txt", "rb") as file:
        ftp.storlines("STOR orders.txt", file)
    with open("orders.idx", "rb") as file:
        ftp.storbinary("STOR orders.idx", file)
    ftp.voidcmd("TYPE A N")
    ftp.voidcmd(f"ALLO {os.path.getsize('orders.txt')} R 80")
    with open("orders.txt", "rb") as file:
        ftp.storlines("APPE orders.txt", file)
CLIENT
cat >"$WORK/script" <<'SCRIPT'
user batch not-a-secret-21
epsv4
ascii
put orders.txt typed.txt
bye
SCRIPT

capture_start
(cd "$WORK" && on pc python3 client.py >client.log 2>&1)
(cd "$WORK" && on pc tnftp -p -n -i 198.51.100.30 <script >tnftp.log)
capture_stop
cmp "$WORK/orders.idx" "$WORK/vsftpd/home/orders.idx"
cmp "$WORK/orders.txt" "$WORK/vsftpd/home/typed.txt"
cat "$WORK/orders.txt" "$WORK/orders.txt" | cmp - "$WORK/vsftpd/home/orders.txt"
finish
