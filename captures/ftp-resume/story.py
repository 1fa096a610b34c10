"""What must come out."""

from endpoint_events import Story

story = Story()
whole, grown, rest = story.ftp_data()
story.ftp_upload(whole, "journal.dat", 20_000)
story.ftp_upload(grown, "journal.dat", 25_000, command="APPE")
story.ftp_upload(rest, "journal.dat", 25_000, outfall__ftp__restart=45_000)
story.write(compare_alerts=False)
