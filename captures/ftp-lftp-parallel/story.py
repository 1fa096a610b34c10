"""What must come out."""

from endpoint_events import Story

story = Story()
transfers = story.ftp_data()
if not any(later.opened < one.last for one, later in zip(transfers, transfers[1:])):
    raise SystemExit("no two transfers at the same time")
for number in range(1, 7):
    name = f"part{number}.bin"
    size, _ = story.file("tree/" + name)
    story.ftp_upload(story.connection(sent=size), name, size)
story.write(compare_alerts=False)
