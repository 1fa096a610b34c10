#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh

host pc 10.20.0.47
server partner 198.51.100.20
pureftpd_start partner slow 'not-a-secret-10'

make_file random 90000 abort "$WORK/large.bin"
make_file random 5000 after "$WORK/small.bin"

cat >"$WORK/client.py" <<'CLIENT'
"""An upload that its user stops half way, then another file on the same session."""

import ftplib
import time

with ftplib.FTP("198.51.100.20", "slow", "not-a-secret-10", timeout=10) as ftp:
    ftp.voidcmd("TYPE I")
    with open("large.bin", "rb") as file, ftp.transfercmd("STOR large.bin") as data:
        for _ in range(5):
            data.sendall(file.read(8192))
            time.sleep(0.1)
        ftp.putcmd("ABOR")
        print(ftp.getmultiline())
    print(ftp.getmultiline())
    with open("small.bin", "rb") as file:
        ftp.storbinary("STOR small.bin", file)
CLIENT

capture_start
(cd "$WORK" && on pc python3 client.py >client.log 2>&1)
capture_stop
cmp "$WORK/small.bin" "$WORK/pureftpd/home/small.bin"
finish
