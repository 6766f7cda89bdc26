"""Rows of `.jsonl.zst` files, in and out, for the scripts that cut the shipped data."""

import json
import subprocess


def read(path):
    packed = subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout
    return [json.loads(line) for line in packed.decode().splitlines()]


def write(path, rows):
    """Writes rows and says how many they are, and the bytes of the file."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    subprocess.run(["zstd", "-q", "-f", "--ultra", "-22", "-o", path, "-"], input=text.encode(), check=True)
    print(path.name, len(rows), path.stat().st_size)
