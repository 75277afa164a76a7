// The clients of docs/findings.md that are npm packages, unmodified, as workers: node worker.mjs NAME
import { createInterface } from 'node:readline'

const CLIENTS = {
  async 'replicate-stainless'() {
    const { default: Replicate } = await import('replicate-stainless')
    return async (call) => {
      const replicate = new Replicate({ bearerToken: call.token, baseURL: `${call.base_url}/v1` })
      return replicate.run(call.model, { input: call.input })
    }
  },
  async '@huggingface/inference'() {
    const { InferenceClient } = await import('@huggingface/inference')
    return async (call) => {
      // It knows no base URL: what it sends to its own is led to the double, as a proxy would. What it asks its hub
      // first, who serves a model, is answered here.
      const served = { replicate: { providerId: call.model, status: 'live', task: 'text-to-image' } }
      const fetchThere = (url, options) => {
        if (String(url).startsWith('https://huggingface.co/')) return Response.json({ inferenceProviderMapping: served })
        return fetch(String(url).replace(/^https:\/\/api\.replicate\.com/, call.base_url), options)
      }
      const client = new InferenceClient(call.token)
      const { prompt, ...parameters } = call.input
      return client.textToImage(
        { provider: 'replicate', model: call.model, inputs: prompt, parameters },
        { fetch: fetchThere, outputType: 'url' },
      )
    }
  },
}

const makePicture = await CLIENTS[process.argv[2]]()
for await (const line of createInterface({ input: process.stdin })) {
  let reply
  try {
    const output = await makePicture(JSON.parse(line))
    reply = { output: output?.url ? String(output.url()) : output }
  } catch (error) {
    reply = { error: `${error.name}: ${error.message}` }
  }
  console.log(JSON.stringify(reply))
}
