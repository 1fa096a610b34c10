"""What must come out."""

from endpoint_events import Story

story = Story()
for local, remote in (("four.bin", "four.bin"), ("six.bin", "six copy.bin")):
    size, _ = story.file(local)
    story.ftp_upload(story.connection(sent=size), remote, size)
story.write(compare_alerts=False)
