"""What must come out."""

from endpoint_events import Story

story = Story()
curl, lftp, unique = story.ftp_data()
chosen = story.text("chosen").strip()
if chosen == "list.csv":
    raise SystemExit("the server chose the client's name")
for data, path, file, command in (
    (curl, "/in/offer.docx", "offer.docx", "STOR"),
    (lftp, "/in/photo.raw", "photo.raw", "STOR"),
    # This client never asked where it was, so nothing says what its folder is in.
    (unique, f"in/{chosen}", "list.csv", "STOU"),
):
    story.ftp_upload(data, path.rsplit("/", 1)[1], story.file(file)[0], command=command, file__path=path, outfall__ftp__binding="announced")
story.write(compare_alerts=False)
