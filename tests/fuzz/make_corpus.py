#!/usr/bin/python3
"""Write the inputs that fuzzing begins with, one file each, named after what it is:
make_corpus.py FOLDER writes FOLDER/TARGET/NAME. The build does it (Makefile), and the unit tests replay them.
"""
import base64
import gzip
import json
import struct
import sys
import zlib
from pathlib import Path

CORPUS = Path(sys.argv[1])


def write(target, name, data):
    if isinstance(data, str):
        data = data.encode()
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def multipart():
    form = ('multipart/form-data; boundary="x y"\n'
            '--x y\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
            'Content-Type: image/jpeg\r\n\r\n\xff\xd8--x\r\n\r\n--x y \t\r\n'
            "content-disposition: form-data; name=width\r\nContent-Transfer-Encoding: 8bit\r\n\r\n12"
            "\r\n--x y--\r\nepilogue")
    write("multipart", "form", form.encode("latin-1"))
    write("multipart", "two_files", 'multipart/form-data;boundary=b\npre\r\n--b\r\n'
          'Content-Disposition: form-data; name=file\r\n\r\n1\r\n--b\r\n'
          'Content-Disposition: form-data; name="fi\\"le"; filename*=x\r\n\r\n\r\n--b--')
    write("multipart", "empty_part", "multipart/form-data; boundary=b\n--b\r\n"
          "Content-Disposition: form-data; name=file\r\n\r\n--b--\r\n")
    write("multipart", "no_headers", "multipart/form-data; boundary=b\n--b\r\n\r\nx\r\n--b--")
    write("multipart", "raw", "image/jpeg\n\r\r\n-\r\n--\r\n--f\r\n--fuz")
    write("multipart", "encoded", "multipart/form-data; a=1 ; boundary=b;\n--b\r\n"
          "Content-Disposition: form-data; name=file\r\nContent-Transfer-Encoding: base64\r\n\r\nx")


def request():
    write("request", "upload", "1POST /preprocess\nHost: a\nContent-Length: 12\n"
          "Content-Type: multipart/form-data; boundary=b\nX-Request-Id: a.b-c_d\n"
          "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\nOrigin: https://a.example\n")
    write("request", "both_lengths", "1POST /classify\nContent-Length: 1\nTransfer-Encoding: chunked\n")
    write("request", "chunked_1_0", "0POST /pubsub\nTransfer-Encoding: Chunked\n")
    write("request", "twice", "1POST /pubsub\ncontent-length: 1\nContent-Length: 1\n")
    write("request", "token", "1POST /pubsub\nAuthorization: bearer   tHe-ToKeN\nHost: a\n")
    write("request", "image", f"1HEAD /images/{'ab' * 32}.avif\nIf-None-Match: W/\"x\", \"abc\"\n")
    write("request", "infer", "1POST /v2/models/m/infer\nTransfer-Encoding: gzip, chunked\nOrigin: null\n")
    write("request", "results", "1DELETE /results/x/y\nContent-Length: -1\nHost: a\nHost: b\n")


def ranges():
    for name, text in {"one": "bytes=0-99", "end": "bytes=5-", "suffix": "bytes=-7", "several": "bytes=0-1,3-4",
                       "backwards": "bytes=9-3", "huge": "Bytes=0-99999999999999999999",
                       "edge": "bytes=9223372036854775807-9223372036854775807", "zero": "bytes=-0"}.items():
        write("range", name, struct.pack(">Q", 100) + text.encode())


def encodings():
    text = b'{"gcs_path": "file:///x"}'
    for name, coding, body in (("gzip", b"gzip", gzip.compress(text, mtime=0)), ("deflate", b"deflate", zlib.compress(text)),
                               ("plain", b"", text), ("bomb", b"gzip", gzip.compress(bytes(100_000), mtime=0))):
        write("encoding", name, coding + b"\ngzip;q=0.5, deflate\n" + body)


def options():
    write("options", "all", "width=300&height=200&fit=contain&format=webp&quality=80\nbackground=00ff7f")
    write("options", "avif", "width=2000&height=2000&format=avif\n")
    write("options", "large", "width=65535&format=png&fit=inside\nheight=244")
    write("options", "operations", "median=5&mean=31&rotate=-45\nfit=none&format=png")
    write("options", "turned", "rotate=360&median=15\nmean=3")
    write("options", "even", "median=4&rotate=1.5\nmean=33")
    write("options", "twice", "width=1\nwidth=2")
    write("options", "unknown", "sharpen=1&quality=0\nfit=cover")


