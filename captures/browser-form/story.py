"""What the hosts of this story reported, and what must come out."""

from endpoint_events import Story

story = Story()
sizes = [int(line) for line in story.text("sizes.log").split()]

CHROME = "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe"
EDGE = "C:\\Program Files (x86)\\Microsoft\\Edge\\Application\\msedge.exe"
FIREFOX = "C:\\Program Files\\Mozilla Firefox\\firefox.exe"
BROWSERS = (
    (CHROME, "Google LLC", "AppData\\Local\\Google\\Chrome\\User Data\\Default\\"),
    (EDGE, "Microsoft Corporation", "AppData\\Local\\Microsoft\\Edge\\User Data\\Default\\"),
    (FIREFOX, "Mozilla Corporation", "AppData\\Local\\Mozilla\\Firefox\\Profiles\\x1c9a2bq.default-release\\"),
    (CHROME, "Google LLC", "AppData\\Local\\Google\\Chrome\\User Data\\Default\\"),
)
USERS = ("l.weber", "e.lang", "m.silva", "p.ohara")

for number, (size, user, (image, signer, folder)) in enumerate(zip(sizes, USERS, BROWSERS), 1):
    address = f"10.20.0.10{number}"
    pc = story.host(f"WKS-010{number}", [address], user)
    http = story.connection(server_port=80, client=address)
    sent = (http.first_data - story.zero) / 1e9
    browser = pc.process(image, f'"{image}"', pc.explorer, sent - 900, signer=signer)
    # Chrome and Edge do their networking in a child of their own; Firefox in the main process.
    sender = browser
    if image != FIREFOX:
        sender = pc.process(
            image, f'"{image}" --type=utility --utility-sub-type=network.mojom.NetworkService --lang=en-GB', browser, sent - 899, signer=signer
        )
    # What a browser does to its own profile all day.
    pc.touch(sender, "write", pc.profile + folder + ("cookies.sqlite-wal" if image == FIREFOX else "Network\\Cookies-journal"), sent - 2.0, size=12_824)
    pc.touch(browser, "write", pc.profile + folder + ("places.sqlite-wal" if image == FIREFOX else "History-journal"), sent - 1.4, size=33_344)
    pc.touch(browser, "read", pc.profile + folder + ("cache2\\index" if image == FIREFOX else "Cache\\Cache_Data\\index"), sent - 0.9, size=524_656)
    pc.connect(sender, http)
    if number == 4:
        picture, digest = story.file("portrait.png")
        pc.touch(browser, "read", pc.profile + "Pictures\\portrait.png", sent - 0.2, size=picture, sha256=digest)
        story.upload(http, "http", size, sender, http__request__method="POST", file__name="portrait.png", file__size=picture)
    else:
        story.upload(http, "http", size, sender, http__request__method="POST")
story.write()
