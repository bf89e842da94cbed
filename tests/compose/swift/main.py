"""swift_server.py on every address of its container, with the password of the compose file."""
import os

import swift_server
from swift_server import cache_filter  # noqa: F401  swift_server looks for it in __main__

swift_server.PROXY_CONF = swift_server.PROXY_CONF.replace("= testing", "= " + os.environ["MINIO_ROOT_PASSWORD"])
swift_server.main("/data", 9000, "0.0.0.0")
