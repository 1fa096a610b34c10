"""What must come out."""

from endpoint_events import Story

story = Story()
size = story.file("live")[0] + len("live")
story.upload(story.connection(server_port=80), "websocket", size, http__version="1.1", http__request__method="GET",
             http__response__status_code=101, url__original="/live")
story.write(compare_alerts=False)
