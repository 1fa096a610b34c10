"""What the host of this story reported, and what must come out."""

from endpoint_events import LOCAL_SERVICE, Story

story = Story()
http = story.connection(server_port=80)
size, digest = story.file("OfficeSupplies.zip")
query, _ = story.file("propfind.xml")

pc = story.host("WKS-0161", ["10.20.0.61"], "p.novak")
web_client = pc.process(
    "svchost.exe", "C:\\Windows\\system32\\svchost.exe -k LocalService -p -s WebClient", pc.services, -5_400.0, pid=3304, user=LOCAL_SERVICE
)
shell = pc.process("C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe", "powershell.exe -NoProfile", pc.explorer, -140.0)

archive = pc.profile + "AppData\\Roaming\\OfficeSupplies.zip"
documents = pc.profile + "Documents\\"
pc.touch(shell, "create", archive, -33.40)
for when, name in ((-33.30, "Board minutes.docx"), (-33.20, "Patent draft.pdf"), (-33.10, "Salaries.xlsx")):
    pc.touch(shell, "read", documents + name, when, size=story.file("documents/" + name)[0])
pc.touch(shell, "write", archive, -33.00, size=size, sha256=digest)

# Copy-Item to the share, two seconds long: PowerShell reads the archive, and the WebClient service,
# which sends it at the end, keeps a copy of its own in its cache.
pc.connect(web_client, http)
cache = "C:\\Windows\\ServiceProfiles\\LocalService\\AppData\\Local\\Temp\\TfsStore\\Tfs_DAV\\{7A1E2C54-93D8-4B0B-8C0E-5F1D7C3B2A90}.zip"
pc.touch(web_client, "create", cache, 1.20)
pc.touch(shell, "read", archive, 1.40, size=size)
pc.touch(web_client, "write", cache, 1.60, size=size)

story.upload(http, "http", query, web_client, http__request__method="PROPFIND")
story.upload(http, "http", size, web_client, http__request__method="PUT")
story.alert(http, ["data-staged", "process-unexpected", "destination-rare"], 73, [("OfficeSupplies.zip", shell)], web_client)
story.write()
