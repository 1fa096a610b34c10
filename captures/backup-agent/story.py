"""What the host of this story reported, and what must come out."""

from endpoint_events import SYSTEM, Story

story = Story()
control = story.connection(server_port=21)

srv = story.host("SRV-FILE01", ["10.20.0.10"], "svc-backup", uptime=400_000, helper_since=3_200)
folder = "C:\\Program Files\\Northwind Backup\\"
service = srv.process(folder + "service.exe", f'"{folder}service.exe"', srv.services, -399_000.0, pid=2960, user=SYSTEM, signer="Northwind Traders Ltd")
agent = srv.process(folder + "agent.exe", f'"{folder}agent.exe" --job nightly', service, -95.0, signer="Northwind Traders Ltd")
staging = "C:\\ProgramData\\Northwind Backup\\staging\\"
srv.touch(agent, "read", "D:\\Shares\\Accounts\\ledger-2024.mdb", -90.0, size=618_496)
srv.touch(agent, "create", staging + "nightly.bak", -89.5)
srv.connect(agent, control)
for when, name in ((-61.0, "nightly.bak"), (-60.0, "catalogue.csv")):
    size, digest = story.file(name)
    srv.touch(agent, "write", staging + name, when, size=size, sha256=digest)
    data = story.connection(sent=size)
    srv.connect(agent, data)
    srv.touch(agent, "read", staging + name, data, size=size)
    story.ftp_upload(data, name, size, agent)
srv.end(agent, control)
story.write()
