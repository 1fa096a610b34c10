"""What must come out."""

from endpoint_events import Story

story = Story()
sender, receiver = "10.20.0.60", "198.51.100.25"
controls = {(c.opener[0], c.listener[0]) for c in story.all if c.listener[1] == 21}
if controls != {("10.20.0.53", sender), ("10.20.0.53", receiver)}:
    raise SystemExit(f"not the two control connections: {controls}")
# Whichever server opened it, the bytes go from the one to the other.
(data,) = [c for c in story.all if {c.opener[0], c.listener[0]} == {sender, receiver}]
story.ftp_upload(data, "copy.7z", story.file("designs.7z")[0], outfall__ftp__binding="third-host")
_, record = story.uploads[0]
if (record["source.ip"], record["destination.ip"]) != (sender, receiver):
    raise SystemExit(f"not from {sender} to {receiver}: {record}")
story.write(compare_alerts=False)
