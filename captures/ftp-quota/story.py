"""What must come out."""

from endpoint_events import Story

story = Story()
notes, dump, again = story.ftp_data()
left = dump.end[dump.sides(story.home)[0]]
if left >= story.file("dump.sql")[0]:
    raise SystemExit("all of it left the client")
reply = int(story.text("client.log").split("reply: ")[1][:3])
story.ftp_upload(notes, "notes.md", story.file("notes.md")[0], outfall__ftp__binding="announced")
story.ftp_upload(dump, "dump.sql", left, outfall__upload__state="partial", outfall__ftp__reply_code=reply, outfall__ftp__binding="announced")
story.ftp_upload(again, "again.md", story.file("notes.md")[0], outfall__ftp__binding="announced")
story.write(compare_alerts=False)
