// A client as a worker: `mockserver check --worker -- node worker.mjs` keeps it running.
// It reads a line of JSON for each call, and prints a line of JSON when the call has ended.
import { createInterface } from 'node:readline'

// The picture's URL. Whatever goes wrong is thrown: that is legal, paying twice or lying is not.
async function makePicture({ base_url, token, model, input }) {
  const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' }

  async function api(path, options) {
    const response = await fetch(`${base_url}/v1${path}`, { headers, ...options })
    if (!response.ok) throw new Error(`status ${response.status}`)
    return response.json()
  }

  let prediction = await api(`/models/${model}/predictions`, { method: 'POST', body: JSON.stringify({ input }) })
  while (['starting', 'processing'].includes(prediction.status)) {
    await new Promise((resolve) => setTimeout(resolve, 50))
    prediction = await api(`/predictions/${prediction.id}`)
  }
  if (prediction.status !== 'succeeded' || !prediction.output) {
    throw new Error(`the prediction ${prediction.status}: ${prediction.error}`)
  }
  return prediction.output
}

async function answer({ id, ...call }) {
  try {
    console.log(JSON.stringify({ id, output: await makePicture(call) }))
  } catch (error) {
    console.log(JSON.stringify({ id, error: error.message }))
  }
}

// Not awaited: with --concurrent, several calls are to be made at once. Each result carries the id of its call.
createInterface({ input: process.stdin }).on('line', (line) => answer(JSON.parse(line)))