def classify():
    write("classify_json", "missing", '5\napplication/json\n{"gcs_path":"<root>a.jpg"}')
    write("classify_json", "foreign", '\napplication/json; charset=utf-8\n{"gcs_path":"gs://b/k","x":[1]}')
    write("classify_json", "curl", '0\napplication/x-www-form-urlencoded\n{"gcs_path":"file:///etc/passwd"}')
    write("classify_json", "dots", '\n\n{"gcs_path":"<root>%2e%2e/x"}')
    write("classify_json", "tmp", '\ntext/plain\n{"gcs_path":"<root>.tmp/a/b%20c"}')
    write("classify_json", "picture", '\napplication/json\n{"image_data":"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptV","x":"\\""}')
    write("classify_json", "escapes", '\n\n{"image_data":"\\/9j\\u002f_-==","image_data":null}')
    write("classify_json", "no_json", '\napplication/json\n["\xe9')


def inference():
    def body(name, datatype, shape, extra, tail="", outputs=""):
        text = ('{"id":"7","inputs":[{"name":"%s","datatype":"%s","shape":%s,%s}]%s}'
                % (name, datatype, shape, extra, outputs))
        return text, tail

    outputs = ',"outputs":[{"name":"scores","parameters":{"classification":2,"binary_data":true}}]'
    tensor = list(range(12))
    text, _ = body("tensor", "FP32", "[1,3,2,2]", f'"data":{json.dumps(tensor)}')
    write("inference", "tensor_flat", "\n" + text)
    nested = [[[1, 2.5], [3, 4]], [[5, 6], [7, 8]], [[9, 1e300], [1, -2]]]
    text, _ = body("tensor", "FP32", "[2,3,2,2]", f'"data":{json.dumps([nested, nested])}')
    write("inference", "tensor_nested", "\n" + text)
    text, _ = body("image", "BYTES", "[2,1]", f'"data":[["{base64.b64encode(b"hello").decode()}"],[""]]', outputs=outputs)
    write("inference", "images", "\n" + text)
    text, _ = body("image", "BYTES", "[2]", '"parameters":{"binary_data_size":11}',
                   outputs=',"parameters":{"binary_data_output":true}')
    write("inference", "images_binary", f"{len(text)}\n{text}".encode() + b"\3\0\0\0abc\0\0\0\0")
    text, _ = body("tensor", "FP32", "[1,3,2,2]", '"parameters":{"binary_data_size":48}')
    write("inference", "tensor_binary", f"{len(text)}\n{text}".encode() + struct.pack("<12f", *tensor))
    text, _ = body("scores", "BYTES", "[33]", '"data":[]')
    write("inference", "wrong", "\n" + text)
    write("inference", "deep", "\n" + '{"inputs":' + "[" * 100)
    write("inference", "not_utf8", b'\n{"id":"\xc3\xa9\xc3\xa9' + b"\xc3\xa9" * 60 + b"\xff")


def notification():
    ours = base64.b64encode(b'{"gcs_path":"gs://b/k","id":"aa"}').decode()
    resource = '{"kind":"storage#object","bucket":"b","name":"a b/\\u00e9.jpg"}'
    attributes = '"attributes":{"eventType":"OBJECT_FINALIZE","bucketId":"b","objectId":"o/x.jpg"}'
    ce = "ce-specversion: 1.0\nce-id: 7\nce-source: //src%20x\n"
    event = '{"specversion":"1.0","id":"7","source":"//src","type":"%s",%s}'
    record = ('{"eventName":"s3:ObjectCreated:Put","eventSource":"minio:s3","s3":{"bucket":{"name":"b"},'
              '"object":{"key":"a%20b+c.jpg","eTag":null,"sequencer":"5","size":9}}}')
    write("notification", "wrapped", "\n" + '{"message":{"data":"%s","messageId":"1","attributes":{"event_id":"e",'
          '"origin":"preprocess-service"}},"subscription":"s"}' % ours)
    write("notification", "gcs", "\n" + '{"message":{%s,"message_id":"6"}}' % attributes)
    write("notification", "unwrapped", "x-goog-pubsub-message-id: 1\nx-goog-pubsub-subscription-name: s\n"
          'traceparent: t\n\n{"gcs_path":"s3://b/k"}')
    write("notification", "unwrapped_gcs", "x-goog-pubsub-message-id: 1\neventType: OBJECT_DELETE\n"
          "bucketId: b\nobjectId: o\n\n")
    write("notification", "binary", ce + 'ce-type: google.cloud.storage.object.v1.finalized\n\n' + resource)
    write("notification", "binary_pubsub", ce + 'ce-type: google.cloud.pubsub.topic.v1.messagePublished\n\n'
          '{"message":{"data":"%s"}}' % ours)
    write("notification", "quoted", 'ce-specversion: "1.0"\nce-id: "a\\"b"\nce-source: %41\nce-type: other\n\n<xml/>')
    write("notification", "structured", "Content-Type: application/cloudevents+json; charset=utf-8\n\n"
          + event % ("google.cloud.storage.object.v1.finalized", '"data":' + resource))
    write("notification", "structured64", "Content-Type: application/cloudevents+json\n\n"
          + event % ("google.cloud.pubsub.topic.v1.messagePublished", '"data_base64":"%s"'
                     % base64.b64encode(b'{"message":{"data":"%s"}}' % ours.encode()).decode()))
    write("notification", "batch", "Content-Type: application/cloudevents-batch+json\n\n[]")
    write("notification", "s3", "\n" + '{"EventName":"x","Key":"b/k","Records":[%s,%s]}' % (record, record))
    write("notification", "s3_test", "\n" + '{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}')
    write("notification", "not_utf8", b"x-goog-pubsub-message-id: \xff\n\n{\"gcs_path\":\"s3://b/k\"}")


