"""What must come out."""

from endpoint_events import Story

story = Story()
size, _ = story.file("blob")
# The refused attempt sent no byte of the body, so it is no upload.
sender = [c for c in story.connections(server_port=80) if c.end[c.opener] > size]
story.upload(sender[0], "http", size, http__request__method="PUT", http__response__status_code=200)
story.write(compare_alerts=False)
