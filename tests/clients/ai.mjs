// The AI SDK makes an image, unmodified. Prints its type and size as JSON.
import { createReplicate } from "@ai-sdk/replicate";
import { generateImage } from "ai";

const replicate = createReplicate({
  apiToken: process.env.REPLICATE_API_TOKEN,
  baseURL: process.env.REPLICATE_BASE_URL + "/v1",
});
const model = replicate.image(process.argv[2]);
const { image } = await generateImage({ model, prompt: "a lighthouse", aspectRatio: "3:2", maxRetries: 0 });
console.log(JSON.stringify({ type: image.mediaType, size: image.uint8Array.length }));
