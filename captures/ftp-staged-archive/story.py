"""What the host of this story reported, and what must come out."""

from endpoint_events import Story

story = Story()
control = story.connection(server_port=21)
data = story.connection(server_port=20)
size, digest = story.file("old.7z")

pc = story.host("WKS-0142", ["10.20.0.42"], "j.meier")
shell = pc.process("cmd.exe", '"C:\\Windows\\system32\\cmd.exe"', pc.explorer, -312.0)

archive = "C:\\$Recycle.Bin\\old.7z"
documents = pc.profile + "Documents\\"
packer = pc.process("C:\\Program Files\\7-Zip\\7z.exe", f'7z.exe a {archive} "{documents}*"', shell, -48.0, signer="")
pc.touch(packer, "create", archive + ".tmp", -47.90)
for when, name in ((-47.85, "Budget 2025.docx"), (-47.80, "Customers.xlsx"), (-47.74, "Supplier agreement.pdf")):
    pc.touch(packer, "read", documents + name, when, size=story.file("documents/" + name)[0])
pc.touch(packer, "write", archive + ".tmp", -47.60, size=size)
pc.touch(packer, "rename", archive + ".tmp", -47.55, size=size, sha256=digest, new_path=archive)
pc.end(packer, -47.50)

script = pc.profile + "AppData\\Local\\Temp\\s.txt"
pc.touch(shell, "create", script, -9.0)
pc.touch(shell, "write", script, -8.9, size=story.file("script.txt")[0])
ftp = pc.process("ftp.exe", f"ftp.exe -s:{script}", shell, -0.120)
pc.touch(ftp, "read", script, -0.060, size=story.file("script.txt")[0])
pc.connect(ftp, control)
pc.connect(ftp, data)
pc.touch(ftp, "read", archive, data, size=size)
pc.end(ftp, control)

story.ftp_upload(data, "old.7z", size, ftp)
story.alert(data, ["data-staged", "process-unexpected", "dual-use-program", "destination-rare"], 73, [("old.7z", packer)], ftp)
story.write()
