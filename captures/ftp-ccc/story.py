"""What must come out."""

from endpoint_events import Story

story = Story()
for data, name in zip(story.ftp_data(), ("tape.img", "tape.idx"), strict=True):
    story.ftp_upload(data, name, story.file(name)[0], outfall__ftp__binding="announced")
story.write(compare_alerts=False)
