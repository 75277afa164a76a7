// The clients of docs/findings.md that are npm packages, unmodified, as workers: node worker.mjs NAME
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

// The AI SDK fetches nothing from a private address but its base URL. So it knows the double by another name.
const named = (text) => text.replaceAll('//127.0.0.1:', '//double.test:')
async function fetchByName(url, options) {
  const response = await fetch(String(url).replace('//double.test:', '//127.0.0.1:'), options)
  if (!response.headers.get('content-type')?.includes('json')) return response
  let text = ''
  const rename = new TransformStream({
    transform: (chunk) => void (text += chunk),
    flush: (controller) => controller.enqueue(named(text)),
  })
  const decoded = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(rename)
  return new Response(decoded.pipeThrough(new TextEncoderStream()), response)
}

const CLIENTS = {
  async '@ai-sdk/replicate'() {
    const { createReplicate } = await import('@ai-sdk/replicate')
    const { generateImage } = await import('ai')
    return async (call) => {
      const replicate = createReplicate({ apiToken: call.token, baseURL: named(`${call.base_url}/v1`), fetch: fetchByName })
      const { prompt, aspect_ratio: aspectRatio, seed, ...others } = call.input
      const model = replicate.image(call.model)
      const made = await generateImage({ model, prompt, aspectRatio, seed, providerOptions: { replicate: others } })
      return `data:image/jpeg;base64,${made.image.base64}`
    }
  },
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
  // An MCP server, used as an agent would use it: create, and get until the end. It knows one token, so each call has its own.
  async 'replicate-mcp'() {
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js')
    const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js')
    const server = createRequire(import.meta.url).resolve('replicate-mcp')
    return async (call) => {
      const env = { ...process.env, REPLICATE_BASE_URL: `${call.base_url}/v1`, REPLICATE_API_TOKEN: call.token }
      const agent = new Client({ name: 'agent', version: '1.0.0' })
      await agent.connect(new StdioClientTransport({ command: process.execPath, args: [server], env, stderr: 'ignore' }))
      async function use(name, args) {
        const { content, isError } = await agent.callTool({ name, arguments: args })
        if (isError) throw new Error(content[0].text)
        return JSON.parse(content[0].text)
      }
      try {
        const [model_owner, model_name] = call.model.split('/')
        let prediction = await use('create_models_predictions', { model_owner, model_name, input: call.input })
        while (['starting', 'processing'].includes(prediction.status)) {
          await sleep(100)
          prediction = await use('get_predictions', { prediction_id: prediction.id })
        }
        if (prediction.status !== 'succeeded') throw new Error(prediction.error ?? prediction.status)
        return prediction.output
      } finally {
        agent.close() // it ends when its connections have
      }
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
