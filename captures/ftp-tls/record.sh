#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl lftp openssl

host pc 10.20.0.55
server partner 198.51.100.28
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=files.partner.example \
    -keyout "$WORK/key.pem" -out "$WORK/cert.pem" 2>"$WORK/openssl.log"
vsftpd_start partner vault 'not-a-secret-19' ssl_enable=YES ssl_tlsv1=YES force_local_logins_ssl=YES force_local_data_ssl=YES \
    "rsa_cert_file=$WORK/cert.pem" "rsa_private_key_file=$WORK/key.pem" require_ssl_reuse=NO

make_file random 26000 curl "$WORK/vault.kdbx"
make_file random 14000 lftp "$WORK/vault.bak"

capture_start
on pc curl -sS -k --ssl-reqd -T "$WORK/vault.kdbx" ftp://vault:not-a-secret-19@198.51.100.28/vault.kdbx >"$WORK/curl.log"
(cd "$WORK" && on pc lftp -c 'set net:max-retries 1; set net:timeout 10; set ftp:ssl-force yes; set ftp:ssl-protect-data yes
    set ssl:verify-certificate no
    open -u vault,not-a-secret-19 198.51.100.28
    put vault.bak; bye' >lftp.log 2>&1)
capture_stop
for name in vault.kdbx vault.bak; do cmp "$WORK/$name" "$WORK/vsftpd/home/$name"; done
finish
