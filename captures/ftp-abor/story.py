"""What must come out."""

from endpoint_events import Story

story = Story()
aborted, whole = story.ftp_data()
# What had been sent when the user stopped it: five blocks.
story.ftp_upload(aborted, "large.bin", 5 * 8192, outfall__upload__state="partial")
story.ftp_upload(whole, "small.bin", story.file("small.bin")[0])
story.write(compare_alerts=False)