def tokens():
    header = '{"alg":"RS256","kid":"k","typ":"JWT"}'
    claims = ('{"iss":"https://accounts.google.com","aud":["https://a.example"],"email":"a@example.com",'
              '"email_verified":true,"iat":1800000000,"exp":1800003600,"nbf":1800000000}')
    write("jwt", "good", header + "\n" + claims)
    write("jwt", "expired", header + "\n" + claims.replace("1800003600", "1799990000"))
    write("jwt", "foreign", header + "\n" + claims.replace("a@example.com", "c@example.com"))
    write("jwt", "none", '{"alg":"none"}\n' + claims)
    write("jwt", "crit", '{"alg":"RS256","kid":"k","crit":["b64"],"b64":false}\n{}')
    encoded = ".".join(base64.urlsafe_b64encode(p.encode()).decode().rstrip("=") for p in (header, claims, "sig"))
    write("jwt", "encoded", encoded)
    write("jwt", "two_parts", encoded.rsplit(".", 1)[0])

    n = base64.urlsafe_b64encode(bytes([0xc3]) * 255 + b"\x01").decode().rstrip("=")
    key = '{"kty":"RSA","kid":"%s","n":"%s","e":"AQAB","use":"sig","alg":"RS256","key_ops":["verify"]}'
    write("jwks", "one", '{"keys":[%s]}' % (key % ("k", n)))
    write("jwks", "twins", '{"keys":[%s,%s,%s]}' % (key % ("k", n), key % ("k", n), key % ("l", n)))
    write("jwks", "others", '{"keys":[{"kty":"EC","kid":"e","crv":"P-256","x":"AA","y":"AA"},'
          '{"kty":"RSA","kid":"s","n":"w8PDww","e":"AQ"}]}')
    write("google_reply", "keys", '1200\nCache-Control: public, max-age=3600, must-revalidate\nAge: 70\n\n'
          '{"keys":[%s]}' % (key % ("k", n)))
    write("google_reply", "keys_of_another", '1200\n\n{"keys":[%s]}\n----\n500\n\n' % (key % ("x", n)))


def google():
    write("google_reply", "token", '0200\nContent-Type: application/json\n\n'
          '{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}')
    write("google_reply", "token_refused", "0503\n\n----\n403\n\n{}")
    write("google_reply", "published", '2200\n\n{"messageIds":["1","2"]}')
    write("google_reply", "denied", '2403\n\n{"error":{"code":403,"status":"PERMISSION_DENIED"}}')
    write("google_reply", "unknown", "2404\n\n<html>")


