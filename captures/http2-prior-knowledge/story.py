"""What must come out."""

from endpoint_events import Story

story = Story()
curl, form, nghttp = story.connections(server_port=80)
one, post = story.file("one")[0], story.file("post")[0]
pdf, sha256 = story.file("form.pdf")
# A multipart body is the file and its frame: two boundaries of dashes and hexadecimal digits and the part's head.
framed = pdf + 191
story.upload(curl, "http", one, http__version="2", http__request__method="PUT", http__response__status_code=201, url__original="/one")
story.upload(form, "http", framed, http__version="2", http__request__method="POST", http__response__status_code=200,
             file__name="form.pdf", file__size=pdf, file__hash__sha256=sha256)
for path in ("/post", "/again"):
    story.upload(nghttp, "http", post, http__version="2", http__request__method="PUT", http__response__status_code=201,
                 url__original=path, user_agent__original="nghttp")
story.write(compare_alerts=False)
