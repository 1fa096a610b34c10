"""What must come out."""

from endpoint_events import Story

story = Story()
nghttp, whole, curl = story.connections(server_port=80)
story.upload(nghttp, "http", story.file("data")[0], http__version="2", http__request__method="POST", http__response__status_code=200)
story.upload(whole, "http", story.file("notes")[0], http__version="1.1", http__request__method="POST", http__response__status_code=200)
for path in ("/notes", "/again"):
    story.upload(curl, "http", story.file("notes")[0], http__version="1.1", http__request__method="PUT",
                 http__response__status_code=201, url__original=path)
story.write(compare_alerts=False)