def xml():
    listing = ('<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
               "<Name>b</Name><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
               "<EncodingType>url</EncodingType><Contents><Key>p/a%20b+c%C3%A9</Key><Size>12</Size></Contents>"
               "<Contents><Key>q/x</Key><Size>1</Size></Contents></ListBucketResult>")
    error = "<Error><Code>{}</Code><Message>a &amp; b</Message></Error>"
    write("xml", "listing", listing)
    write("xml", "error", error.format("NoSuchKey"))
    write("xml", "doctype", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    write("xml", "deep", "<a>" * 90 + "x" + "</a>" * 90)
    write("xml", "cdata", "<a><![CDATA[<b>]]>&#233;<c/>\r\n<?p q?><!-- r --></a>")
    write("xml", "utf16", "<a>b</a>".encode("utf-16"))
    write("xml", "long_name", "<a><" + "n" * 600 + "/></a>")

    # the first byte: bit 0 Google, then 0 get, 1 range, 2 put, 3 put if absent, 4 head, 5 delete, 6 list
    head = ('200\nETag: "e1"\nContent-Type: image/jpeg\nContent-Length: 4\nx-amz-meta-origin: here\n'
            "x-goog-meta-origin: here\nLast-Modified: Tue, 03 Mar 2026 10:00:00 GMT\n\n")
    for google_bit in (0, 1):
        def reply(call, text, google_bit=google_bit):
            return bytes([call << 1 | google_bit]) + text.encode()
        who = "gcs" if google_bit else "s3"
        write("storage_reply", f"{who}_get", reply(0, head + "data"))
        write("storage_reply", f"{who}_range", reply(1, head.replace("200\n", "206\nContent-Range: bytes 3-6/9\n") + "data"))
        write("storage_reply", f"{who}_put", reply(2, head))
        write("storage_reply", f"{who}_exists", reply(3, "412\n\n" + error.format("PreconditionFailed")))
        write("storage_reply", f"{who}_unconditional", reply(3, "501\n\n----\n404\n\n" + error.format("NoSuchKey") + "\n----\n" + head))
        write("storage_reply", f"{who}_head", reply(4, head.replace('"e1"', 'W/"e1"')))
        write("storage_reply", f"{who}_missing", reply(4, "404\n\n----\n200\n\n" + listing))
        write("storage_reply", f"{who}_delete", reply(5, "204\n\n"))
        write("storage_reply", f"{who}_list", reply(6, "200\n\n" + listing + "\n----\n200\n\n"
                                                   + listing.replace("true", "false")))
        write("storage_reply", f"{who}_skewed", reply(0, "403\nDate: Tue, 03 Mar 2026 10:00:00 GMT\n\n"
                                                     + error.format("RequestTimeTooSkewed")))
        write("storage_reply", f"{who}_empty", reply(1, "416\n\n----\n" + head))
        write("storage_reply", f"{who}_no_bucket", reply(4, "404\n\n" + error.format("NoSuchBucket")))


def client():
    write("client", "length", "0HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 5\r\n\r\nhello")
    write("client", "chunked", "0HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n"
          "3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n")
    write("client", "continue", "1HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 201 Created\r\nC:d\r\n\r\n")
    write("client", "head", "2HTTP/1.0 404 Not Found\r\nContent-Length: 9999999\r\n\r\n")
    write("client", "folded", "0HTTP/1.1 200 OK\nA: b\n c: d\n\tE\nf\n: g\n\nx")
    write("client", "http09", "0<html>")
    write("client", "libs3", "4HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 5\r\n\r\nhello")
    write("client", "libs3_error", "5HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\n\r\n"
          "<Error><Code>AccessDenied</Code></Error>")
    write("client", "libs3_folded", "6HTTP/1.1 200 OK\r\n a: b\r\nETag: \"e\"\r\n\r\n")
    write("client", "encoded", "0HTTP/1.1 200\r\nContent-Encoding: gzip\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")


def manifest():
    good = {"name": "tiny", "file": "tiny.onnx", "sha256": "0123456789abcdef" * 4,
            "input": {"tensor": "in", "layout": "NHWC", "height": 3, "width": 5, "mean": [1, 2.5, 3], "std": [4, 5, 6],
                      "resize": {"short_side": 7, "crop": "center"}},
            "output": {"tensor": "out", "activation": "softmax", "drop_first": 1}, "labels": {"file": "labels.txt"}}
    write("manifest", "good", json.dumps(good, separators=(",", ":")) + "\n----\nbackground\ntench, Tinca\r\n\u00e9\n")
    good["input"]["mean"] = [1e300, 0, 0]
    write("manifest", "infinite", json.dumps(good, separators=(",", ":")) + "\n----\na\nb")
    write("manifest", "no_labels", json.dumps(good, separators=(",", ":")))


def uris():
    for i, text in enumerate((
            "file:///srv/a%20b/x/y.jpg", "file:/srv/a%20b/%C3%A9", "file://localhost/srv/a%20b/k", "file:///a",
            "s3://photos/in/a b.jpg", "S3://photos/in/../x", "gs://photos/x%2Fy?z#w", "gs://photos//", "s3://photos",
            "in/x.jpg", "..", "a/./b", "https://user@example.com/", "http://127.0.0.1:80/x?y", "http://[::1]:1/",
            "http://localhost.evil.example/", "http://127.0.0.1\\@evil.example/", "https://[::1]evil.example/",
            "http://2130706433/", "http://127.1/", "https://a:b@c/#d", "s3://bucket/p/", "gs://a.b-c_d/e/f")):
        write("uri", f"{i:02}", text)


def texts():
    write("older_message", "plain", "3f2b8a44-1c1a-4b7e-9f00-0123456789ab.jpeg XX false")
    write("older_message", "encrypted", "a.png XX true")
    write("older_message", "dots", ".. XX true")
    write("older_message", "path", "a/../../b XX false")
    write("strings", "base64", "aGVsbG8=")
    write("strings", "percent", "a%20b%C3%A9%zz")
    write("strings", "number", "-9223372036854775808")
    write("strings", "date", "Tue, 03 Mar 2026 10:00:00 GMT")
    write("strings", "utf8", "\u00e9\u20ac\U0001f600".encode() + b"\xed\xa0\x80\xc0\x80\xf4\x90\x80\x80")
    write("json_cost", "object", '{"a":[1,2.5e3,true,null,"x\\u00e9\\"",{}],"b":{"c":"' + "y" * 100 + '"}}')
    write("json_cost", "arrays", "[" + "[]," * 200 + "0]")
    write("json_cost", "unfinished", '["a\\')
    write("settings", "s3", "STORAGE_URL=s3://bucket/p\nS3_ENDPOINT=http://127.0.0.1:9000\nAWS_ACCESS_KEY_ID=a\n"
          "AWS_SECRET_ACCESS_KEY=b\nS3_SIGNATURE=v2\nALLOWED_BUCKETS=a, b/c\nPORT=8080\nIMAGES=off")
    write("settings", "google", "BUCKET=b\nSTORAGE_EMULATOR_HOST=localhost:4443\nPREP_TOPIC=projects/p/topics/top\n"
          "EVENTS_URL=pubsub://projects/p/topics/top\nGOOGLE_CLOUD_PROJECT=p\nK_SERVICE=x\nCLASS_TOPIC=results\n"
          "PUBSUB_EMULATOR_HOST=http://h:1")
    write("settings", "auth", "PUSH_AUDIENCE=https://a.example\nPUSH_SERVICE_ACCOUNT=a@b.c\nAUTH_AUDIENCE=x\n"
          "AUTH_EMAILS=a@b, c@d\nOIDC_ISSUER=http://127.0.0.1:1\nOIDC_JWKS_URL=http://127.0.0.1:1/k\nPUSH_TOKEN=t\n"
          "RESULTS_BASE_URL=http://a.example//\nCORS_ORIGINS=*")
    write("settings", "wrong", "PORT=0\nLOG_LEVEL=loud\nIMAGES=maybe\nHOST=\xff\nMAX_PIXELS=99999999999999999999\n"
          "STORAGE_URL=ftp://x\nEVENTS_URL=push+http://user:p@h/\nK_SERVICE=x\nRETENTION_DAYS=1".encode("latin-1"))


def outbox():
    write("outbox", "untouched", b"\7")
    write("outbox", "no_wal", b"\1")
    write("outbox", "no_shm", b"\3")
    write("outbox", "wal_header", b"\7" + b"\x01\0\x10\xff")
    write("outbox", "wal_frame", b"\7" + b"\x01\x10\x40\x01")
    write("outbox", "wal_cut", b"\7" + b"\xf1\x20\0\0")
    write("outbox", "db_header", b"\7" + b"\0\0\x3c\x09")
    write("outbox", "db_page", b"\7" + b"\xe1\x10\0\0")
    write("outbox", "shm", b"\7" + b"\x02\0\x10\x05\x02\0\x40\x05")


def png(width, height, kind, rows):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def images():
    """Tiny files made by hand; larger ones are drawn by draw_seeds.py."""
    gif = b"GIF89a\2\0\2\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\2\0\2\0\0\2\3\x44\x02\x05\0;"
    tiff = (b"II*\0\x08\0\0\0" + struct.pack("<H", 8)
            + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in (
                (256, 3, 2), (257, 3, 2), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 110), (278, 3, 2),
                (279, 4, 4))) + b"\0\0\0\0" + b"\x10\x20\x30\x40")
    webp = b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0"
    frame = b"\xff\xc0\0\x11\x08\0\x08\0\x08\3\1\x22\0\2\x11\1\3\x11\1"
    jpeg = b"\xff\xd8" + frame + b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0" + b"\x12\xff\0\x34\xff\xd0\x56" + b"\xff\xd9"
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    write("resample", "shrink", struct.pack(">9H", 0x1000, 0x0800, 0, 0xffff, 0, 0xffff, 0x0400, 0x0300, 5))
    write("resample", "window", struct.pack(">9H", 0x0400, 0x0400, 0x4001, 0x8000, 0x1000, 0x2000, 0x0900, 0x0a00, 0) * 2)
    write("resample", "thin", struct.pack(">9H", 0xfff0, 0, 0, 0xffff, 0, 0xffff, 0x0040, 0x0400, 1))
    for name, data in {"gif": gif, "tiff": tiff, "webp": webp, "jpeg": jpeg, "heic": heic,
                       "png": png(2, 2, 2, bytes(14))}.items():
        write("image_header", name, data)
        write("image", name, b"\0\x08\x08\x50\xff\0\0\0" + data)


