"""The older pipeline's REST client, as its facts describe it: the same requests, the same reading of the
replies, the same files. A thread a picture, all at once."""
import base64
import os
import pathlib
import threading
import time

import requests

POLL_S = 0.5


class Client:
    def __init__(self, url, folder, poll_s=POLL_S):
        self.url, self.folder, self.poll_s = url, pathlib.Path(folder), poll_s
        self.labels, self.errors, self.task_ids, self.refused = {}, {}, {}, {}
        self.replies = {}  # the last of each picture
        for name in ("results", "timeline_plots"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def run(self, pictures):
        """{file name: bytes}; returns when every thread has ended."""
        threads = [threading.Thread(target=self.process, args=item) for item in pictures.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def process(self, file_name, data):
        if self.send(file_name, data):
            self.poll(file_name)

    def send(self, file_name, data):
        body = {"image_data": base64.b64encode(data).decode("utf-8"), "file_name": file_name}
        response = requests.post(f"{self.url}/process", json=body, timeout=10)
        reply = response.json()
        if not reply.get("success"):
            self.refused[file_name] = response
            return False
        self.task_ids[file_name] = reply["task_id"]
        return True

    def poll(self, file_name):
        """Until success or error is truthy, whatever happens: a 404, a 5xx and no connection are tried again."""
        while True:
            try:
                response = requests.get(f"{self.url}/status/{self.task_ids[file_name]}", timeout=10)
                response.raise_for_status()
            except requests.RequestException:
                time.sleep(2 * self.poll_s)
                continue
            reply = response.json()
            if reply.get("success") or reply.get("error"):
                return self.save(file_name, reply)
            time.sleep(self.poll_s)

    def save(self, file_name, reply):
        self.replies[file_name] = reply
        picture = base64.b64decode(reply["processed_image_data"])  # a key that is missing ends the thread
        if reply["success"]:
            self.labels[file_name] = reply["response"]["label"]
            (self.folder / "results" / f"processed_{file_name}").write_bytes(picture)
        else:
            self.errors[file_name] = reply["error"]
        if reply.get("timeline_plot_image"):
            name = os.path.basename(reply["timeline_plot_filename"])
            (self.folder / "timeline_plots" / f"{self.task_ids[file_name]}_{name}").write_bytes(
                base64.b64decode(reply["timeline_plot_image"]))
