"""What must come out."""

from endpoint_events import Story

story = Story()
for size in (1001, 2002, 303, 4004, 5, 606):
    body = story.text(f"body{size}").replace("\r", "").replace("\n", "")
    story.upload(
        story.connection(server_port=80), "http", len(body), http__request__method="POST", url__original=f"/collect/{size}",
        http__response__status_code=200,
    )
story.write(compare_alerts=False)