def h2():
    """Frames behind the preface; header blocks are literal."""
    def frame(kind, flags, stream, payload=b""):
        return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload

    def fields(method, path, *more):
        pairs = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a"), *more]
        return b"".join(b"\0" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode() for k, v in pairs)

    def call(stream, path, body, *more, kind="application/grpc"):
        more = ("content-type", kind), ("te", "trailers"), *more
        return frame(1, 4, stream, fields("POST", path, *more)) + frame(0, 1, stream, body)

    def stream(number, path, *pieces, more=(), end=True):
        head = fields("POST", path, ("content-type", "application/grpc"), ("te", "trailers"), *more)
        data = b"".join(frame(0, 0, number, piece) for piece in pieces)
        return frame(1, 4, number, head) + data + (frame(0, 1, number) if end else b"")

    settings = frame(4, 0, 0)
    message = b"\0\0\0\0\3abc"
    health = b"\0\0\0\0\3\x0a\1s"
    packed, packed_health = gzip.compress(b"abc"), gzip.compress(health[5:])
    for name, data in {
            "get": frame(1, 5, 1, fields("GET", "/light?x=%41&y")),
            "post": frame(1, 4, 1, fields("POST", "/echo")) + frame(0, 0, 1, b"ab") + frame(0, 9, 1, b"\1c\0"),
            "work": frame(1, 4, 1, fields("POST", "/task/7")) + frame(0, 1, 1, b"abc") + frame(3, 0, 1, b"\0\0\0\x08"),
            "large": frame(1, 4, 1, fields("POST", "/echo", ("content-length", "99999999"))) + frame(0, 1, 1, bytes(99)),
            "continuation": frame(1, 1, 1, fields("GET", "/light")[:9]) + frame(9, 4, 1, fields("GET", "/light")[9:]),
            "trailers": frame(1, 4, 1, fields("POST", "/echo")) + frame(1, 5, 1, b"\0\1a\1b"),
            "expect": frame(1, 4, 1, fields("POST", "/echo", ("expect", "100-continue"))) + frame(0, 1, 1, b"x"),
            "window": frame(4, 0, 0, struct.pack(">HI", 4, 0)) + call(1, "/s/Light", message) + frame(8, 0, 1, b"\0\0\0\3"),
            "call": call(1, "/s/Light", message) + call(3, "/s/Work", message),
            "packed": call(1, "/s/Light", b"\1" + struct.pack(">I", len(packed)) + packed, ("grpc-encoding", "gzip")),
            "timeout": call(1, "/s/Light", message, ("grpc-timeout", "5m")), "unknown": call(1, "/s/None", message),
            "web": call(1, "/s/Light", message, kind="application/grpc-web+proto") + call(3, "/s/None", b"", kind="application/grpc-web"),
            "connect": call(1, "/s/Work", b"abc", ("connect-timeout-ms", "5"), kind="application/proto"),
            "stream": stream(1, "/s/Bytes", b"abc", b"d", b"", b"ef" * 600) + stream(3, "/s/Watch", health),
            "messages": stream(1, "/s/Watch", health * 3, health[:4], health[4:] + health[:6], health[6:]),
            "cut": stream(1, "/s/Watch", health + health[:6]) + stream(3, "/s/Watch") + stream(5, "/s/Watch", b"\2"),
            "duplex": stream(1, "/s/Watch", health, end=False) + stream(3, "/s/Bytes", b"a", end=False)
                      + frame(0, 1, 1, health) + frame(3, 0, 3, b"\0\0\0\x08"),
            "stream_packed": stream(1, "/s/Watch", b"\1\0\0\0" + bytes([len(packed_health)]) + packed_health,
                                    more=[("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip")]),
            "stream_timeout": stream(1, "/s/Watch", health, more=[("grpc-timeout", "1m")], end=False),
            "stream_window": frame(4, 0, 0, struct.pack(">HI", 4, 1)) + stream(1, "/s/Bytes", b"ab" * 9000)
                             + frame(8, 0, 1, b"\0\0\x20\0"),
            "ping": frame(6, 0, 0, b"12345678") * 120, "goaway": frame(7, 0, 0, bytes(8)) + call(1, "/s/Light", message),
            "overflow": frame(1, 4, 1, fields("POST", "/echo")) + frame(8, 0, 1, b"\x7f\xff\xff\xff")}.items():
        write("h2", name, settings + data)
    answers(frame)


