"""Clients of the older image service, as its facts describe them: what each puts into a message, the order of
its calls, how it reads the reply, and what its channel takes. Each is a class; `work` is what its main does."""
import base64
import io

import grpc
import numpy as np
from PIL import Image

MIB = 1 << 20


def png_or_jpeg(picture, kind):
    out = io.BytesIO()
    picture.save(out, kind)
    return out.getvalue()


class Client:
    """Pillow: the file in its own format, `color` by its mode; turns it, then smooths it."""
    options, compression = {}, None
    order = ("rotate", "mean")

    def __init__(self, channel, messages):
        self.messages = messages
        self.rotate_image = channel.unary_unary(
            "/NLImageService/RotateImage", messages.NLImageRotateRequest.SerializeToString, messages.NLImage.FromString)
        self.mean_filter = channel.unary_unary(
            "/NLImageService/MeanFilter", messages.NLImage.SerializeToString, messages.NLImage.FromString)

    def encode(self, file):
        picture = Image.open(io.BytesIO(file))
        return {"data": png_or_jpeg(picture, picture.format), "color": picture.mode == "RGB",
                "width": picture.width, "height": picture.height}

    def decode(self, reply):
        """The pixels."""
        return np.asarray(Image.open(io.BytesIO(reply.data)))

    def again(self, reply):
        """What the second call sends."""
        return reply

    def work(self, file, rotation, timeout=60):
        image = self.messages.NLImage(**self.encode(file))
        for call in self.order:
            if call == "rotate":
                reply = self.rotate_image(self.messages.NLImageRotateRequest(rotation=rotation, image=image),
                                          timeout=timeout, compression=self.compression)
            else:
                reply = self.mean_filter(image, timeout=timeout, compression=self.compression)
            image = self.again(reply)
        return self.decode(reply), reply


class ReloadsFromDisk(Client):
    """Saves the turned picture, and loads it again before it is smoothed."""

    def again(self, reply):
        return self.messages.NLImage(**self.encode(reply.data))


class ColourByContent(Client):
    """Says no colour when the channels have equal sums; waits for the channel before any call."""

    def encode(self, file):
        fields = super().encode(file)
        sums = np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).sum(axis=(0, 1))
        return fields | {"color": len(set(sums.tolist())) > 1}


class FileVerbatim(Client):
    """The file as it is, always colour, never a size."""

    def encode(self, file):
        return {"data": file, "color": True}

    def again(self, reply):
        return self.messages.NLImage(data=reply.data, color=True)


class MeanFirst(Client):
    """Smooths, then turns; no data is its error; 512 MiB both ways."""
    order = ("mean", "rotate")
    options = {"grpc.max_receive_message_length": 512 * MIB, "grpc.max_send_message_length": 512 * MIB}

    def decode(self, reply):
        assert reply.data, "the client takes this for an error"
        return super().decode(reply)


class RawByContent(Client):
    """Raw RGB, or one byte a pixel when all channels are equal."""
    options = {"grpc.max_receive_message_length": 100_000_000}

    def encode(self, file):
        pixels = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
        color = not (pixels == pixels[:, :, :1]).all()
        return {"data": (pixels if color else pixels[:, :, 0]).tobytes(), "color": color,
                "width": pixels.shape[1], "height": pixels.shape[0]}

    def decode(self, reply):
        assert reply.width > 0, "the client takes this for an error"
        shape = (reply.height, reply.width, 3) if reply.color else (reply.height, reply.width)
        return np.frombuffer(reply.data, np.uint8).reshape(shape)


class RawColour(RawByContent):
    """Raw RGB, always colour; smooths, then turns."""
    order, options = ("mean", "rotate"), {}

    def encode(self, file):
        pixels = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
        return {"data": pixels.tobytes(), "color": True, "width": pixels.shape[1], "height": pixels.shape[0]}


class RawColourUnfilled(RawColour):
    """Its last row and column stay zero."""

    def encode(self, file):
        fields = super().encode(file)
        pixels = np.frombuffer(fields["data"], np.uint8).reshape(fields["height"], fields["width"], 3).copy()
        pixels[-1], pixels[:, -1] = 0, 0
        return fields | {"data": pixels.tobytes()}


class RawBgrPacked(RawColour):
    """Raw BGR; messages are packed with gzip."""
    order = ("rotate", "mean")
    compression = grpc.Compression.Gzip
    options = {"grpc.max_receive_message_length": 50 * MIB, "grpc.max_send_message_length": 50 * MIB}

    def encode(self, file):
        fields = super().encode(file)
        pixels = np.frombuffer(fields["data"], np.uint8).reshape(fields["height"], fields["width"], 3)
        return fields | {"data": pixels[:, :, ::-1].tobytes()}

    def decode(self, reply):
        return super().decode(reply)[:, :, ::-1]


class Base64Text(Client):
    """The text of the file."""

    def encode(self, file):
        return super().encode(file) | {"data": base64.b64encode(file)}

    def decode(self, reply):
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(reply.data, validate=True))))


CLIENTS = [Client, ReloadsFromDisk, ColourByContent, FileVerbatim, MeanFirst, RawByContent, RawColour,
           RawColourUnfilled, RawBgrPacked, Base64Text]
