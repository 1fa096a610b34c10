#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
# shellcheck source-path=SCRIPTDIR source=../ftp-proftpd/proftpd.sh
. ../ftp-proftpd/proftpd.sh
need lftp

host pc 10.20.0.58
server partner 198.51.100.31
DISK=32k proftpd_start partner full 'not-a-secret-22'

make_file random 70000 quota "$WORK/dump.sql"
make_file random 4000 fits "$WORK/notes.md"

cat >"$WORK/client.py" <<'CLIENT'
"""A small file, one for which the server's disk is too small, and the small one again."""

import ftplib
import time

with ftplib.FTP("198.51.100.31", "full", "not-a-secret-22", timeout=10) as ftp:
    with open("notes.md", "rb") as file:
        ftp.storbinary("STOR notes.md", file)
    ftp.voidcmd("TYPE I")
    with open("dump.sql", "rb") as file, ftp.transfercmd("STOR dump.sql") as data:
        try:
            while block := file.read(8192):
                data.sendall(block)
                time.sleep(0.05)
        except OSError as error:
            print("data connection:", error)
    try:
        print(ftp.voidresp())
    except ftplib.Error as error:
        print("reply:", error)
    ftp.delete("dump.sql")
    with open("notes.md", "rb") as file:
        ftp.storbinary("STOR again.md", file)
CLIENT

capture_start
(cd "$WORK" && on pc python3 client.py >client.log 2>&1)
capture_stop
grep -q '^reply: [45]5[0-9]' "$WORK/client.log"
finish