def answers(frame):
    """What a server of gRPC says to our calls."""
    def block(*pairs):
        return b"".join(b"\0" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode() for k, v in pairs)

    head = frame(4, 0, 0) + frame(4, 1, 0) + frame(1, 4, 1, block((":status", "200"), ("content-type", "application/grpc")))
    good = frame(1, 5, 1, block(("grpc-status", "0")))
    message = b"\x0a\4data\x12\1x"
    for name, data in {
            "remote": head + frame(0, 0, 1, b"\0\0\0\0\x09" + message) + good,
            "remote_cut": head + frame(0, 0, 1, b"\0\0\0\0\x0b" + message) + good,
            "remote_no_status": head + frame(0, 1, 1, b"\0\0\0\0\x09" + message),
            "remote_refused": frame(4, 0, 0) + frame(1, 5, 1, block(
                (":status", "200"), ("grpc-status", "14"), ("grpc-message", "50%25 %zz"))),
            "remote_proxy": frame(4, 0, 0) + frame(1, 5, 1, block((":status", "503"),)),
            "remote_reset": head + frame(3, 0, 1, b"\0\0\0\x08"), "remote_goaway": head + frame(7, 0, 0, bytes(8))}.items():
        write("client", name, b"8" + data)


def messages():
    image = b"\x0a\3abc\x12\x0a\x0a\5width\x12\1" + b"8"
    raw = b"\x0a\1m\x1a\1" + b"7" + b"\x2a\x10\x0a\5image\x12\5BYTES\x1a\1\1" + b"\x3a\7\3\0\0\0abc"
    output = b"\x32\x1e\x0a\6scores\x12\x14\x0a\x0eclassification\x12\2\x10\2"
    for name, data in {"image": b"\0" + image, "pieces": b"\0" + b"\x12\0" * 5000, "classify": b"\1\x0a\3abc\x18\5",
                       "uri": b"\1\x12\7gs://b/k", "health": b"\2\x0a\1s", "infer": b"\3" + raw + output,
                       "typed": b"\3\x2a\x0c\x2a\x0a\x32\x08\0\0\x80?\0\0\0@", "model": b"\4\x0a\1m\x12\0011",
                       "pixels": b"\5\x08\1\x12\3\1\2\3\x18\1\x20\1", "below_zero": b"\5\x18" + b"\xff" * 9 + b"\1",
                       "rotate": b"\6\x08\1\x12\x0b\x08\1\x12\3\1\2\3\x18\1\x20\1", "none": b"\6\x12\0", "another": b"\6\x08\7",
                       "upload": b"\7\x0a\3abc\x12\5a.png", "uploaded": b"\x08\x0a\3abc", "label": b"\x0e\x0a\3cat",
                       "process": b"\x0f\x0a\3abc\x12\5a.png",
                       "list": b"\x12\x0a\3cat\x12\1t\x1a\2me\x20\5\x28\x32", "get": b"\x13\x0a\1a", "delete": b"\x15\x0a\1a",
                       "change": b"\x14\x0a\1a\x12\1n\x1a\6\x0a\1t\x0a\1u",
                       "processed": b"\x10\x0a\1x\x12\3cat\x18\1\x22\2ok\x2d\0\0\x80\x3f\x32\1y\x3a\5p.png",
                       "reflection": b"\x11\x0a\1h\x22\x12darkroom.v1.Images"}.items():
        write("grpc", name, data)


