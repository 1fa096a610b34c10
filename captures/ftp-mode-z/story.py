"""What must come out."""

from endpoint_events import Story

story = Story()
for data, name in zip(story.ftp_data(), ("minutes.txt", "key.bin"), strict=True):
    size = data.end[data.sides(story.home)[0]]
    if size == story.file(name)[0]:
        raise SystemExit(f"{name} was not compressed")
    story.ftp_upload(data, name, size, outfall__ftp__mode="Z", outfall__ftp__binding="announced")
story.write(compare_alerts=False)
