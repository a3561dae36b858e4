"""An ordinary client of S3: what it writes it reads, lists in order, copies and deletes. It knows of no gateway."""
import io
import random

import boto3
from botocore.exceptions import ClientError

BUCKET = "lake"
s3 = boto3.client("s3")
chance = random.Random(1)

for size in [0, 1, 65480, 65481, 300000]:
    text = chance.randbytes(size)
    s3.put_object(Bucket=BUCKET, Key=f"sizes/{size}", Body=text, ContentType="text/x", Metadata={"mtime": "7"})
    read = s3.get_object(Bucket=BUCKET, Key=f"sizes/{size}")
    assert read["Body"].read() == text
    assert (read["ContentType"], read["Metadata"]) == ("text/x", {"mtime": "7"})
    assert s3.head_object(Bucket=BUCKET, Key=f"sizes/{size}")["ContentLength"] == size

big = chance.randbytes(20_000_123)
s3.upload_fileobj(io.BytesIO(big), BUCKET, "big")
out = io.BytesIO()
s3.download_fileobj(BUCKET, "big", out)
assert out.getvalue() == big
s3.copy({"Bucket": BUCKET, "Key": "big"}, BUCKET, "copy of big")
assert s3.get_object(Bucket=BUCKET, Key="copy of big")["Body"].read() == big
part = s3.get_object(Bucket=BUCKET, Key="copy of big", Range="bytes=8388600-8388700")["Body"].read()
assert part == big[8388600:8388701]

names = [f"list/x {n:02}/ü&<+{n}" for n in range(25)]
for name in names:
    s3.put_object(Bucket=BUCKET, Key=name, Body=name.encode())
for call in ["list_objects_v2", "list_objects"]:
    pages = s3.get_paginator(call).paginate(Bucket=BUCKET, Prefix="list/", PaginationConfig={"PageSize": 7})
    assert [own["Key"] for page in pages for own in page["Contents"]] == names
folders = s3.list_objects_v2(Bucket=BUCKET, Prefix="list/x 0", Delimiter="/")["CommonPrefixes"]
assert len(folders) == 10 and folders[0] == {"Prefix": "list/x 00/"}
deleted = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": name} for name in names[:5]]})
assert len(deleted["Deleted"]) == 5

try:
    s3.get_object(Bucket=BUCKET, Key=names[0])
    raise SystemExit("it was deleted")
except ClientError as error:
    assert error.response["Error"]["Code"] == "NoSuchKey"
