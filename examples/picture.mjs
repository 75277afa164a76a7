// Make a picture with the official npm client and save it.
//
//     npm install replicate
//     REPLICATE_BASE_URL=http://127.0.0.1:3589/replicate REPLICATE_API_TOKEN=any node picture.mjs
import { writeFile } from "node:fs/promises";
import Replicate from "replicate";

const replicate = new Replicate({ baseUrl: process.env.REPLICATE_BASE_URL + "/v1" });
const input = { prompt: "a lighthouse", aspect_ratio: "3:2" };
const output = await replicate.run("black-forest-labs/flux-1.1-pro-ultra", { input });
await writeFile("picture.jpg", (await fetch(output)).body);
console.log("saved", String(output));
