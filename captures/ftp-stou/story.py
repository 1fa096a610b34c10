"""What must come out."""

from endpoint_events import Story

story = Story()
size, _ = story.file("report.dat")
for data in story.ftp_data():
    # The server chooses the name, so none is expected here.
    story.ftp_upload(data, None, size, command="STOU")
if len(story.uploads) != 2:
    raise SystemExit("not two uploads")
story.write(compare_alerts=False)
