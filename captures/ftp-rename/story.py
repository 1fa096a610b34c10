"""What must come out."""

from endpoint_events import Story

story = Story()
uploads = (
    ("contract.pdf", "/incoming/contract.pdf", "/incoming/contract.pdf.tmp"),
    ("index.dat", "/incoming/index.dat", None),
    ("ledger.csv", "/done/ledger.csv", "/incoming/upload.part"),
    ("index.dat", "/incoming/second.dat", None),
)
for data, (file, path, before) in zip(story.ftp_data(), uploads, strict=True):
    more = {"outfall__ftp__renamed_from": before} if before else {}
    story.ftp_upload(data, path.rsplit("/", 1)[1], story.file(file)[0], file__path=path, outfall__ftp__binding="announced", **more)
story.write(compare_alerts=False)
