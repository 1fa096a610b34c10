"""What must come out."""

from endpoint_events import Story

story = Story()
data = [c for c in story.ftp_data() if c.listener[1] != 2121]
files = (
    ("/Übersicht März.pdf", "Übersicht März.pdf", "STOR"),
    # It never asked where it was, so nothing says what its folder is in.
    ("für uns/文件.zip", "文件.zip", "STOR"),
    ("/für uns/two  spaces, end.txt", "two  spaces, end.txt", "APPE"),
    ("/für uns/文件 2.zip", "文件.zip", "STOR"),
)
for connection, (path, file, command) in zip(data, files, strict=True):
    story.ftp_upload(connection, path.rsplit("/", 1)[1], story.file(file)[0], command=command, file__path=path,
                     outfall__ftp__binding="announced", outfall__ftp__control__server__port=2121)
story.write(compare_alerts=False)
