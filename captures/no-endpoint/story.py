"""What must come out: there is no helper on this host, so there is no event file."""

from endpoint_events import Story

story = Story()
http = story.connection(server_port=80)
story.upload(http, "http", story.file("blob")[0], http__request__method="PUT")
story.alert(http, ["destination-rare", "volume", "no-endpoint-context"], 47)
story.write()
