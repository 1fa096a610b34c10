"""What must come out."""

import subprocess

from endpoint_events import Story

story = Story()
http = story.connection(server_port=80)
# cadaver writes its own questions; their lengths are read off the wire.
rows = subprocess.run(
    ["tshark", "-r", story.folder + "/capture.pcap", "-Y", "http.request", "-T", "fields", "-e", "http.request.method", "-e", "http.content_length"],
    check=True,
    capture_output=True,
    text=True,
).stdout.splitlines()
for row in rows:
    method, _, length = row.partition("\t")
    if int(length or 0):
        if method == "PUT" and int(length) != story.file("plan.pdf")[0]:
            raise SystemExit("the PUT is not the file")
        story.upload(http, "http", int(length), http__request__method=method)
story.write(compare_alerts=False)
