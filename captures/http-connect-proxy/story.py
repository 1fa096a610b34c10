"""What must come out."""

from endpoint_events import Story

story = Story()
size, _ = story.file("ledger.bin")
story.upload(story.connection(server_port=3128), "http", size, http__request__method="PUT", http__response__status_code=201,
             url__original="/in/ledger.bin", destination__domain="drop.example", outfall__upload__proxied_to="drop.example")
story.write(compare_alerts=False)
