"""What the host of this story reported, and what must come out."""

from endpoint_events import Story

story = Story()
http = story.connection(server_port=8080)
body = int(story.text("size.log"))

pc = story.host("WKS-0177", ["10.20.0.77"], "a.rossi")
script = pc.profile + "Downloads\\Invoice_8841.js"
host = pc.process("wscript.exe", f'"C:\\Windows\\System32\\WScript.exe" "{script}"', pc.explorer, -6.2)
pc.touch(host, "read", script, -6.1, size=4_118)
for when, name in ((-0.21, "Proposal.docx"), (-0.16, "contacts.csv")):
    size, digest = story.file(name)
    pc.touch(host, "read", pc.profile + "Documents\\" + name, when, size=size, sha256=digest)
pc.connect(host, http)
pc.end(host, http)

story.upload(http, "http", body, host, http__request__method="POST", file__name="Proposal.docx", file__size=story.file("Proposal.docx")[0])
story.alert(http, ["data-staged", "process-unexpected", "dual-use-program", "destination-rare"], 73, [("Proposal.docx", None), ("contacts.csv", None)], host)
story.write()
