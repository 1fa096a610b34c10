"""What must come out."""

from endpoint_events import Story

story = Story()
# The commands are encrypted, so nothing says that these were uploads, and nothing may be made up.
if len(story.ftp_data()) != 2:
    raise SystemExit("not two data connections")
story.write(compare_alerts=False)
