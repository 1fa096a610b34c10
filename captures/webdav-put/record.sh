#!/usr/bin/env bash
# See README.md. Leaves capture.pcap, endpoint.jsonl and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl nginx zip

host pc 10.20.0.61
server share 203.0.113.60
nginx_start share 80 <<'CONF'
        location / { dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS; create_full_put_path on; }
CONF
mkdir -p "$WORK/nginx/root/webdav"

docs=$WORK/documents
make_file docx 41000 minutes "$docs/Board minutes.docx"
make_file pdf 36000 patent "$docs/Patent draft.pdf"
make_file xlsx 27000 salaries "$docs/Salaries.xlsx"
(cd "$docs" && zip -q -X "$WORK/OfficeSupplies.zip" ./*)

printf '%s' '<?xml version="1.0" encoding="utf-8" ?><D:propfind xmlns:D="DAV:"><D:prop><D:creationdate/>' \
    '<D:getcontentlength/><D:getlastmodified/><D:resourcetype/></D:prop></D:propfind>' >"$WORK/propfind.xml"

agent=Microsoft-WebDAV-MiniRedir/10.0.19045
share=http://203.0.113.60/webdav
report='%{method} %{size_upload} %{response_code}\n'

capture_start
# One connection: options, two questions (one without and one with a body), an empty PUT that makes
# the name, then the file; half a second apart.
on pc curl --rate 2/s -sS -o "$WORK/out1" -w "$report" -A "$agent" -X OPTIONS "$share" \
    --next -sS -o "$WORK/out2" -w "$report" -A "$agent" -X PROPFIND -H 'Depth: 0' -H 'Content-Length: 0' "$share/OfficeSupplies.zip" \
    --next -sS -o "$WORK/out3" -w "$report" -A "$agent" -X PROPFIND -H 'Depth: 1' \
    -H 'Content-Type: text/xml; charset="utf-8"' --data-binary "@$WORK/propfind.xml" "$share/" \
    --next -sS -o "$WORK/out4" -w "$report" -A "$agent" -X PUT -H 'Content-Length: 0' "$share/OfficeSupplies.zip" \
    --next -sS -o "$WORK/out5" -w "$report" -A "$agent" -H 'Expect:' -T "$WORK/OfficeSupplies.zip" "$share/OfficeSupplies.zip" \
    >"$WORK/curl.log"
capture_stop
cmp "$WORK/OfficeSupplies.zip" "$WORK/nginx/root/webdav/OfficeSupplies.zip"
finish
