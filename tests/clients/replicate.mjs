// One program a feature of the official npm client, unmodified. Prints what it came to as JSON.
import Replicate, { validateWebhook } from "replicate";

const MODEL = "black-forest-labs/flux-kontext-max";
const input = { prompt: "a lighthouse" };
const replicate = new Replicate({
  auth: process.env.REPLICATE_API_TOKEN,
  baseUrl: process.env.REPLICATE_BASE_URL + "/v1",
  userAgent: "replicate-javascript/1.4.0",
});

const programs = {
  async run() {
    return { output: String(await replicate.run(MODEL, { input })) };
  },
  async file() {
    const output = await replicate.run(MODEL, { input });
    const picture = await output.blob();
    return { url: String(output.url()), size: picture.size };
  },
  async poll() {
    const seen = [];
    const wait = { mode: "poll", interval: 1 };
    const output = await replicate.run(MODEL, { input, wait }, (prediction) => seen.push(prediction.status));
    return { output: String(output), seen };
  },
  async failed() {
    return replicate.run(MODEL, { input }).then(() => ({}), (error) => ({ error: error.message }));
  },
  async stream() {
    const seen = [];
    for await (const event of replicate.stream(MODEL, { input })) seen.push([event.event, event.data]);
    return { seen };
  },
  async cancel() {
    const prediction = await replicate.predictions.create({ model: MODEL, input });
    return { status: (await replicate.predictions.cancel(prediction.id)).status };
  },
  async list() {
    for (let number = 0; number < 3; number++) await replicate.predictions.create({ model: MODEL, input });
    const found = [];
    for await (const page of replicate.paginate(replicate.predictions.list)) found.push(...page);
    return { count: found.length };
  },
  async files() {
    const file = await replicate.files.create(new Blob([process.env.PICTURE], { type: "image/png" }), { customer: 7 });
    const listed = await replicate.files.list();
    await replicate.files.delete(file.id);
    return { metadata: file.metadata, listed: listed.results.length };
  },
  async buffer() {
    const output = await replicate.run(MODEL, { input: { ...input, input_image: Buffer.from("a picture") } });
    return { output: String(output) };
  },
  async model() {
    const model = await replicate.models.get(...MODEL.split("/"));
    return { name: `${model.owner}/${model.name}` };
  },
  async webhook() {
    const { key } = await replicate.webhooks.default.secret.get();
    const { headers, body } = JSON.parse(process.env.DELIVERY);
    const request = new Request("http://receiver/", { method: "POST", headers, body });
    const tampered = new Request("http://receiver/", { method: "POST", headers, body: body + " " });
    return { genuine: await validateWebhook(request, key), tampered: await validateWebhook(tampered, key) };
  },
};

console.log(JSON.stringify(await programs[process.argv[2]]()));
