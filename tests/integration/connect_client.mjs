// Connect's own client for node, over each of its transports: node connect_client.mjs PREPROCESS CLASSIFY DESCRIPTORS PICTURE
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import assert from "node:assert/strict";

// packages are looked for where the test was told, not beside this file
const require = createRequire(process.cwd() + "/");
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { fromBinary, createFileRegistry } = await load("@bufbuild/protobuf");
const { FileDescriptorSetSchema } = await load("@bufbuild/protobuf/wkt");
const { createClient, Code, ConnectError } = await load("@connectrpc/connect");
const transports = await load("@connectrpc/connect-node");

const [preprocess, classify, descriptors, picture] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
const image = readFileSync(picture);

async function refused(code, call) {
    const why = await call.then(() => assert.fail("no error"), (error) => ConnectError.from(error));
    assert.equal(why.code, code, why.message);
    return why.rawMessage;
}

async function check(kind, options) {
    const transport = (baseUrl) => transports[`create${kind}Transport`]({ baseUrl, useBinaryFormat: true, ...options });
    const client = (service, at) => createClient(registry.getService(service), transport(at));
    const images = client("darkroom.v1.Images", preprocess);
    const labels = client("darkroom.v1.Labels", classify);

    assert.equal((await client("grpc.health.v1.Health", preprocess).check({})).status, 1);
    assert.equal((await images.transform({ image, options: { width: "20", format: "png" } })).contentType, "image/png");
    const large = await images.transform({ image, options: { width: "900", format: "png" } });
    assert(large.image.length > 100000);
    assert.equal((await images.preprocess({ image })).id.length, 64);
    assert.equal((await labels.classify({ source: { case: "image", value: image }, topK: 3 })).labels.length, 3);

    assert.equal(await refused(Code.InvalidArgument, images.transform({ image, options: { "50%ü": "1" } })), "50%ü: no such option");
    await refused(Code.InvalidArgument, images.transform({ image: new Uint8Array(9) }));
    await refused(Code.ResourceExhausted, images.transform({ image: new Uint8Array(33 << 20) }));
    await refused(Code.PermissionDenied, labels.classify({ source: { case: "gcsPath", value: "s3://elsewhere/x" } }));
    await refused(Code.NotFound, client("grpc.health.v1.Health", preprocess).check({ service: "none" }));
    await refused(Code.Unimplemented, client("darkroom.v1.Labels", preprocess).classify({}));
    // the client ends the call itself, or the service refuses to begin it: either way in time
    await refused(Code.DeadlineExceeded, images.transform({ image, options: { median: "15", width: "900" } }, { timeoutMs: 1 }));
}

const { compressionGzip } = transports;
for (const kind of ["Connect", "GrpcWeb", "Grpc"]) {
    for (const httpVersion of kind === "Grpc" ? ["2"] : ["1.1", "2"]) {
        for (const sendCompression of [undefined, compressionGzip]) {
            await check(kind, { httpVersion, sendCompression }).catch((error) => {
                console.error(kind, httpVersion, sendCompression?.name);
                throw error;
            });
        }
    }
}
console.log("done");
process.exit(0); // connections are kept open