def calls():
    """A byte for protocol (of 3) and coding (of 4), a line for the timeout, the body."""
    message, packed = b"\0\0\0\0\3abc", gzip.compress(b"abc")
    for name, data in {"grpc": b"\0" + b"5S\n" + message, "web": b"\1" + b"100m\n" + message, "connect": b"\2" + b"1000\nabc",
                       "web_gzip": b"\4\n" + b"\1" + struct.pack(">I", len(packed)) + packed, "connect_gzip": b"\5\n" + packed,
                       "connect_deflate": b"\x08\n" + zlib.compress(b"abc"), "connect_br": b"\x0b\nabc",
                       "web_trailers": b"\1\n" + message + b"\x80\0\0\0\6a: b\r\n", "empty": b"\2\n"}.items():
        write("web", name, data)


def users():
    good = '{"name":"bob","password":"correct horse"}'
    claims = '{"iss":"darkroom","sub":"alice","gen":1,"iat":1700000000,"exp":4000000000}'
    for name, text in {
            "token": "token\n<token>", "token_longer": "token\n<token>A", "token_signed_twice": "token\n<token>.<token>",
            "token_cut": "token\neyJhbGciOiJFZERTQSIsImtpZCI6ImsifQ.e30", "claims": "claims\n" + claims,
            "claims_expired": "claims\n" + claims.replace("4", "1"), "claims_early": "claims\n" + claims.replace("17", "37"),
            "claims_no_name": "claims\n" + claims.replace("alice", ""), "claims_long": "claims\n" + claims.replace("alice", "a" * 70),
            "claims_odd": "claims\n" + claims.replace("1,", "1.5,"), "up": "up\n" + good, "up_admin": "up\n" + good.replace("bob", "Root"),
            "up_more": "up\n" + good.replace("{", '{"admin":true,'), "up_nul": "up\n" + good.replace("bob", "b\\u0000b"),
            "in": "in\n" + good, "in_unknown": "in\n" + good.replace("bob", "a@b.c"), "change": 'change\n{"password":"correct horse"}',
            "change_name": "change\n" + good, "address": "address\n10.0.0.1, 192.0.2.7 ,192.0.2.8",
            "address_lines": "address\n192.0.2.7\n 2001:db8::1", "address_empty": "address\n,,\n, ,"}.items():
        write("users", name, text)


