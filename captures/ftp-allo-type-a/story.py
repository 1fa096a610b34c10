"""What must come out."""

from endpoint_events import Story

story = Story()
lines, image, more, typed = story.ftp_data()
text, _ = story.file("orders.txt")
# On the wire a line ends in CR and LF, so it is longer there than as a file.
wire, _ = story.file("dos.txt")
if wire <= text:
    raise SystemExit("the lines did not become longer")
story.ftp_upload(lines, "orders.txt", wire, outfall__ftp__allocated=text, outfall__ftp__binding="announced")
story.ftp_upload(image, "orders.idx", story.file("orders.idx")[0], outfall__ftp__binding="announced")
story.ftp_upload(more, "orders.txt", wire, command="APPE", outfall__ftp__allocated=text, outfall__ftp__binding="announced")
story.ftp_upload(typed, "typed.txt", wire, outfall__ftp__binding="announced")
story.write(compare_alerts=False)
