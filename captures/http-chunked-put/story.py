"""What must come out."""

from endpoint_events import Story

story = Story()
size, _ = story.file("blob")
story.upload(story.connection(server_port=80), "http", size, http__request__method="PUT", http__response__status_code=201)
story.write(compare_alerts=False)
