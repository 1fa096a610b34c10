"""What must come out."""

from endpoint_events import Story

story = Story()
curl, lftp = story.ftp_data()
for data, name in ((curl, "plan.xlsx"), (lftp, "plan.bak")):
    port = data.sides(story.home)[1][1]
    story.ftp_upload(data, name, story.file(name)[0], outfall__ftp__binding="port", outfall__ftp__announced__ip="172.16.4.9",
                     outfall__ftp__announced__port=port)
story.write(compare_alerts=False)
