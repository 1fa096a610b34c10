#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
# shellcheck source-path=SCRIPTDIR source=../ftp-proftpd/proftpd.sh
. ../ftp-proftpd/proftpd.sh
need lftp openssl

host pc 10.20.0.56
server partner 198.51.100.29
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=files.partner.example \
    -keyout "$WORK/key.pem" -out "$WORK/cert.pem" 2>"$WORK/openssl.log"
proftpd_start partner ccc 'not-a-secret-20' 'TLSEngine on' "TLSRSACertificateFile $WORK/cert.pem" \
    "TLSRSACertificateKeyFile $WORK/key.pem" 'TLSRequired off' "TLSLog $WORK/proftpd-tls.log" 'TLSOptions NoSessionReuseRequired'

make_file random 19000 ccc "$WORK/tape.img"
make_file random 11000 again "$WORK/tape.idx"

capture_start
(cd "$WORK" && on pc lftp -c 'set net:max-retries 1; set net:timeout 10; set ftp:ssl-force yes; set ftp:ssl-use-ccc yes
    set ftp:ssl-protect-data no; set ssl:verify-certificate no
    open -u ccc,not-a-secret-20 198.51.100.29
    debug 9; put tape.img; put tape.idx; bye' >lftp.log 2>&1)
capture_stop
for name in tape.img tape.idx; do cmp "$WORK/$name" "$WORK/proftpd/home/$name"; done
finish