def what_once_failed():
    """As the fuzzer found it."""
    write("client", "once_blank_line", b'0HTTP/1.1 200\nKO A:#\x01 b\n \r\n')
    write("client", "once_libs3_long_status", b"4HTTP/222222\r\n\r\n2")
    write("client", "once_long_status", b"2HTTP/222222\r\n\r\n2")
    write("client", "once_libs3_cut", b'5HTTP/1.1 200 OK\r\nETag: "e"\r\n')
    write("client", "once_libs3_folded_twice", zlib.decompress(base64.b64decode(
        "eNoz9QgJCdD//98ATBvqGSoYGRgocDlaKaRwcbpypbFZgSgwofAaJMylkIQso5DuegXEJkY5klw6WC6NLclKQcGNy0rBjSZW////"
        "n9MbxEziUki2wuYQLsUKuPZ0BS6uCgAyGjW+")))
    write("client", "once_libs3_interim", b'6HTTP/1.1 199 OK\r% a* b)\nETag: "e"\r\x08\r\n')
    write("client", "once_libs3_many", zlib.decompress(base64.b64decode(
        "eNoz9QgJCdD//98ATBvqGSoYGRgocDlaKaRwcbpypbFZgSgwofAaJMylkIQso5DuegXEJkY5iJtGkQlIcukQOUMKXMuWZKWg4MZl"
        "peCGw+MOFHn8////nN4gJkmuSQSStIgGuGtGY2SwxUgSl0KyFVqQYhUEE1yKXFwVAAZ/uIA=")))
    write("client", "once_libs3_no_name", b'5HTTP/1.1 200\rKransTTabc \n:  y\r\n\r\n')
    write("image", "once_slow_gif", zlib.decompress(base64.b64decode(
        "eNprZIAAd083C8tESQZhhkYGhhMVGiJRJyASiv+5/VxDgp0dA1yN9AyYGYFCOkBsJcnAzMDAkcbAyMHgsGHBwWYOTq6IGRsSD7fy"
        "cLPN8DBsONwkwBhyxzc1160oNbWqRUMhxbVdRHHWkhkFi5GM4cRlzAwPAwwjZJgrZFZ8XODEwPFj/X+g5v83QATCgRBXmhBjPKYr"
        "kR14aqoYf5H0TqGFJ6crpd5jmXlZwWeOTu66JTc3Kp5h0LKVO7vii/rlbkVeu68vCrSutggwM4FtYwAH34kKPXjgcWQBbZYBesWR"
        "ARkYMDQzs2qonNjw4GAzkziSBLKwWc6PDYuOdPJpS4VoMCS79cqsqJBhBvke5vn/aLGjgcPfmA7UwOJA7FYHQKzGCPj/mCmDWVDA"
        "5P+FsP//W5S9g0CKrLmO3LQyVGCwBgC//qtg")))
    write("inference", "once_not_utf8_quoted", zlib.decompress(base64.b64decode(
        "eNrjqlbKTFGyUjq8MubwSjS4EF3EnAECILyTKw9TCf4HADsRVfs=")))
    write("outbox", "once_last_page_cut_short", b'\xdc\xff\xff\xfa]')
    write("outbox", "once_schema_of_another_meaning", b'rr\x8e\x83\x01\x01\x00\x10\xdf')
    write("users", "once_a_port_without_address", b'address\n10000000,"lice"\x91,:70000,')


for make in (multipart, request, ranges, encodings, options, classify, inference, notification, tokens, google, xml, client,
             manifest, uris, texts, outbox, images, h2, messages, calls, users, what_once_failed):
    make()
