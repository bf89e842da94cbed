"""Puts command lines through gcloud's own argument parser, and service YAML through its own message types, in one
process and without a network. Runs on the Python that the Cloud SDK brings along:

    python3 gcloud_grammar.py SDK_ROOT <<<'{"lines": [["run", "deploy", …], …], "services": ["x.yaml"]}'

prints a JSON list of what is wrong: [[line or file, message], …].
"""
import contextlib
import io
import json
import sys

sdk = sys.argv[1]
sys.path[:0] = [sdk + "/lib", sdk + "/lib/third_party"]

# pylint: disable=import-error,wrong-import-position
from googlecloudsdk import gcloud_main
from googlecloudsdk.api_lib.util import apis
from googlecloudsdk.api_lib.util import messages as messages_util
from googlecloudsdk.core import yaml


def parse(parser, line):
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            parser.parse_args(line)
    except SystemExit as stopped:  # an error, or --help
        if stopped.code:
            return output.getvalue()
    return None


def check_service(path):
    kind = apis.GetMessagesModule("run", "v1").Service
    try:
        messages_util.DictToMessageWithErrorCheck(yaml.load_path(path), kind)
    except messages_util.DecodeError as error:
        return str(error)
    return None


# what parses the arguments is private to the object that runs them
the_parser = next(value for name, value in vars(gcloud_main.CreateCLI([])).items() if name.endswith("__parser"))
asked = json.load(sys.stdin)
wrong = []
for words in asked["lines"]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        usage = parse(the_parser, words)
    if usage is not None:
        wrong.append([words, usage[:300]])
for name in asked["services"]:
    message = check_service(name)
    if message:
        wrong.append([name, message])
json.dump(wrong, sys.stdout)
