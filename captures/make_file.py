"""Makes one file of a kind, of about (random kinds: exactly) a size, the same for the same seed.

usage: make_file.py {docx,xlsx,pdf,png,csv,text,random} SIZE SEED PATH
"""

import random
import struct
import sys
import zipfile
import zlib

WORDS = (
    "account agreement annual approval asset audit balance budget client contract delivery draft estimate "
    "figure forecast invoice ledger margin market meeting order partner payment plan price project quarter "
    "report revenue review schedule supplier target tender total update value vendor"
).split()


def prose(rng, size):
    text = ""
    while len(text) < size:
        text += " ".join(rng.choice(WORDS) for _ in range(12)).capitalize() + ".\r\n"
    return text[:size].encode()


def office(path, rng, size, main, content_type):
    """An Office Open XML package: its parts, and a stored picture that fills it up."""
    parts = {
        "[Content_Types].xml": '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/'
        f'content-types"><Override PartName="/{main}" ContentType="{content_type}"/></Types>',
        main: "<document>" + prose(rng, 4000).decode() + "</document>",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, text in parts.items():
            package.writestr(zipfile.ZipInfo(name, (2024, 11, 4, 9, 12, 0)), text, zipfile.ZIP_DEFLATED)
        folder = main.split("/")[0]
        picture = zipfile.ZipInfo(f"{folder}/media/image1.png", (2024, 11, 4, 9, 12, 0))
        package.writestr(picture, png(rng, max(size - 2500, 100)), zipfile.ZIP_STORED)


def png(rng, size):
    """A true PNG of grey noise, which does not compress."""
    width = 64
    height = max(size // (width + 1), 1)
    rows = b"".join(b"\0" + rng.randbytes(width) for _ in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pdf(rng, size):
    head = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Length " + str(size).encode() + b" >>\nstream\n"
    return head + rng.randbytes(size) + b"\nendstream\nendobj\ntrailer << /Root 1 0 R >>\n%%EOF\n"


def csv(rng, size):
    rows = "customer;order;amount\r\n"
    while len(rows) < size:
        rows += f"C{rng.randrange(10**6):06};{rng.choice(WORDS)};{rng.randrange(10**6) / 100:.2f}\r\n"
    return rows.encode()


def main():
    kind, size, seed, path = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    rng = random.Random(seed)
    if kind == "docx":
        office(path, rng, size, "word/document.xml", "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml")
        return
    if kind == "xlsx":
        office(path, rng, size, "xl/workbook.xml", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml")
        return
    make = {"pdf": pdf, "png": png, "csv": csv, "text": prose, "random": lambda rng, size: rng.randbytes(size)}[kind]
    with open(path, "wb") as file:
        file.write(make(rng, size))


main()
